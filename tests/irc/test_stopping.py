"""The client when storage is slow, when it stops, and when it is fed rubbish."""

from bridge.sdk.errors import (
    ModuleNotReady,
    PermanentFailure,
    TemporaryFailure,
)
from bridge.sdk.events import (
    RemoteMessage,
)
from tests.irc.stage import Network, chat
from tests.irc.test_client import listening, synced
from tests.rigs.scripted_irc import scripted_server


async def test_a_slow_database_keeps_the_order_and_the_connection() -> None:
    async with (
        scripted_server() as server,
        listening(server, Network(server.port)) as (_, host, peer, _),
    ):
        host.failures = [TemporaryFailure("away", retry_after=0.05)] * 3
        peer.say(":bob!b@h PRIVMSG #room :one", ":bob!b@h PRIVMSG #room :two")
        await synced(peer)
        await host.wait_for(RemoteMessage, 2)
        host.failures = [PermanentFailure("too large")]
        peer.say(":bob!b@h PRIVMSG #room :refused", ":bob!b@h PRIVMSG #room :three")
        await host.wait_for(RemoteMessage, 3)
    assert host.texts == ["bob: one", "bob: two", "bob: three"]


async def test_what_was_read_before_the_stop_is_still_stored() -> None:
    async with (
        scripted_server() as server,
        listening(server, Network(server.port)) as (_, host, peer, _),
    ):
        host.failures = [TemporaryFailure("away", retry_after=30)]
        peer.say(":bob!b@h PRIVMSG #room :one", ":bob!b@h PRIVMSG #room :two")
        await synced(peer)
    assert host.texts == ["bob: one", "bob: two"]


async def test_rubbish_ends_the_connection_with_a_sentence_at_worst() -> None:
    async with (
        scripted_server() as server,
        listening(server, Network(server.port)) as (_, host, peer, run),
    ):
        peer.say_bytes(
            b"\xff\xfe\0\x01 \r\n: \r\n@\r\n:x KICK\r\nNICK\r\n:a JOIN\r\n353\r\n366\r\n"
        )
        peer.say_bytes(
            b":bob!b@h PRIVMSG #room :caf\xe9\r\n" + b"MODE\r\n:b QUIT\r\n474\r\n404\r\n"
        )
        await host.wait_for(RemoteMessage)
        assert host.texts == ["bob: café"]
        peer.say_bytes(b"x" * 40_000)
        error = await run.wait_for_error()
        assert isinstance(error, ModuleNotReady)
        assert "a line of over 16384 bytes" in str(error)


async def test_leaving_parts_and_hears_no_more() -> None:
    async with (
        scripted_server() as server,
        listening(server, Network(server.port)) as (relay, host, peer, _),
    ):
        await relay.leave(chat("#room"), "unbridged\r\nQUIT")
        await peer.expect("PART #room :unbridged  QUIT")
        peer.say(":bob!b@h PRIVMSG #room :anybody?")
        await synced(peer)
        assert not host.texts
