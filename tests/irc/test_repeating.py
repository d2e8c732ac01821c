"""Servers that say again by themselves what was said in a channel, to whoever comes in."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from bridge.sdk.events import RemoteMembers, RemoteMessage
from tests.irc.histories import at
from tests.irc.stage import (
    Host,
    Network,
    a_speaker,
    chat,
    listening,
    message,
    running,
    synced,
)
from tests.rigs.inspircd import run_inspircd
from tests.rigs.irc_user import irc_user
from tests.rigs.scripted_irc import scripted_server

CAPABILITIES = "batch message-tags server-time"


@asynccontextmanager
async def there(network: Network) -> AsyncIterator[Host]:
    """Have the relay in #room."""
    relay, host = network.relay()
    async with running(relay):
        await relay.join(chat("#room"))
        await host.wait_for(RemoteMembers)
        yield host


async def test_what_a_channel_remembers_fills_our_absence_once_and_a_new_one_has_no_past() -> None:
    async with run_inspircd() as server, irc_user(server.port, "carl") as carl:
        network = Network(server.port)
        await carl.join("#room")
        carl.say("MODE #room +H 50:1h", "PRIVMSG #room :before there was a bridge")
        await carl.sync()
        async with there(network) as host:
            carl.say("PRIVMSG #room :heard")
            await host.wait_for(RemoteMessage)
            assert host.texts == ["carl: heard"]
        await carl.expect("QUIT")
        alice, _ = network.puppet("Alice")
        async with running(alice):
            carl.say("PRIVMSG #room :one")
            await alice.send(message("#room", "of ours"))
            carl.say("PRIVMSG #room :two")
            await carl.sync()
        async with there(network) as host:
            carl.say("PRIVMSG #room :now")
            await host.wait_until(lambda one: one.texts[-1:] == ["carl: now"])
        assert host.texts == ["carl: one", "carl: two", "carl: now"]
        told = {one.id for one in host.of(RemoteMessage)}
        await carl.expect("QUIT")
        async with there(network) as host:
            carl.say("PRIVMSG #room :then")
            await host.wait_until(lambda one: one.texts[-1:] == ["carl: then"])
        # What was said within the second of the last message heard is known by its id.
        assert {one.id for one in host.of(RemoteMessage)[:-1]} < told


def said(second: int, text: str, more: str = "") -> str:
    return f"@time={at(second)}{more} :bob!b@h PRIVMSG #room :{text}"


async def test_what_is_repeated_later_or_without_an_end_is_not_told_again() -> None:
    async with scripted_server() as server:
        network = Network(server.port)
        async with listening(server, network, capabilities=CAPABILITIES) as (_, host, peer, _):
            peer.say(said(10, "heard", ";msgid=m10"))
            await host.wait_for(RemoteMessage)
        async with listening(server, network, capabilities=CAPABILITIES) as (_, host, peer, _):
            batch = ";batch=h"
            peer.say(
                ":irc.test BATCH +h chathistory #room",
                said(9, "before", batch), said(10, "heard", f"{batch};msgid=m10"),
                said(11, "missed", batch), said(11, "missed, too", f"{batch};msgid=m11"),
                said(12, "now", ";msgid=m12"),
                said(11, "late", batch), ":irc.test BATCH -h",
                ":irc.test BATCH +i chathistory #room", said(13, "again", ";batch=i"),
                ":irc.test BATCH -i",
            )  # fmt: skip
            await synced(peer)
            await host.wait_for(RemoteMessage, 3)
            assert host.texts == ["bob: missed", "bob: missed, too", "bob: now"]


async def test_what_is_said_now_is_not_told_late_however_slow_the_clock_of_a_server() -> None:
    async with scripted_server() as server:
        network = Network(server.port)
        async with listening(server, network, capabilities=CAPABILITIES) as (_, host, peer, _):
            peer.say(
                said(10, "now"), ":irc.test BATCH +p znc.in/playback #room",
                said(9, "before", ";batch=p"), ":irc.test BATCH -p", said(11, "now again"),
            )  # fmt: skip
            heard = await host.wait_for(RemoteMessage, 3)
            assert host.texts == ["bob: now", "bob: before", "bob: now again"]
            assert [one.late for one in heard] == [False, True, False]


async def test_what_a_bouncer_says_again_to_a_person_is_told_late() -> None:
    async with a_speaker(capabilities=CAPABILITIES) as (_, host, peer, _):
        peer.say(
            ":irc.test BATCH +p znc.in/playback Alice",
            f"@time={at(9)};batch=p :bob!b@h PRIVMSG Alice :before", ":irc.test BATCH -p",
            f"@time={at(10)} :bob!b@h PRIVMSG Alice :now",
        )  # fmt: skip
        heard = await host.wait_for(RemoteMessage, 2)
        assert [one.late for one in heard] == [True, False]


def grouped(batch: str, text: str, begins: str = "", lines: str = "") -> tuple[str, ...]:
    """A message of two lines within a group, with tags where it begins or on its lines."""
    return (
        f"@batch={batch}{begins} :bob!b@h BATCH +inner draft/multiline #room",
        *(f"@batch=inner{lines} :bob!b@h PRIVMSG #room :{one}" for one in (text, "and more")),
        ":irc.test BATCH -inner",
    )


async def test_what_is_said_again_in_several_lines_is_told_late_with_its_own_time() -> None:
    capabilities = f"{CAPABILITIES} draft/multiline=max-bytes=4000"
    async with scripted_server() as server:
        network = Network(server.port)
        async with listening(server, network, capabilities=capabilities) as (_, host, peer, _):
            peer.say(said(5, "heard", ";msgid=m5"))
            await host.wait_for(RemoteMessage)
        async with listening(server, network, capabilities=capabilities) as (_, host, peer, _):
            peer.say(
                ":irc.test BATCH +h chathistory #room",
                *grouped("h", "missed", begins=f";time={at(8)};msgid=m8"),
                ":irc.test BATCH -h", ":irc.test BATCH +p znc.in/playback #room",
                *grouped("p", "before", begins=f";time={at(9)}"),
                *grouped("p", "then", lines=f";time={at(10)}"), ":irc.test BATCH -p",
                said(11, "now"),
            )  # fmt: skip
            heard = await host.wait_for(RemoteMessage, 4)
            assert host.texts == [
                f"bob: {one}\nand more" for one in ("missed", "before", "then")
            ] + ["bob: now"]
            assert [one.late for one in heard] == [True, True, True, False]
            assert [one.at.second for one in heard] == [8, 9, 10, 11]
