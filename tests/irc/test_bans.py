"""Bans: of patterns of nicks, as a policy list wishes them, and of people, set and lifted."""

import asyncio
import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import pytest

from bridge.demo.matrix_user import PATIENCE
from bridge.networks.irc.channels import bans
from bridge.networks.irc.channels.facts import MOST_COMPARED
from bridge.networks.irc.channels.governing import rank_lines, topic_line
from bridge.networks.irc.names import masks
from bridge.networks.irc.network.banlists import MOST
from bridge.networks.irc.network.banned import KEEP, MOST_IN_CHAT, Banned
from bridge.networks.irc.protocol.isupport import TOPIC_BYTES, Isupport
from bridge.networks.irc.wire import Source
from bridge.sdk.errors import PermanentFailure
from bridge.sdk.events import Rank, RemoteChat, RemoteRemoval, Removal
from bridge.sdk.ids import RemoteChatId, RemoteUserId
from tests.irc.stage import (
    NOW,
    Network,
    a_listener,
    listening,
    refusal,
    speaking,
    synced,
    until,
    user_id,
)
from tests.irc.stores import MemoryStore
from tests.rigs.scripted_irc import Peer, scripted_server

ROOM = RemoteChat(id=RemoteChatId("#room"), name="#Room")


def said(add: list[str], lift: list[str], *tokens: str) -> list[tuple[str, ...]]:
    limits = Isupport().with_tokens(tokens)
    return [(one.command, *one.params) for one in bans.lines(ROOM, add, lift, limits)]


def test_as_many_go_into_a_line_as_the_server_takes() -> None:
    assert said(["a", "b*"], ["c"], "MODES=4") == [
        ("MODE", "#Room", "-b", "c!*@*"), ("MODE", "#Room", "+bb", "a!*@*", "b*!*@*"),
    ]  # fmt: skip
    nicks = [f"n{number}" for number in range(7)]
    for token, sizes in (
        ("MODES=1", [1] * 7),
        ("X", [3, 3, 1]),
        ("MODES=6", [6, 1]),
        ("MODES", [7]),
    ):
        assert [len(one) - 3 for one in said(nicks, [], token)] == sizes, token


def test_no_line_is_longer_than_a_line_and_no_mask_is_lost() -> None:
    nicks = [f"{number:x<90}" for number in range(20)]
    lines = bans.lines(ROOM, nicks, [], Isupport().with_tokens(["MODES"]))
    assert max(len(one.encode()) for one in lines) <= 512
    assert [mask for one in lines for mask in one.params[2:]] == [f"{nick}!*@*" for nick in nicks]
    for one in lines:
        assert one.params[1] == "+" + "b" * (len(one.params) - 2)


@pytest.mark.parametrize(
    "pattern", ["a b", "a,b", "a!b", "a@b", ":a", "+o", "-b", "$a:x", "a\r\nQUIT", ""]
)
def test_what_can_be_no_nick_is_left_out(pattern: str) -> None:
    assert bans.choose([pattern, "spam*"], ["trestle"], Isupport()) == ["spam*"]


def test_nobody_of_us_is_banned() -> None:
    own = ["Trestle", "al[ce"]
    assert bans.choose(["t*", "TRESTLE", "al{?e", "carl"], own, Isupport()) == ["carl"]


OURS = [Source("trestle", "~trestle", "gate.test"), Source("Ann", "~ann", "gate.test")]


@pytest.mark.parametrize(
    ("person", "mask"),
    [
        (Source("carl", "~c", "far.test"), "*!*@far.test"),
        (Source("carl", "~c", "gate.test"), "*!~c@gate.test"),
        (Source("carl", "~ann", "gate.test"), "carl!*@*"),
        (Source("carl"), "carl!*@*"),
        (Source("ANN", "~ann", "gate.test"), "*!~ann@gate.test"),
    ],
)
def test_who_shares_a_host_with_us_is_banned_alone(person: Source, mask: str) -> None:
    assert masks.choose(person, OURS, Isupport().fold) == mask


@pytest.mark.parametrize(
    ("mask", "is_about"),
    [
        ("Ca[l!*@*", True), ("ca{l!~c@far.test", True), ("ca[l!*@near.test", False),
        ("*!*@FAR.test", True), ("*!~c@far.test", True), ("*!*c@far.test", True),
        ("*!~d@far.test", False), ("*!*@*.test", False), ("c*!*@*", False), ("*!*@*", False),
        ("ca[l", False), ("$a:ca[l", False),
    ],
)  # fmt: skip
def test_a_mask_is_about_one_person_or_not(mask: str, is_about: bool) -> None:
    assert masks.is_about(mask, Source("ca[l", "~c", "far.test"), Isupport().fold) is is_about


@pytest.mark.parametrize(
    ("prefix", "held", "rank", "changes"),
    [
        ("(ov)@+", "o", Rank.HELPER, ["-o", "+v"]),
        ("(ov)@+", "ov", Rank.HELPER, ["-o"]),
        ("(ohv)@%+", "o", Rank.HELPER, ["-o", "+h"]),
        ("(o)@", "o", Rank.HELPER, ["-o"]),
        ("(ov)@+", "", Rank.OWNER, ["+o"]),
        ("(ov)@+", "v", Rank.NONE, ["-v"]),
    ],
)
def test_a_rank_that_the_network_has_not_is_the_next_lower_one(
    prefix: str, held: str, rank: Rank, changes: list[str]
) -> None:
    network, limits = Network(1).connector._network, Isupport({"PREFIX": prefix})
    network.ranks[ROOM.id] = {"carl": held}
    lines = rank_lines(ROOM, RemoteUserId("carl"), rank, network, limits)
    assert [one.params[1] for one in lines] == changes


def test_what_no_rank_stands_for_is_said() -> None:
    network = Network(1).connector._network
    with pytest.raises(PermanentFailure, match="no rank like that"):
        rank_lines(ROOM, RemoteUserId("carl"), Rank.VOICED, network, Isupport({"PREFIX": "(o)@"}))


@pytest.mark.parametrize(
    ("value", "most"), [("abc", TOPIC_BYTES), ("", TOPIC_BYTES), ("0", TOPIC_BYTES), ("20", 20)]
)
def test_a_topic_has_the_length_that_the_server_takes(value: str, most: int) -> None:
    one = topic_line(ROOM, "x" * 500, Isupport({"TOPICLEN": value}))
    assert len(one.params[1]) == most


async def lists(peer: Peer, *banned: str, who: str = "") -> None:
    """Answer what the channel bans, and where somebody is."""
    await enters(peer, *banned)
    if banned:
        await peer.expect("USERHOST carl")
        peer.say(f":irc.test 302 {{nick}} :{who}")


async def enters(peer: Peer, *banned: str) -> None:
    """Answer what the channel bans."""
    await peer.expect("MODE #room b")
    peer.say(*(f":irc.test 367 {{nick}} #room {mask}" for mask in banned))
    peer.say(":irc.test 368 {nick} #room :End of list")


async def test_a_ban_of_the_bridge_is_lifted_after_a_restart_and_no_other() -> None:
    carl, room = RemoteUserId("carl"), RemoteChat(id=RemoteChatId("#room"), name="#room")
    async with scripted_server() as server:
        first, then = Network(server.port), Network(server.port)
        then.store = first.store
        async with listening(server, first) as (relay, _, peer, _):
            peer.say(":carl!~c@far.test JOIN #room")
            await synced(peer)
            await relay.remove(room, carl, Removal.BAN, "enough")
            await peer.expect("MODE #room +b *!*@far.test")
            await peer.expect("KICK #room carl enough")
        async with (
            listening(server, then) as (relay, _, peer, _), asyncio.TaskGroup() as tasks
        ):  # fmt: skip
            await enters(peer, "*!*@FAR.test")
            lifting = tasks.create_task(relay.remove(room, carl, Removal.UNBAN, ""))
            await lists(peer, "*!*@*.test", "*!*@FAR.test", "carla!*@*")
            await peer.expect("MODE #room -b *!*@FAR.test")
            await lifting
            peer.say(":trestle!t@h MODE #room -b *!*@FAR.test")
            await synced(peer)
            assert not await then.store.find("banned:")
            # One that others set, of where carl is now.
            lifting = tasks.create_task(relay.remove(room, carl, Removal.UNBAN, ""))
            await lists(peer, "*!*@near.test", who="carl=+~c@near.test")
            await peer.expect("MODE #room -b *!*@near.test")
            await lifting
            lifting = tasks.create_task(relay.remove(room, carl, Removal.UNBAN, ""))
            await lists(peer)
            await lifting
            # Others are banned, and he is not.
            lifting = tasks.create_task(relay.remove(room, carl, Removal.UNBAN, ""))
            await lists(peer, "*!*@evil.test", who="carl=+~c@near.test")
            await lifting
            failing = tasks.create_task(refusal(relay.remove(room, carl, Removal.UNBAN, "")))
            await lists(peer, "*!*@*.test")
            assert "none of the bans of #room is known to mean carl alone" in await failing
            banned = then.connector._network.banned
            banned.note(room.id, "*!*@far.test", carl)
            await relay.leave(room, "unbridged")
            assert not banned.knows(room.id, "*!*@far.test")


async def test_of_who_is_banned_only_the_kick_may_fail_for_not_being_there() -> None:
    room = RemoteChat(id=RemoteChatId("#room"), name="#room")
    async with a_listener() as (relay, _, peer, _), asyncio.TaskGroup() as tasks:
        banning = tasks.create_task(relay.remove(room, RemoteUserId("carl"), Removal.BAN, "x"))
        await peer.expect("MODE #room +b carl!*@*")
        await peer.expect("KICK")
        peer.say(":irc.test 441 {nick} carl #room :They aren't on that channel")
        await banning
        kicking = tasks.create_task(
            refusal(relay.remove(room, RemoteUserId("carl"), Removal.KICK, "x"))
        )
        await peer.expect("KICK")
        peer.say(":irc.test 441 {nick} carl #room :They aren't on that channel")
        assert "aren't on that channel" in await kicking


async def test_a_ban_of_one_of_us_is_heard_whether_they_are_connected_or_not() -> None:
    async with scripted_server() as server:
        first, then = Network(server.port), Network(server.port)
        then.store = first.store
        async with listening(server, first, "@bob") as (_, host, peer, _):
            async with speaking(server, first) as (_, _, alices, _):
                alices.say(":Alice!alice@10.0.0.7 JOIN #other")
                await synced(alices)
            peer.say(":bob!b@h MODE #room +b *!*@10.0.0.7", ":bob!b@h MODE #room +b *!*@10.0.0.8")
            await host.wait_for(RemoteRemoval)
            await synced(peer)
            assert ways(host.of(RemoteRemoval)) == [Removal.BAN]
        async with listening(server, then, "@bob") as (_, host, peer, _):
            await enters(peer, "*!*@10.0.0.7")
            peer.say(":bob!b@h MODE #room -b *!*@10.0.0.7", ":bob!b@h MODE #room +b Alice!*@*")
            peer.say(":bob!b@h MODE #room -b Alice!*@*", ":bob!b@h MODE #room -b *!~alice@*")
            await host.wait_for(RemoteRemoval, 4)
            assert ways(host.of(RemoteRemoval)) == [
                Removal.UNBAN, Removal.BAN, Removal.UNBAN, Removal.UNBAN
            ]  # fmt: skip
            await synced(peer)
            assert not await then.store.find("banned:")


async def test_bans_of_ours_that_are_set_or_lifted_while_the_relay_is_away_are_told() -> None:
    alice = user_id("Alice")
    async with scripted_server() as server:
        network = Network(server.port)
        async with speaking(server, network) as (_, _, alices, _):
            alices.say(":Alice!alice@10.0.0.7 JOIN #other")
            await synced(alices)
        old, told = ["Alice!*@*", "*!*@evil.test"], []
        for there in (
            # What was there before the relay was is no news, nor what hits others, or all.
            old, [*old, "*!*@10.0.0.8", "*!*@*"], old,
            [*old, "*!*@10.0.0.7", "*!alice@*"], [*old, "*!alice@*"], old, old[1:],
            [*old, *(f"n{number}!*@*" for number in range(MOST))], old,
        ):  # fmt: skip
            async with listening(server, network, "@bob") as (_, host, peer, _):
                await enters(peer, *there)
                await synced(peer)
                told.append([(one.user, one.by, one.how) for one in host.of(RemoteRemoval)])
        # Whom another ban means still is not let in.
        assert told == [
            [], [], [], [(alice, None, Removal.BAN)] * 2, [], [(alice, None, Removal.UNBAN)],
            [], [], [],
        ]  # fmt: skip
        async with listening(server, network, "@bob") as (_, host, peer, _):
            await enters(peer, *old)
            peer.say(":bob!b@h MODE #room +b *!*@10.0.0.7")
            await host.wait_for(RemoteRemoval)
        then = Network(server.port)
        then.store = network.store
        async with listening(server, then, "@bob") as (_, host, peer, _):
            # The server says nothing of a list that is kept from us.
            await peer.expect("MODE #room b")
            peer.say(":irc.test 482 {nick} #room :You're not channel operator")
            await synced(peer)
        async with listening(server, then, "@bob") as (_, host, peer, _):
            await enters(peer, *old)
            await host.wait_for(RemoteRemoval)
            assert ways(host.of(RemoteRemoval)) == [Removal.UNBAN]


async def test_what_was_banned_before_anybody_of_ours_was_known_is_known_later() -> None:
    async with scripted_server() as server:
        network = Network(server.port)
        async with listening(server, network, "@bob") as (_, _, peer, _):
            await enters(peer, "alice!*@*")
            await synced(peer)
        async with speaking(server, network), listening(server, network) as (_, host, peer, _):
            await enters(peer, "alice!*@*", "*!alice@*")
            await synced(peer)
            await host.wait_for(RemoteRemoval)
    assert ways(host.of(RemoteRemoval)) == [Removal.BAN]


async def test_bans_that_ours_or_a_server_set_while_the_relay_is_away_are_not_carried() -> None:
    setters = {
        "*!*@10.0.0.7": "Alice", "*!*@10.0.0.?": "alice!alice@10.0.0.7 1700000000",
        "*!*@10.0.?.7": "Dora", "*!*@10.?.0.7": "Dora!~dora@x.test 1700000000",
        "*!*@1?.0.0.7": "irc.test", "*!*@?0.0.0.7": "{nick}!trestle@client.test",
    }  # fmt: skip
    carried = {"alice!*@*": "bob", "alice*!*@*": "Dora!stranger@x.test", "alic?!*@*": ""}
    async with scripted_server() as server:
        network = Network(server.port)
        network.store.rows["nick:@dora:example.org"] = b"Dora"
        async with speaking(server, network) as (_, _, alices, _):
            alices.say(":Alice!alice@10.0.0.7 JOIN #other")
            await synced(alices)
            for there in ({}, setters | carried):
                async with listening(server, network) as (_, host, peer, _):
                    said = [f"{mask} {setter}".rstrip() for mask, setter in there.items()]
                    await enters(peer, *said)
                    await synced(peer)
        assert ways(host.of(RemoteRemoval)) == [Removal.BAN] * len(carried)


async def test_of_a_list_of_bans_only_so_many_are_compared_with_so_many_people() -> None:
    async with scripted_server() as server:
        network, most = Network(server.port), 5000
        for number in range(most):
            network.store.rows[f"nick:@n{number}:example.org"] = f"n{number}".encode()
        for there in ([], [f"n{number}!*@*" for number in range(MOST - 50)]):
            async with listening(server, network) as (_, host, peer, _):
                await enters(peer, *there)
                await synced(peer)
        # Each has two masks: nobody knows whether there is a ~ before the user name.
        told = {one.user for one in host.of(RemoteRemoval)}
        assert len(told) == MOST_COMPARED // (2 * most)


async def test_of_bans_no_address_and_no_nick_is_kept_nor_what_was_lifted_meanwhile() -> None:
    carl = RemoteUserId("carl")
    async with scripted_server() as server:
        first, then = Network(server.port), Network(server.port)
        store = then.store = first.store
        # As it was once: the mask itself, for ever.
        store.rows["banned:#room *!*@203.0.113.9"] = b"carl"
        async with listening(server, first) as (relay, _, peer, _):
            await enters(peer, "*!*@203.0.113.9")
            peer.say(":carl!~c@203.0.113.7 JOIN #room")
            await synced(peer)
            await relay.remove(ROOM, carl, Removal.BAN, "enough")
            await peer.expect("KICK #Room carl enough")
            await written(first, 2)
            assert not re.search(r"203\.0\.113|carl", f"{store.rows}")
            assert set(store.terms.values()) == {KEEP}
            banned = first.connector._network.banned
            assert banned.is_about(ROOM.id, "*!*@203.0.113.9", carl)
            assert banned.is_about(ROOM.id, "*!*@203.0.113.7", carl)
        async with listening(server, then) as (_, _, peer, _):
            await enters(peer, "*!*@203.0.113.9", "eve!*@*")
            await written(then, 1)
            banned = then.connector._network.banned
            assert banned.is_about(ROOM.id, "*!*@203.0.113.9", carl)
            assert not banned.knows(ROOM.id, "*!*@203.0.113.7")


async def written(network: Network, number: int) -> None:
    """Wait until so many bans are kept, and all of them as hashes."""
    async with asyncio.timeout(PATIENCE):
        while True:
            found = await network.store.find("banned:")
            if len(found) == number and not any("!" in key for key in found):
                return
            await asyncio.sleep(0)


async def test_a_ban_is_known_for_its_time_and_of_a_channel_only_so_many() -> None:
    banned, now = Banned(), [NOW]
    assert KEEP.days < 60
    await banned.load(MemoryStore(), lambda: now[0])
    for number in range(MOST_IN_CHAT + 1):
        now[0] += timedelta(seconds=1)
        banned.note(ROOM.id, f"n{number}!*@*", user_id("Alice"))
    banned.note(RemoteChatId("#other"), "n0!*@*", RemoteUserId("carl"))
    assert len(banned.noted(ROOM.id)) == MOST_IN_CHAT
    assert not banned.knows(ROOM.id, "n0!*@*")
    assert banned.owner(ROOM.id, "n1!*@*") == user_id("Alice")
    assert banned.owner(RemoteChatId("#other"), "n0!*@*") is None
    now[0] += KEEP
    assert not banned.knows(ROOM.id, f"n{MOST_IN_CHAT}!*@*")


def ways(removals: list[RemoteRemoval]) -> list[Removal]:
    assert {one.user for one in removals} == {user_id("Alice")}
    return [one.how for one in removals]


async def test_what_is_noted_as_the_connection_breaks_is_written_over_the_next() -> None:
    class BusyStore(MemoryStore):
        """One that is never done, until it is told so."""

        done = False

        async def put(self, key: str, value: bytes, **kept: Any) -> None:
            while not self.done:
                await asyncio.sleep(0)
            await super().put(key, value, **kept)

    store, banned = BusyStore(), Banned()
    await banned.load(store, lambda: NOW)
    banned.note(RemoteChatId("#room"), "*!*@h", RemoteUserId("carl"))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await banned.behind.keep_writing()
    store.done = True
    async with asyncio.timeout(10), asyncio.TaskGroup() as tasks:
        writing = tasks.create_task(banned.behind.keep_writing())
        while not store.rows:
            await asyncio.sleep(0)
        writing.cancel()


class LateStore(MemoryStore):
    """One that reads and writes at once, or when it may."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[asyncio.Event] = []

    async def _wait(self) -> None:
        may = asyncio.Event()
        self.asked.append(may)
        await may.wait()

    async def find(self, prefix: str) -> Mapping[str, bytes]:
        found = await super().find(prefix)
        await self._wait()
        return found

    async def put(self, key: str, value: bytes, **kept: Any) -> None:
        await self._wait()
        await super().put(key, value, **kept)


async def let_run() -> None:
    """Let others go on until they wait."""
    for _ in range(20):
        await asyncio.sleep(0)


async def test_a_ban_that_is_lifted_while_one_of_two_clients_writes_it_is_not_kept() -> None:
    store, banned = LateStore(), Banned()
    async with asyncio.timeout(10), asyncio.TaskGroup() as tasks:
        loading = tasks.create_task(banned.load(store, lambda: NOW))
        await until(lambda: len(store.asked) == 1)
        store.asked[0].set()
        await loading
        writing = [tasks.create_task(banned.behind.keep_writing()) for _ in range(2)]
        banned.note(ROOM.id, "*!*@h", user_id("Alice"))
        await until(lambda: len(store.asked) == 2)
        banned.forget_person(user_id("Alice"))
        await let_run()
        store.asked[1].set()
        await let_run()
        assert not banned.behind._changed
        for one in writing:
            one.cancel()
    assert not store.rows


async def test_a_ban_that_is_lifted_while_the_second_client_reads_them_stays_lifted() -> None:
    store, banned = LateStore(), Banned()
    store.rows = {f"banned:#room {'0' * 32}": f"{NOW.isoformat()} @alice:test.example".encode()}
    async with asyncio.timeout(10), asyncio.TaskGroup() as tasks:
        loads = [tasks.create_task(banned.load(store, lambda: NOW)) for _ in range(2)]
        await until(lambda: len(store.asked) == 2)
        store.asked[0].set()
        await loads[0]
        assert len(banned.noted(ROOM.id)) == 1
        banned.forget_chat(ROOM.id)
        store.asked[1].set()
    assert not banned.noted(ROOM.id)
