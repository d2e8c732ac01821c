"""A channel that is called otherwise now: who comes to the old name comes to nobody."""

import asyncio
from collections.abc import Mapping
from functools import partial
from typing import Any

import pytest

from bridge.networks.irc.network.renamed import MOST, Renamed
from bridge.sdk.errors import PermanentFailure, TemporaryFailure
from bridge.sdk.events import RemoteMembers, RemoteMessage, RemoteShutOut
from bridge.sdk.ids import RemoteChatId
from tests.irc.stage import (
    WAIT_SECONDS,
    Host,
    Network,
    a_listener,
    chat,
    list_names,
    listening,
    message,
    refusal,
    refusal_of_join,
    running,
    speaking,
    synced,
    until,
)
from tests.irc.stores import MemoryStore
from tests.rigs.scripted_irc import Peer, scripted_server

CAPABILITY = "draft/channel-rename"
ROOM = chat("#room")
WHY = (
    "#room is called #better now: to have that here, say !trestle unbridge, "
    "then !trestle bridge test #better"
)
BY_ERGO = (":{nick}!t@h PART #Room :Channel renamed: a better name", ":{nick}!t@h JOIN #better")
MOVED = (":{nick}!t@h PART #ROOM :a better name", ":{nick}!t@h JOIN #better * :real name")


def reasons(host: Host) -> list[str]:
    """Why the room was told that the relay is out."""
    return [one.reason for one in host.of(RemoteShutOut) if one.reason]


async def no_more_of_it(peer: Peer) -> None:
    """Check that nobody comes, goes or speaks."""
    heard = len(peer.heard)
    await synced(peer)
    assert not [one for one in peer.heard[heard:] if one.startswith(("JOIN", "PART", "PRIVMSG"))]


@pytest.mark.parametrize(
    ("capabilities", "lines"),
    [
        ("", BY_ERGO),
        ("", (BY_ERGO[0].partition(": a")[0], BY_ERGO[1])),
        (CAPABILITY, (":op!o@h RENAME #room #better :a better name",)),
        (CAPABILITY, (":op!o@h RENAME #ROOM #better",)),
    ],
)
async def test_nobody_comes_back_to_the_old_name_of_a_channel_and_the_room_hears_the_new_one(
    capabilities: str, lines: tuple[str, ...]
) -> None:
    async with scripted_server() as server, asyncio.TaskGroup() as tasks:
        network = Network(server.port, rejoin_seconds=0.05)
        async with listening(server, network, "bob", capabilities) as (relay, host, peer, run):
            puppet, _ = network.puppet("Alice")
            peer.say(*lines, ":bob!b@h PRIVMSG #room :to nobody of ours")
            await peer.expect("PART #better :Not a bridged channel")
            await host.wait_until(lambda one: bool(reasons(one)))
            said = message("#room", "hi")
            async with running(puppet):
                assert await refusal(puppet.send(said)) == WHY
                assert await refusal_of_join(puppet, "#room") == WHY
            for doing in (relay.send(said), relay.join(ROOM), relay.set_topic(ROOM, "new")):
                assert await refusal(doing) == WHY
            with pytest.raises(PermanentFailure, match="is called #better now"):
                relay.check_in(ROOM)
            # Anybody may have made a channel of the old name since.
            peer.say(":eve!e@h INVITE {nick} #room")
            await no_more_of_it(peer)
            peer.reset()
            await run.wait_for_error()
            async with running(relay):
                again = await server.accept()
                await again.welcome(capabilities=capabilities)
                await no_more_of_it(again)
                assert await refusal_of_join(relay, "#room") == WHY
                assert reasons(host) == [WHY]
                # Who means what has the old name now bridges it anew.
                await relay.leave(ROOM, "unbridged")
                joining = tasks.create_task(relay.join(ROOM))
                assert await again.admit() == "#room"
                await joining
                await host.wait_for(RemoteMembers, 2)
        assert len(server.peers) == 2


async def test_a_new_name_is_known_over_a_restart_until_the_room_is_unbridged() -> None:
    async with scripted_server() as server, asyncio.TaskGroup() as tasks:
        network = Network(server.port)
        async with listening(server, network) as (_, host, peer, _):
            peer.say(*BY_ERGO)
            await host.wait_until(lambda one: bool(reasons(one)))
            await until(lambda: network.store.rows.get("renamed:#room") == b"#better")
        for login in (Network.relay, partial(Network.puppet, name="Alice")):
            again = Network(server.port)
            again.store = network.store
            client, _ = login(again)
            async with running(client):
                joining = tasks.create_task(refusal_of_join(client, "#room"))
                peer = await server.accept()
                await peer.welcome()
                assert await joining == WHY
                await no_more_of_it(peer)
        again = Network(server.port)
        again.store = network.store
        client, _ = again.relay()
        # One that has not been connected.
        await client.leave(ROOM, "unbridged")
        assert "renamed:#room" not in network.store.rows
        assert again.connector._network.renamed.find(ROOM.id) is None


def test_of_a_server_that_renames_without_end_no_more_is_kept_than_a_network_has() -> None:
    renamed = Renamed()
    for number in range(MOST + 10):
        renamed.note(RemoteChatId(f"#n{number}"), "#better")
    assert renamed.find(RemoteChatId("#n0")) == "#better"
    assert renamed.find(RemoteChatId(f"#n{MOST}")) is None
    renamed.note(RemoteChatId("#n0"), "#best")
    assert renamed.find(RemoteChatId("#n0")) == "#best"


class Failing(MemoryStore):
    """A store that is away for the first write."""

    is_away = True

    async def put(self, key: str, value: bytes, **more: Any) -> None:
        """Keep a value, but not the first time."""
        if self.is_away:
            self.is_away = False
            raise TemporaryFailure("The database is away.")
        await super().put(key, value, **more)


async def test_what_cannot_be_stored_of_a_new_name_is_stored_later() -> None:
    store, room, renamed = Failing(), ROOM.id, Renamed()
    await renamed.load(store)
    renamed.note(room, "")
    with pytest.raises(TemporaryFailure):
        await renamed.behind.write()
    renamed.note(room, "#better")
    renamed.note(room, "")  # It is known all the same.
    assert renamed.find(room) == "#better"
    async with asyncio.TaskGroup() as tasks:
        writing = tasks.create_task(renamed.behind.keep_writing())
        await until(lambda: store.rows == {"renamed:#room": b"#better"})
        renamed.forget(room)
        await until(lambda: not store.rows)
        writing.cancel()


class Slow(MemoryStore):
    """A store that has read what there is, and gives it when it may."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[asyncio.Event] = []

    async def find(self, prefix: str) -> Mapping[str, bytes]:
        """Return what began with the prefix when it was asked for."""
        found = await super().find(prefix)
        may = asyncio.Event()
        self.asked.append(may)
        await may.wait()
        return found


async def test_a_name_that_is_forgotten_while_the_store_is_read_stays_forgotten() -> None:
    store, room, renamed = Slow(), ROOM.id, Renamed()
    store.rows["renamed:#room"] = b"#better"
    async with asyncio.timeout(WAIT_SECONDS), asyncio.TaskGroup() as tasks:
        loads = [tasks.create_task(renamed.load(store)) for _ in range(2)]
        await until(lambda: len(store.asked) == 2)
        renamed.forget(room)
        store.asked[0].set()
        await loads[0]
        assert renamed.find(room) is None
        await renamed.behind.write()
        assert not store.rows
        store.asked[1].set()
    assert renamed.find(room) is None


async def test_who_is_moved_to_another_channel_comes_back_to_one_that_has_its_name() -> None:
    async with a_listener(rejoin_seconds=0.05) as (relay, host, peer, _):
        peer.say(*MOVED)
        await peer.expect("PART #better :Not a bridged channel")
        assert await peer.admit() == "#room"
        await host.wait_for(RemoteMembers, 2)
        relay.check_in(ROOM)


async def test_where_the_new_name_is_not_told_the_room_hears_that_there_is_one() -> None:
    async with a_listener(rejoin_seconds=0.05) as (relay, host, peer, _):
        peer.say(":{nick}!t@h PART #room :Channel renamed")
        await synced(peer)
        why = WHY.replace("#better now", "otherwise now").replace("#better", "<its new name>")
        assert await refusal(relay.send(message("#room", "hi"))) == why
        assert reasons(host) == [why]
        assert not relay._memberships._returning


async def test_what_becomes_of_a_channel_whose_name_is_only_spelled_otherwise_is_nothing() -> None:
    async with a_listener("bob", CAPABILITY) as (relay, host, peer, _):
        peer.say(":op!o@h RENAME #room #Room :", ":op!o@h RENAME #elsewhere #there :")
        peer.say(":op!o@h RENAME #room", ":op!o@h RENAME #room bob :", ":op!o@h RENAME #room :# a")
        peer.say(":bob!b@h PRIVMSG #Room :still here")
        await host.wait_for(RemoteMessage)
        relay.check_in(ROOM)
        await no_more_of_it(peer)
        assert not reasons(host)


SPELLED = (":{nick}!t@h PART #room :Channel renamed: nicer", ":{nick}!t@h JOIN #Room")


async def test_who_is_had_to_leave_and_to_come_for_another_spelling_is_in_the_channel() -> None:
    async with scripted_server() as server:
        network = Network(server.port, rejoin_seconds=0.05)
        async with (
            listening(server, network) as (relay, host, peer, _),
            speaking(server, network) as (puppet, _, alices, _),
        ):
            for one in (peer, alices):
                one.say(*SPELLED)
                list_names(one, "bob", "#Room")
                await no_more_of_it(one)
            peer.say(":bob!b@h PRIVMSG #Room :still here")
            await host.wait_for(RemoteMessage)
            relay.check_in(ROOM)
            assert puppet._memberships.wanted == [ROOM]
            await puppet.send(message("#room", "me too"))
            await alices.expect("PRIVMSG #room :me too")
            assert alices.heard.count("JOIN #room") == 1
            assert len(host.of(RemoteMembers)) == 2
            assert not reasons(host)
            await network.connector._network.renamed.behind.write()
            assert "renamed:#room" not in network.store.rows


async def test_who_came_in_by_the_old_name_after_all_is_in_the_channel_that_has_it() -> None:
    async with scripted_server() as server, asyncio.TaskGroup() as tasks:
        network = Network(server.port, rejoin_seconds=3600)
        async with (
            listening(server, network) as (_, host, peer, _),
            speaking(server, network) as (puppet, _, alices, _),
        ):
            alices.say(":{nick}!a@h PART #room :made to leave")
            await synced(alices)
            sending = tasks.create_task(puppet.send(message("#room", "back")))
            await alices.expect("JOIN #room")
            peer.say(*BY_ERGO)
            await host.wait_until(lambda one: bool(reasons(one)))
            alices.say(":{nick}!a@h JOIN #room")
            await alices.expect("PRIVMSG #room :back")
            await sending
            assert network.connector._network.renamed.find(ROOM.id) is None


async def test_a_server_that_knows_the_new_name_of_a_channel_is_asked_once() -> None:
    async with scripted_server() as server, asyncio.TaskGroup() as tasks:
        network = Network(server.port, rejoin_seconds=0.05)
        async with listening(server, network, "bob", CAPABILITY) as (relay, host, peer, run):
            peer.reset()
            await run.wait_for_error()
            async with running(relay):
                again = await server.accept()
                await again.welcome(capabilities=CAPABILITY)
                await again.expect("JOIN #room")
                again.say(":irc.test FAIL JOIN CHANNEL_RENAMED #room #better :It is renamed")
                await host.wait_until(lambda one: WHY in reasons(one))
                await no_more_of_it(again)
                assert await refusal(relay.send(message("#room", "hi"))) == WHY
                other = tasks.create_task(refusal_of_join(relay, "#other"))
                await again.expect("JOIN #other")
                again.say(":irc.test FAIL JOIN CHANNEL_RENAMED #other #new :It is renamed")
                why = "#other is called #new now: that can be bridged instead"
                assert await other == why


async def test_what_a_person_says_is_refused_whose_own_connection_heard_the_new_name() -> None:
    async with scripted_server() as server:
        network = Network(server.port)
        async with speaking(server, network, capabilities=CAPABILITY) as (puppet, host, peer, _):
            peer.say(":op!o@h RENAME #room #better :")
            await peer.expect("PART #better")
            assert await refusal(puppet.send(message("#room", "hi"))) == WHY
            assert not puppet._memberships.wanted
            assert not host.of(RemoteShutOut)
