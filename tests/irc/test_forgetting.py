"""Of whom everything was erased the module knows nothing more, and of all others what it knew."""

from datetime import UTC, datetime

from bridge.networks.irc.connector import IrcConnector
from bridge.networks.irc.names.nicks import Nicks
from bridge.networks.irc.network.banned import STORE_PREFIX, Banned
from bridge.networks.irc.protocol.isupport import Isupport
from bridge.networks.irc.settings import IrcSettings, ServerSettings
from bridge.sdk.ids import RemoteChatId, RemoteUserId, UserId
from bridge.sdk.people import ForgetsPeople
from tests.irc.stores import MemoryStore

LIMITS = Isupport()
ALICE, BEA = UserId("@alice:a.org"), UserId("@bea:a.org")
ROOM, NOW = RemoteChatId("#room"), datetime(2026, 1, 1, tzinfo=UTC)


def erase(store: MemoryStore, person: UserId) -> None:
    """Remove what is about the person, as the core does before it tells the module."""
    for key in [key for key, subject in store.subjects.items() if subject == person]:
        store.rows.pop(key, None)


async def test_a_nick_is_free_again_and_others_keep_theirs() -> None:
    store = MemoryStore()
    nicks = Nicks(store)
    for person in (ALICE, BEA):
        await nicks.assign(person, "", LIMITS)
    await nicks.reserve(ALICE, "wonder", LIMITS)
    erase(store, ALICE)
    for _ in range(2):
        await nicks.forget(ALICE)
    assert list(nicks.owned()) == [(BEA, "bea")]
    await nicks.choose(BEA, "wonder", LIMITS)
    await nicks.choose(BEA, "alice", LIMITS)
    assert not any("alice:" in key for key in store.rows)
    # Who comes back is somebody new.
    assert await nicks.assign(ALICE, "", LIMITS) == "alice_"


async def test_a_nick_that_a_server_took_only_in_part_is_forgotten_too() -> None:
    nicks, short = Nicks(MemoryStore()), Isupport({"NICKLEN": "4"})
    await nicks.choose(ALICE, "wonderland", LIMITS)
    assert await nicks.assign(ALICE, "", short) == "wond"
    await nicks.forget(ALICE)
    assert list(nicks.owned()) == []


async def test_which_bans_mean_somebody_is_forgotten_in_the_store_too() -> None:
    store, banned = MemoryStore(), Banned()
    await banned.load(store, lambda: NOW)
    banned.note(ROOM, "a!*@*", ALICE)
    banned.note(ROOM, "b!*@*", BEA)
    banned.note(ROOM, "c!*@*", RemoteUserId("carl"))
    await banned.behind.write()
    banned.forget_person(ALICE)
    await banned.behind.write()
    assert banned.owner(ROOM, "a!*@*") is None
    assert banned.owner(ROOM, "b!*@*") == BEA
    assert banned.is_about(ROOM, "c!*@*", "carl")
    assert len([key for key in store.rows if key.startswith(STORE_PREFIX)]) == 2


async def test_before_anything_was_read_there_is_nothing_to_forget() -> None:
    settings = IrcSettings(servers=(ServerSettings(host="irc.example.org"),))
    connector = IrcConnector(settings)
    assert isinstance(connector, ForgetsPeople)
    await connector.forget(ALICE)
