"""What is kept in memory at once and written behind: what a store has of it in the end."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from bridge.networks.irc.network.banned import Banned
from bridge.networks.irc.network.renamed import Renamed
from bridge.sdk.errors import ModuleNotReady, TemporaryFailure
from bridge.sdk.ids import RemoteChatId
from bridge.sdk.secret import Secret
from tests.irc.stage import (
    NOW,
    WAIT_SECONDS,
    Network,
    a_listener,
    chat,
    listening,
    speaking,
    until,
    user_id,
)
from tests.irc.stores import MemoryStore
from tests.rigs.scripted_irc import scripted_server

ROOM = chat("#room")
MASK = "*!*@203.0.113.9"


class Stuck(MemoryStore):
    """A store that is never done with things of a kind."""

    def __init__(self, prefix: str) -> None:
        super().__init__()
        self.prefix = prefix
        self.began = asyncio.Event()

    async def put(self, key: str, value: bytes, **kept: Any) -> None:
        """Keep a value, but none of that kind."""
        if key.startswith(self.prefix) and self.is_stuck():
            self.began.set()
            await asyncio.Event().wait()
        await super().put(key, value, **kept)

    def is_stuck(self) -> bool:
        """Whether it is not done with the next."""
        return True


class CutOff(Stuck):
    """A store that is never done with the first thing of a kind."""

    def is_stuck(self) -> bool:
        """Whether it is not done with the next."""
        return not self.began.is_set()


@pytest.mark.parametrize(
    ("prefix", "lines"),
    [
        ("banned:", (":bob!b@h MODE #room +b alice!*@*",)),
        ("renamed:", (":{nick}!t@h PART #room :Channel renamed", ":{nick}!t@h JOIN #better")),
    ],
)
async def test_what_is_being_written_as_the_bridge_stops_is_written(
    prefix: str, lines: tuple[str, ...]
) -> None:
    async with scripted_server() as server:
        network = Network(server.port)
        network.store = store = CutOff(prefix)
        async with (
            speaking(server, network),
            listening(server, network, "@bob") as (_, _, peer, _),
        ):
            peer.say(*lines)
            async with asyncio.timeout(WAIT_SECONDS):
                await store.began.wait()
    assert await store.find(prefix)


async def test_a_lost_connection_is_made_again_though_nothing_can_be_stored() -> None:
    async with scripted_server() as server:
        network = Network(server.port)
        network.store = store = Stuck("renamed:")
        async with listening(server, network, "@bob") as (_, _, peer, run):
            peer.say(":{nick}!t@h PART #room :Channel renamed", ":{nick}!t@h JOIN #better")
            async with asyncio.timeout(WAIT_SECONDS):
                await store.began.wait()
            peer.close()
            assert isinstance(await run.wait_for_error(), ModuleNotReady)


async def test_a_key_that_could_not_be_stored_before_the_bridge_stops_is_stored() -> None:
    async with a_listener("@bob") as (_, host, peer, _):
        host.refusals = [TemporaryFailure("The database is away.")]
        peer.say(":bob!b@h MODE #room +k sesame")
        await until(lambda: not host.refusals)
        assert not host.kept
    assert host.kept == {"key:#room": Secret("sesame")}


class Refusing(MemoryStore):
    """A store that takes nothing of a kind."""

    def __init__(self, prefix: str) -> None:
        super().__init__()
        self.prefix = prefix

    async def put(self, key: str, value: bytes, **kept: Any) -> None:
        """Keep a value, but none of that kind."""
        if key.startswith(self.prefix):
            raise TemporaryFailure("The database is away.")
        await super().put(key, value, **kept)


class Busy(MemoryStore):
    """A store that refuses #worst, and during whose first write something else happens."""

    def __init__(self, meanwhile: Callable[[], None]) -> None:
        super().__init__()
        self.meanwhile = meanwhile

    async def put(self, key: str, value: bytes, **kept: Any) -> None:
        """Keep a value, but of #worst."""
        if key == "renamed:#worst":
            raise TemporaryFailure("The database is away.")
        if not self.rows:
            self.meanwhile()
        await super().put(key, value, **kept)


async def test_what_changes_while_it_is_written_is_written_and_nothing_stands_in_its_way() -> None:
    renamed = Renamed()
    store = Busy(lambda: renamed.note(ROOM.id, "#best"))
    await renamed.load(store)
    for room in (RemoteChatId("#worst"), ROOM.id):
        renamed.note(room, "#better")
    with pytest.raises(TemporaryFailure):
        await renamed.behind.write()
    assert store.rows == {"renamed:#room": b"#best"}


async def test_a_key_does_not_wait_behind_bans_that_cannot_be_stored() -> None:
    network, store = Network(0), Refusing("banned:")
    network.store = store
    relay, host = network.relay({"key:#room": Secret("sesame")})
    for one in (relay.network.renamed.load(store), relay.network.banned.load(store, host.now)):
        await one
    for room in (ROOM.id, RemoteChatId("#other")):
        relay.network.banned.note(room, MASK, user_id("Alice"))
        relay.network.renamed.note(room, "#better")
    relay.network.keys.hear(ROOM.id, "sesame2")
    with pytest.raises(TemporaryFailure):
        await relay.network.write()
    assert host.kept == {"key:#room": Secret("sesame2")}
    assert sorted(store.rows) == ["renamed:#other", "renamed:#room"]


async def test_what_is_left_of_a_channel_does_not_wait_for_that_of_others() -> None:
    network, store = Network(0), Refusing("banned:#other ")
    network.store = store
    relay, host = network.relay({"key:#room": Secret("sesame")})
    await relay.network.banned.load(store, host.now)
    for room in (RemoteChatId("#other"), ROOM.id):
        relay.network.banned.note(room, MASK, user_id("Alice"))
    await relay.leave(ROOM, "unbridged")
    assert not host.kept


async def test_bans_are_forgotten_of_a_channel_that_is_unbridged_while_nothing_is_read() -> None:
    network, before, other = Network(0), Banned(), RemoteChatId("#other")
    await before.load(network.store, lambda: NOW)
    for room in (ROOM.id, other):
        before.note(room, MASK, user_id("Alice"))
    await before.behind.write()
    relay, _ = network.relay()
    await relay.leave(ROOM, "unbridged")
    assert [key.partition(" ")[0] for key in network.store.rows] == ["banned:#other"]
    assert relay.network.banned.owner(other, MASK) == user_id("Alice")


class Slow(MemoryStore):
    """A store that has read what there is, and gives it when it may."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = asyncio.Event()
        self.may = asyncio.Event()

    async def find(self, prefix: str) -> Mapping[str, bytes]:
        """Return what began with the prefix when it was asked for."""
        found = await super().find(prefix)
        self.asked.set()
        await self.may.wait()
        return found


async def test_a_person_who_is_erased_while_bans_are_read_is_in_none() -> None:
    store, banned = Slow(), Banned()
    store.rows[f"banned:#room {MASK}"] = user_id("Alice").encode()
    async with asyncio.timeout(WAIT_SECONDS), asyncio.TaskGroup() as tasks:
        loading = tasks.create_task(banned.load(store, lambda: NOW))
        await store.asked.wait()
        store.rows.clear()
        banned.forget_person(user_id("Alice"))
        store.may.set()
        await loading
    assert banned.owner(ROOM.id, MASK) is None
