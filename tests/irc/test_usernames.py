"""Each Matrix user has one user name (ident), each user name one user; no ban is got round."""

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.networks.irc.channels.formerly import is_of_former
from bridge.networks.irc.names.nicks import Nicks
from bridge.networks.irc.names.usernames import MOST_NAMES, STORE_PREFIX, Usernames, as_seen
from bridge.networks.irc.network.network import Network as IrcNetwork
from bridge.networks.irc.protocol.isupport import Isupport
from bridge.networks.irc.settings import IrcSettings, ServerSettings
from bridge.networks.irc.wire import Source
from bridge.sdk.errors import PermanentFailure, TemporaryFailure
from bridge.sdk.ids import UserId
from tests.irc.commands import Person
from tests.irc.stage import Network, running
from tests.irc.stores import MemoryStore
from tests.rigs.scale import examples
from tests.rigs.scripted_irc import scripted_server

LIMITS = Isupport()
ALICE, EVIL = UserId("@alice:a.org"), UserId("@alice:evil.org")
DOTTED = UserId("@a.lice:a.org")


def names_in(store: MemoryStore) -> Usernames:
    return Usernames(store, Nicks(store), "trestle")


async def test_people_who_are_called_alike_are_told_apart_for_good() -> None:
    store = MemoryStore()
    names = names_in(store)
    long = [UserId(f"@longusername{number}:a.org") for number in (1, 2)]
    people = (ALICE, EVIL, DOTTED, *long, UserId("@Trestle:a.org"))
    given_out = [await names.assign(one, LIMITS) for one in people]
    assert given_out == ["alice", "alice_", "alice__", "longuserna", "longuser_", "trestle_"]
    again = names_in(store)
    assert [await again.assign(one, LIMITS) for one in reversed(people)] == given_out[::-1]
    assert set(store.subjects) == {f"username:{one}" for one in people}
    assert store.subjects[f"username:{EVIL}"] == EVIL


async def test_who_came_before_names_were_kept_keeps_the_own() -> None:
    store = MemoryStore()
    store.rows |= {f"nick:{ALICE}": b"Alice"}
    assert await names_in(store).assign(EVIL, LIMITS) == "alice_"
    assert await names_in(store).assign(ALICE, LIMITS) == "alice"


@examples(60)
@given(st.lists(st.text(max_size=14), max_size=25), st.integers(1, 32))
async def test_users_and_user_names_are_one_to_one(parts: list[str], length: int) -> None:
    limits = Isupport().with_tokens([f"USERLEN={length}"])
    store = MemoryStore()
    names = names_in(store)
    users = {UserId(f"@{part}:example.org") for part in parts}
    given_out = {user: await names.assign(user, limits) for user in users}
    assert len({as_seen(name, limits) for name in given_out.values()}) == len(users)
    again = names_in(store)
    assert {user: await again.assign(user, limits) for user in users} == given_out


async def test_names_that_a_shorter_limit_makes_one_are_told_apart() -> None:
    names, short = names_in(MemoryStore()), Isupport().with_tokens(["USERLEN=6"])
    bob, other = UserId("@bobbo1:x"), UserId("@bobbo2:x")
    assert [await names.assign(one, LIMITS) for one in (bob, other)] == ["bobbo1", "bobbo2"]
    assert [await names.assign(one, short) for one in (bob, other)] == ["bobbo1", "bobb_"]


async def test_a_user_name_is_changed_once_a_day_and_the_former_stays_the_users() -> None:
    store = MemoryStore()
    names = names_in(store)
    assert await names.assign(ALICE, LIMITS) == "alice"
    assert await names.change(ALICE, "alice", LIMITS) == "alice"
    assert await names.change(ALICE, "wonder", LIMITS) == "wonder"
    with pytest.raises(PermanentFailure, match="once a day"):
        await names.change(ALICE, "", LIMITS)
    for taken in ("alice", "wonder", "trestle"):
        with pytest.raises(PermanentFailure, match="somebody else"):
            await names.change(EVIL, taken, LIMITS)
    assert await names.assign(EVIL, LIMITS) == "alice_"
    again = names_in(store)
    assert await again.assign(ALICE, LIMITS) == "wonder"
    assert again.former(ALICE) == ("alice",)
    store.rows.pop(f"username-changed:{ALICE}")  # A day later.
    assert await again.change(ALICE, "", LIMITS) == "alice"


class FailingStore(MemoryStore):
    """Of a database that is away for a moment."""

    fails = False

    async def put(self, key: str, value: bytes, **terms: Any) -> None:
        """Fail where a name is to be kept, if so."""
        if self.fails and key.startswith(STORE_PREFIX):
            raise TemporaryFailure("the database is away")
        await super().put(key, value, **terms)


async def test_a_change_that_could_not_be_stored_is_not_the_one_of_the_day() -> None:
    store = FailingStore()
    names = names_in(store)
    await names.assign(ALICE, LIMITS)
    store.fails = True
    with pytest.raises(TemporaryFailure):
        await names.change(ALICE, "wonder", LIMITS)
    store.fails = False
    assert await names.change(ALICE, "wonder", LIMITS) == "wonder"


async def test_names_come_to_an_end() -> None:
    store = MemoryStore()
    names = names_in(store)
    for number in range(MOST_NAMES):
        await names.change(ALICE, f"name{number}", LIMITS)
        store.rows.pop(f"username-changed:{ALICE}")
    with pytest.raises(PermanentFailure, match="10 user names; there are no more"):
        await names.change(ALICE, "one_more", LIMITS)
    assert await names.change(ALICE, "name3", LIMITS) == "name3"


@pytest.mark.parametrize(
    ("mask", "is_hit"),
    [
        ("*!alice@*", True), ("*!~Alice@*", True), ("*!*ali?e@client.test", True),
        ("m:*!alice@*", True), ("ann!alice@*", True), ("*!~longusern@*", True),
        ("*!*@client.test", False), ("*!~*@*", False), ("*!alice@other.test", False),
        ("carl!alice@*", False), ("*!alicia@*", False), ("$a:alice", False), ("", False),
    ],
)  # fmt: skip
def test_a_ban_of_a_former_user_name_is_known(mask: str, is_hit: bool) -> None:
    own = Source("Ann", "~wonder", "client.test")
    assert is_of_former(mask, own, ["longuserna", "alice"], LIMITS) is is_hit


async def test_one_of_ours_is_banned_by_user_name_and_not_with_all_others() -> None:
    server = ServerSettings(host="irc.test", port=6697)
    network = IrcNetwork(IrcSettings(servers=(server,)))
    ann, carl = Source("ann", "~ann", "bridge.test"), Source("carl", "~carl", "far.test")
    network.hold(1, ann)
    masks = [network.mask_of(one) for one in (ann, carl, Source("gone"))]
    assert masks == ["*!~ann@bridge.test", "*!*@far.test", "gone!*@*"]


async def test_whom_the_network_bans_gets_no_other_user_name() -> None:
    async with scripted_server() as server:
        network = Network(server.port)
        relay, _ = network.relay()
        ann = Person(network, "Ann", relay)
        async with running(ann.client), asyncio.TaskGroup() as tasks:
            asked = tasks.create_task(ann.refused("username other"))
            peer = await server.accept()
            await peer.expect("USER ")
            peer.say(":irc.test 465 ann :You are banned: K-lined (~ann@*)")
            assert "A ban is not got round" in await asked
        assert "USER ann " in " ".join(peer.heard)
    assert network.store.rows["username:@ann:example.org"] == b"ann"


async def test_what_was_said_is_ours_by_nick_and_by_what_is_seen_of_the_user_name() -> None:
    server = ServerSettings(host="irc.test", port=6697)
    network, store = IrcNetwork(IrcSettings(servers=(server,))), MemoryStore()
    names, long = network.usernames(store), UserId("@longusername:a.org")
    for user, nick in ((ALICE, "Alice"), (EVIL, "Eve"), (long, "Lo")):
        await network.nicks(store).assign(user, nick, LIMITS)
        assert await network.assign_username(user) == await names.assign(user, LIMITS)
    for nick, seen, is_ours in (
        ("Alice", "~alice", True), ("Eve", "alice_", True), ("Lo", "~longusern", True),
        ("Eve", "alice", False), ("Alice", "alice_", False), ("Lo", "longuser", False),
        ("trestle", "~trestle", True),
    ):  # fmt: skip
        assert network.was_ours(Source(nick, seen, "h"), "") is is_ours, nick
    await names.change(ALICE, "wonder", LIMITS)
    for seen in ("~wonder", "~alice"):
        assert network.was_ours(Source("Alice", seen, "h"), ""), seen


async def test_the_relay_goes_by_plain_nicks_and_people_by_those_with_the_mark() -> None:
    server, form = ServerSettings(host="irc.test", port=6697), "{name}[m]"
    network = IrcNetwork(IrcSettings(servers=(server,), nick="relay[m]", puppet_nick=form))
    await network.nicks(MemoryStore()).assign(ALICE, "Alice", LIMITS)
    for nick, user, is_ours in (
        ("relay[m]", "trestle", True), ("relay[m]_", "trestle", True),
        ("relay_[m]", "trestle", False), ("Alice_[m]", "alice", True),
        ("Alice[m]_", "alice", False),
    ):  # fmt: skip
        assert network.was_ours(Source(nick, user, "h"), "") is is_ours, nick
