"""A channel in which nothing was said while we were there: our first absence is filled, too."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import pytest

from bridge.networks.irc.client.client import IrcClient
from bridge.networks.irc.network.history import Mark
from bridge.sdk.errors import TemporaryFailure
from bridge.sdk.events import RemoteMembers, RemoteMessage
from tests.irc.histories import CAPABILITIES, ISUPPORT, at
from tests.irc.stage import Host, Network, chat, running, synced, until
from tests.rigs.inspircd import run_inspircd
from tests.rigs.irc_user import irc_user
from tests.rigs.scripted_irc import Peer, ScriptedServer, scripted_server

REPEATING = "batch message-tags server-time"
NO_IDS = ISUPPORT.partition(" MSGREFTYPES")[0]


def said(second: int, text: str, msgid: str = "", batch: str = "") -> str:
    tags = f"time={at(second)}" + (msgid and f";msgid={msgid}") + (batch and f";batch={batch}")
    return f"@{tags} :bob!b@h PRIVMSG #room :{text}"


@asynccontextmanager
async def in_room(
    server: ScriptedServer, network: Network, second: int, capabilities: str = CAPABILITIES,
    isupport: str = ISUPPORT,
) -> AsyncIterator[tuple[IrcClient, Peer, Host]]:  # fmt: skip
    """Have the relay come into #room at a time by the server's clock."""
    relay, host = network.relay()
    async with running(relay) as run, asyncio.TaskGroup() as tasks:
        peer = await server.accept()
        await peer.welcome(isupport, capabilities)
        joined = tasks.create_task(relay.join(chat("#room")))
        await peer.expect("JOIN #room")
        let_in(peer, second)
        await joined
        yield relay, peer, host
        assert not run.ended.is_set()


def let_in(peer: Peer, second: int) -> None:
    peer.say(
        f"@time={at(second)} :{{nick}}!t@h JOIN #room",
        ":irc.test 353 {nick} = #room :{nick} bob",
        ":irc.test 366 {nick} #room :End of names",
    )


def answer(*lines: str) -> list[str]:
    return [":irc.test BATCH +h chathistory #room", *lines, ":irc.test BATCH -h"]


async def test_what_is_said_in_our_first_absence_from_a_quiet_channel_is_told() -> None:
    async with scripted_server() as server:
        network = Network(server.port)
        async with in_room(server, network, 10) as (_, peer, host):
            await synced(peer)
            assert not any(one.startswith("CHATHISTORY") for one in peer.heard)
        async with in_room(server, network, 50) as (_, peer, host):
            asked = await peer.expect("CHATHISTORY")
            assert asked == f"CHATHISTORY AFTER #room timestamp={at(10)} 3"
            peer.say(
                ":irc.test BATCH +h chathistory #room",
                *(said(one, "before there was a bridge", f"m{one}", "h") for one in (9, 10)),
                *(said(one, f"missed {one}", f"m{one}", "h") for one in (11, 12, 13)),
                ":irc.test BATCH -h",
            )
            assert await peer.expect("CHATHISTORY") == "CHATHISTORY AFTER #room msgid=m13 3"
            await host.wait_for(RemoteMessage, 3)
            assert host.texts == ["bob: missed 11", "bob: missed 12", "bob: missed 13"]


async def test_a_kick_from_a_quiet_channel_is_an_absence_too() -> None:
    async with (
        scripted_server() as server,
        in_room(server, Network(server.port, rejoin_seconds=1), 10) as (_, peer, _),
    ):
        peer.say(f"@time={at(12)} :op!o@h KICK #room {{nick}} :out")
        await peer.expect("JOIN #room")
        let_in(peer, 20)
        await peer.expect(f"CHATHISTORY AFTER #room timestamp={at(10)}")


async def test_a_quiet_channel_that_was_left_has_no_past() -> None:
    async with scripted_server() as server:
        network = Network(server.port)
        async with in_room(server, network, 10) as (relay, peer, host):
            await host.wait_for(RemoteMembers)
            await relay.leave(chat("#room"), "unbridged")
            await peer.expect("PART")
            async with asyncio.TaskGroup() as tasks:
                joined = tasks.create_task(relay.join(chat("#room")))
                await peer.expect("JOIN #room")
                let_in(peer, 30)
                await joined
            await synced(peer)
            assert not any(one.startswith("CHATHISTORY") for one in peer.heard)
            await relay.leave(chat("#room"), "unbridged")
        assert not await network.store.find("heard:")


async def test_what_was_heard_before_a_channel_was_left_is_no_mark_on_the_way_back() -> None:
    async with scripted_server() as server, asyncio.TaskGroup() as tasks:
        network = Network(server.port)
        async with in_room(server, network, 10) as (relay, peer, host):
            await host.wait_for(RemoteMembers)
            host.failures += [TemporaryFailure("Busy.", retry_after=0.02)] * 10_000
            peer.say(said(20, "heard", "m20"))
            await synced(peer)
            await relay.leave(chat("#room"), "unbridged")
            joining = tasks.create_task(relay.join(chat("#room")))
            await peer.expect("JOIN #room")
            host.failures.clear()
            await host.wait_for(RemoteMessage)
            joining.cancel()
        assert not await network.store.find("heard:")


@pytest.mark.parametrize("has_ids", [True, False])
async def test_where_the_server_gives_no_ids_nothing_is_noted_and_nothing_told_twice(
    has_ids: bool,
) -> None:
    """Only what it says shows whether it does, where it names no ``MSGREFTYPES``."""
    async with scripted_server() as server:
        network = Network(server.port)
        async with in_room(server, network, 10, isupport=NO_IDS) as (_, peer, host):
            peer.say(f"@time={at(11)}{';msgid=n1' if has_ids else ''} :x!y@z NOTICE {{nick}} :hi")
            await synced(peer)
            await host.wait_for(RemoteMembers)
        assert bool(await network.store.find("heard:")) is has_ids


async def test_what_was_heard_without_an_id_is_not_told_twice() -> None:
    async with scripted_server() as server:
        network = Network(server.port)
        async with in_room(server, network, 10) as (_, peer, host):
            peer.say(said(20, "heard"))
            await host.wait_for(RemoteMessage)
        assert not await network.store.find("heard:")
        async with in_room(server, network, 50) as (_, peer, host):
            peer.say(*answer(said(20, "heard", batch="h")), said(51, "now"))
            await host.wait_for(RemoteMessage)
            await synced(peer)
            assert not any(one.startswith("CHATHISTORY") for one in peer.heard)
            assert host.texts == ["bob: now"]


@pytest.mark.parametrize("is_answered_first", [True, False])
async def test_what_is_said_without_an_id_while_the_past_is_asked_for_is_told_once(
    is_answered_first: bool,
) -> None:
    async with scripted_server() as server:
        network = Network(server.port)
        async with in_room(server, network, 10) as (_, peer, host):
            await synced(peer)
        assert "heard:#room" in network.store.rows
        async with in_room(server, network, 50) as (_, peer, host):
            await peer.expect(f"CHATHISTORY AFTER #room timestamp={at(10)}")
            texts = ["missed", "now"][: 1 if is_answered_first else 2]
            past = answer(*(said(51, one, batch="h") for one in texts))
            live = [said(51, "now")]
            peer.say(*(past + live if is_answered_first else live + past), said(52, "later"))
            told = ["bob: missed"] * is_answered_first + ["bob: now", "bob: later"]
            await host.wait_for(RemoteMessage, len(told))
            await synced(peer)
            assert host.texts == told
            assert sum(one.startswith("CHATHISTORY") for one in peer.heard) == 1
        assert not await network.store.find("heard:")


async def test_where_lines_have_no_tags_nothing_is_noted() -> None:
    async with scripted_server() as server:
        network = Network(server.port)
        async with in_room(server, network, 10, "batch draft/chathistory server-time") as (
            _, peer, host,
        ):  # fmt: skip
            await synced(peer)
            await host.wait_for(RemoteMembers)
        assert not await network.store.find("heard:")


async def test_who_came_without_an_id_is_no_mark_for_the_next_absence() -> None:
    joined = f"@time={at(11)};batch=h :bob!b@h JOIN #room"
    async with scripted_server() as server:
        network = Network(server.port)
        mark = Mark(datetime(2026, 11, 25, 10, 0, 10, tzinfo=UTC), "m10")
        network.store.rows["heard:#room"] = mark.encode()
        playback = f"{CAPABILITIES} draft/event-playback"
        async with in_room(server, network, 50, playback) as (_, peer, host):
            await peer.expect("CHATHISTORY AFTER #room msgid=m10")
            peer.say(*answer(joined))
            await synced(peer)
        async with in_room(server, network, 60, playback) as (_, peer, host):
            await peer.expect("CHATHISTORY AFTER #room msgid=m10")
            peer.say(*answer(joined, said(11, "missed", "m11", "h")))
            await host.wait_for(RemoteMessage)
            assert host.texts == ["bob: missed"]


async def test_of_what_is_repeated_the_second_in_which_we_came_is_not_ours() -> None:
    async with scripted_server() as server:
        network = Network(server.port)
        async with in_room(server, network, 10, REPEATING) as (_, peer, host):
            peer.say(
                ":irc.test BATCH +h chathistory #room", said(9, "before", "m9", "h"),
                ":irc.test BATCH -h", f"@time={at(10)};msgid=n1 :x!y@z NOTICE {{nick}} :hi",
            )  # fmt: skip
            await synced(peer)
        async with in_room(server, network, 50, REPEATING) as (_, peer, host):
            peer.say(
                ":irc.test BATCH +h chathistory #room", said(10, "just before", "m10", "h"),
                said(11, "missed", "m11", "h"), said(11, "missed", "m11", "h"),
                ":irc.test BATCH -h", said(51, "now", "m51"),
            )  # fmt: skip
            await host.wait_until(lambda one: one.texts[-1:] == ["bob: now"])
            assert host.texts == ["bob: missed", "bob: now"]


async def test_inspircd_repeats_what_was_said_in_our_first_absence() -> None:
    async with run_inspircd() as server, irc_user(server.port, "carl") as carl:
        network = Network(server.port)
        await carl.join("#room")
        carl.say("MODE #room +H 50:1h", "PRIVMSG #room :before there was a bridge")
        await carl.sync()
        relay, host = network.relay()
        async with running(relay):
            await relay.join(chat("#room"))
            await host.wait_for(RemoteMembers)
            carl.say("PRIVMSG trestle :this shows that there are ids")
            await carl.expect("NOTICE")
        await carl.expect("QUIT")
        assert "heard:#room" in network.store.rows
        loop = asyncio.get_running_loop()
        later = loop.time() + 1.1  # InspIRCd knows the second alone.
        await until(lambda: loop.time() > later)
        carl.say("PRIVMSG #room :missed")
        await carl.sync()
        relay, host = network.relay()
        async with running(relay):
            await relay.join(chat("#room"))
            carl.say("PRIVMSG #room :now")
            await host.wait_until(lambda one: one.texts[-1:] == ["carl: now"])
        assert host.texts == ["carl: missed", "carl: now"]
