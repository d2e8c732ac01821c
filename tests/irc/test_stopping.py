"""The client when storage is slow, when it stops, and when it is fed rubbish."""

import asyncio
import inspect
from collections.abc import Mapping
from pathlib import Path

from bridge.networks.irc.client.client import IrcClient
from bridge.sdk.errors import (
    LoginRequired,
    ModuleNotReady,
    PermanentFailure,
    TemporaryFailure,
)
from bridge.sdk.events import Receipt, RemoteMessage
from bridge.sdk.login import LoginState
from tests.irc.stage import (
    Network,
    a_listener,
    chat,
    listening,
    message,
    running,
    speaking,
    synced,
)
from tests.irc.stores import MemoryStore
from tests.rigs.scripted_irc import scripted_server


async def test_a_slow_database_keeps_the_order_and_the_connection() -> None:
    async with a_listener() as (_, host, peer, _):
        host.failures = [TemporaryFailure("away", retry_after=0.05)] * 3
        peer.say(":bob!b@h PRIVMSG #room :one", ":bob!b@h PRIVMSG #room :two")
        await synced(peer)
        await host.wait_for(RemoteMessage, 2)
        host.failures = [PermanentFailure("too large")]
        peer.say(":bob!b@h PRIVMSG #room :refused", ":bob!b@h PRIVMSG #room :three")
        await host.wait_for(RemoteMessage, 3)
    assert host.texts == ["bob: one", "bob: two", "bob: three"]


class AwayStore(MemoryStore):
    """Of a database that is away."""

    async def find(self, prefix: str) -> Mapping[str, bytes]:
        """Fail."""
        raise TemporaryFailure("the database is away")


async def test_without_the_database_a_connection_is_made_later_and_nothing_has_crashed() -> None:
    network = Network(1)
    network.store = AwayStore()
    relay, _ = network.relay()
    async with running(relay) as run:
        error = await run.wait_for_error()
    assert isinstance(error, ModuleNotReady)
    assert str(error) == "the database is away"


async def test_what_is_too_long_to_sign_in_with_is_for_a_person_to_change() -> None:
    async with scripted_server() as server:
        relay, _ = Network(server.port, password="x" * 600).relay()
        async with running(relay) as run:
            error = await run.wait_for_error()
    assert isinstance(error, LoginRequired)
    assert str(error) == (
        f"127.0.0.1:{server.port} cannot be signed in to so: A line of PASS has 607 bytes; the "
        "server takes 512."
    )


async def test_what_was_read_before_the_stop_is_still_stored() -> None:
    async with a_listener() as (_, host, peer, _):
        host.failures = [TemporaryFailure("away", retry_after=30)]
        peer.say(":bob!b@h PRIVMSG #room :one", ":bob!b@h PRIVMSG #room :two")
        await synced(peer)
    assert host.texts == ["bob: one", "bob: two"]


async def test_rubbish_ends_the_connection_with_a_sentence_at_worst() -> None:
    async with a_listener() as (_, host, peer, run):
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


async def test_what_is_stopped_while_the_connection_is_made_is_not_said() -> None:
    async with scripted_server() as server, asyncio.TaskGroup() as tasks:
        alice, host = Network(server.port).puppet("Alice")
        async with running(alice):
            await host.wait_until(lambda one: bool(one.states))
            said = message("#room", "a slip")
            sending = tasks.create_task(alice.send(said))
            peer = await server.accept()
            assert alice.stop_sending(said.event_id)
            await peer.welcome()
            await peer.admit()
            assert await sending == Receipt()
            assert not alice.stop_sending(said.event_id)
            await alice.send(message("#room", "well"))
            assert await peer.expect("PRIVMSG") == "PRIVMSG #room :well"


async def test_leaving_parts_and_hears_no_more() -> None:
    async with a_listener() as (relay, host, peer, _):
        await relay.leave(chat("#room"), "unbridged\r\nQUIT")
        await peer.expect("PART #room :unbridged  QUIT")
        peer.say(":bob!b@h PRIVMSG #room :anybody?")
        await synced(peer)
        assert not host.texts


async def test_a_server_that_keeps_a_connection_that_we_end_is_left() -> None:
    async with (
        scripted_server() as server,
        speaking(server, Network(server.port)) as (alice, host, peer, run),
    ):
        peer.stays = True
        alice.reconnect("Comes back with another name")
        assert await peer.expect("QUIT") == "QUIT :Comes back with another name"
        again = await server.accept()
        await again.welcome()
        assert await again.admit() == "#room"
        await peer.ended.wait()
        assert not run.ended.is_set()
        assert LoginState.RECONNECTING not in dict(host.states)


def tasks_of_irc() -> set[str]:
    """What the module's tasks do that are at work now, by the names of their functions."""
    codes = [getattr(one.get_coro(), "cr_code", None) for one in asyncio.all_tasks()]
    home = Path(inspect.getfile(IrcClient)).parents[1]
    return {one.co_qualname for one in codes if one and home in Path(one.co_filename).parents}


async def test_a_connection_that_only_speaks_has_no_task_for_what_the_relay_does() -> None:
    async with scripted_server() as server:
        network = Network(server.port)
        async with listening(server, network):
            # It sees them: these are the relay's for as long as it is connected.
            lasting = {
                "Inbox.work", "Desk.work", "Ears.end_splits", "Ears.release_late",
                "Marks.keep_writing",
            }  # fmt: skip
            assert lasting <= tasks_of_irc()
        async with speaking(server, network):
            # Until it is in its channels there is one more, or another for a channel.
            passing = {"IrcClient._settle", "Memberships._return"}
            assert tasks_of_irc() - passing == {"Inbox.work"}
