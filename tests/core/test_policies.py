"""Policy lists where a network or a homeserver does not answer, or something happens meanwhile."""

import asyncio
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, cast

import pytest

from bridge.core.commands.policycommand import PolicyCommand
from bridge.core.consent.policies import Policies
from bridge.core.portals.portals import Portals
from bridge.matrix.client import HomeserverAway
from bridge.matrix.intents import Intents
from bridge.matrix.namespaces import Namespaces
from bridge.model import Portal, Subscription
from bridge.sdk.errors import DeliveryError, PermanentFailure, TemporaryFailure
from bridge.sdk.events import RemoteChat
from bridge.sdk.ids import InstanceId, RemoteChatId, RoomId, UserId
from bridge.storage.policies import PolicyStore
from tests.core.ground import ALICE, NEAR, Ground, changed
from tests.core.instances import Line, at_work, network
from tests.rigs.trestle import wait_until

FAR, LIST = InstanceId("far"), RoomId("!list")


class Channel:
    """A client that bans, once its network answers."""

    def __init__(self) -> None:
        self.answers = asyncio.Event()
        self.asked: list[RemoteChatId] = []
        self.banned: dict[RemoteChatId, set[str]] = {}
        self.failure: DeliveryError | None = None

    def seen(self, chat: RemoteChatId) -> Collection[UserId]:
        return ()

    async def find_bans(self, chat: RemoteChat, patterns: Sequence[str]) -> Sequence[str]:
        self.asked.append(chat.id)
        await self.answers.wait()
        return sorted(self.banned.get(chat.id, set()) & set(patterns))

    async def change_bans(self, chat: RemoteChat, add: Sequence[str], lift: Sequence[str]) -> None:
        if self.failure is not None:
            raise self.failure
        there = self.banned.setdefault(chat.id, set())
        there.update(add)
        there.difference_update(lift)


class Puppet:
    """A person's own client."""

    def __init__(self) -> None:
        self.left: list[RemoteChatId] = []

    async def join(self, chat: RemoteChat) -> None:
        """Come in."""

    async def leave(self, chat: RemoteChat, reason: str) -> None:
        self.left.append(chat.id)


class Store:
    """What is kept, and forgotten with the test."""

    def __init__(self) -> None:
        self.failures = 0
        """So often it answers nonsense when bans are noted."""

    async def all(self) -> Sequence[Subscription]:
        """Who follows the list."""
        return [
            Subscription(portal=number, room=LIST, by=ALICE, applied=True, agreed=True)
            for number in (1, 2, 3)
        ]

    async def bans(self) -> Sequence[tuple[int, str]]:
        """None are ours yet."""
        return ()

    async def put(self, one: Subscription) -> None:
        """Keep nothing."""

    async def remove(self, portal: int, room: RoomId) -> None:
        """Forget nothing."""

    async def add_bans(self, portal: int, patterns: Sequence[str]) -> None:
        """Keep nothing."""
        if self.failures:
            self.failures -= 1
            raise KeyError("a column that is not there")

    async def remove_bans(self, portal: int, patterns: Sequence[str]) -> None:
        """Forget nothing."""


class Lists(Ground):
    """A list that two portals of one network and one of another follow."""

    def __init__(self) -> None:
        super().__init__()
        self.near, self.far, self.store = Channel(), Channel(), Store()
        self.entity = "@_trestle_*_spam:test.example"
        """Whom the list is about."""
        self.nonsense = 0
        """So often the homeserver answers nonsense when it is asked for the list."""
        self.namespaces = Namespaces(server_name="test.example", networks=[NEAR, FAR])
        self.house.namespaces = self.namespaces
        for name, client in ((NEAR, self.near), (FAR, self.far)):
            self.instances[name] = network(name, Line())
            at_work(self.instances[name], client)
        portals = Portals(self.house)
        self.doors = [
            portals._open(self._portal(number, name))
            for number, name in ((1, NEAR), (2, NEAR), (3, FAR))
        ]
        self.policies = Policies(self.house, portals, cast(PolicyStore, self.store))
        self.policies.has_seat = lambda user, room: True
        self.policies.residence = cast(Any, self)

    def _portal(self, number: int, instance: InstanceId) -> Portal:
        chat = RemoteChatId(f"#{number}")
        return replace(self.portal, id=number, instance=instance, chat=chat)

    async def states(
        self, room: RoomId, kinds: Collection[str]
    ) -> Mapping[tuple[str, str], Mapping[str, Any]]:
        """What the list says."""
        self._refuse("states")
        if self.nonsense:
            self.nonsense -= 1
            return cast(Mapping[tuple[str, str], Mapping[str, Any]], ["nonsense"])
        spam = {"entity": self.entity, "recommendation": "m.ban"}
        await self._call("states")  # The answer is on its way.
        return {("m.policy.rule.user", "spam"): spam}

    async def state(self, room: RoomId, kind: str, key: str = "") -> Mapping[str, Any]:
        """What one rule says: nothing any more."""
        await self._call("state")
        return {}

    async def enter(self, name: str, bot: UserId) -> RoomId:
        """Come in."""
        return RoomId(name)

    async def leave(self, room: RoomId, user: UserId) -> None:
        """Leave."""

    async def move_out(self, bot: UserId, room: RoomId) -> None:
        """Listen there no more."""

    async def who_can(self, room: RoomId, kind: str) -> set[UserId]:
        """Let nobody run the room."""
        return set()

    async def room_name(self, room: RoomId) -> str:
        """Call it by its id."""
        return room


async def test_a_network_that_does_not_answer_keeps_no_room_waiting_and_no_other_network() -> None:
    ground = Lists()
    house = ground.house
    await ground.policies.load()
    assert house.policies.waiting == {1, 2, 3}
    ground.far.answers.set()
    async with asyncio.TaskGroup() as group:
        run = group.create_task(ground.policies.run())
        await wait_until(lambda: bool(ground.far.banned))
        assert not house.policies.waiting
        assert all(house.policies.of(number) for number in (1, 2, 3))
        # Of the one that is silent nothing else is asked meanwhile.
        assert len(ground.near.asked) == 1
        ground.near.answers.set()
        await wait_until(lambda: len(ground.near.banned) == 2)
        run.cancel()


async def test_a_homeserver_that_asks_for_patience_is_asked_for_a_list_no_sooner() -> None:
    ground = Lists()
    cast(Any, ground).refusal = HomeserverAway("it asks for patience", retry_after=60)
    ground.refusing.add("states")
    await ground.policies.load()
    async with asyncio.TaskGroup() as group:
        run = group.create_task(ground.policies.run())
        # The first of the three rooms is refused, the others are not.
        await wait_until(lambda: len(ground.house.policies.waiting) == 1)
        run.cancel()
    assert ground.policies._late[1] - asyncio.get_running_loop().time() > 50


async def test_what_could_not_be_said_of_bans_that_a_network_refused_is_said_later() -> None:
    ground = Lists()
    ground.near.answers.set()
    ground.near.failure = PermanentFailure("the relay has no rights there")
    await ground.policies.load()
    ground.failing.add("put event")
    with pytest.raises(TemporaryFailure):
        await ground.policies.enforce(ground.doors[0])
    assert not ground.waiting
    for _ in range(2):
        await ground.policies.enforce(ground.doors[0])
    (said,) = ground.waiting
    assert "did not take the bans" in said.content["body"]


async def test_a_network_that_asks_for_patience_is_asked_for_bans_no_sooner() -> None:
    ground, loop = Lists(), asyncio.get_running_loop()
    ground.near.answers.set()
    ground.near.failure = TemporaryFailure("it is busy", retry_after=60)
    await ground.policies.load()
    await ground.policies.enforce(ground.doors[0])
    assert ground.policies._late[1] - loop.time() > 50


async def test_a_ban_that_others_had_set_before_a_rule_stays_when_that_is_taken_back() -> None:
    ground, door = Lists(), Lists().doors[0]
    ground.near.answers.set()
    ground.near.banned[door.portal.chat] = {"spam"}
    ground.entity = "@_trestle_near_spam:test.example"
    await ground.policies.load()
    for one in ground.doors[:2]:
        await ground.policies.enforce(one)
    assert ground.near.banned == {"#1": {"spam"}, "#2": {"spam"}}
    ground.entity = "@_trestle_near_other:test.example"
    ground.policies._rules.clear()
    for one in ground.doors[:2]:
        await ground.policies.enforce(one)
    assert ground.near.banned == {"#1": {"spam", "other"}, "#2": {"other"}}


async def test_a_list_that_nobody_follows_any_more_may_change_just_then() -> None:
    ground = Lists()
    ground.near.answers.set()
    ground.far.answers.set()
    await ground.policies.load()
    await ground.policies.read(LIST)

    async def end() -> None:
        for door in ground.doors:
            await ground.policies.end_all(door, ALICE)

    ground.meanwhile["state"] = end
    rule = changed(0.0, "m.policy.rule.user", {}, room_id=LIST, state_key="spam")
    await ground.policies.handle(rule)
    assert not ground.policies.of_list(LIST)


@pytest.mark.parametrize("is_known", [False, True])
async def test_what_changes_while_a_list_is_read_is_in_force_all_the_same(is_known: bool) -> None:
    ground = Lists()
    ground.near.answers.set()
    ground.far.answers.set()
    await ground.policies.load()
    if is_known:
        await ground.policies.read(LIST)

    async def change() -> None:
        ground.entity = "@_trestle_*_worse:test.example"
        rule = changed(0.0, "m.policy.rule.user", {}, room_id=LIST, state_key="spam")
        await ground.policies.handle(rule)

    ground.meanwhile["states"] = change
    if is_known:  # For another room that is to follow it, say.
        await ground.policies.read(LIST)
    async with asyncio.TaskGroup() as group:
        run = group.create_task(ground.policies.run())
        in_force = ground.house.policies.of
        await wait_until(lambda: all("worse" in str(in_force(one)) for one in (1, 2, 3)), 20)
        run.cancel()


async def test_a_list_that_changes_whenever_it_is_read_is_in_force_and_not_read_all_the_time() -> (
    None
):
    ground, reads = Lists(), Counter[str]()
    ground.near.answers.set()
    ground.far.answers.set()
    await ground.policies.load()

    async def change() -> None:
        reads[LIST] += 1
        ground.meanwhile["states"] = change
        rule = changed(0.0, "m.policy.rule.user", {}, room_id=LIST, state_key="spam")
        await ground.policies.handle(rule)

    ground.meanwhile["states"] = change
    with suppress(TimeoutError):
        async with asyncio.timeout(2):
            await ground.policies.run()
    assert all(ground.house.policies.of(number) for number in (1, 2, 3))
    assert reads[LIST] == 2


async def test_a_room_that_follows_as_many_lists_as_it_may_still_looks_at_those() -> None:
    ground, door = Lists(), Lists().doors[0]
    await ground.policies.load()
    command = PolicyCommand(ground.policies, cast(Intents, ground))
    for number in range(9):
        await command.obey(door, ALICE, (f"!{number}",))
    assert "It is in force." in await command.obey(door, ALICE, (LIST,))
    with pytest.raises(PermanentFailure, match="10 lists are as many as a room may follow"):
        await command.obey(door, ALICE, ("!another",))


async def test_a_list_or_a_ban_that_fails_in_a_way_nobody_foresaw_is_tried_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    ground = Lists()
    ground.near.answers.set()
    ground.far.answers.set()
    ground.nonsense = ground.store.failures = 1
    await ground.policies.load()
    async with asyncio.TaskGroup() as group:
        run = group.create_task(ground.policies.run())
        # One room's list made no sense, another's bans could not be noted; the third has both.
        await wait_until(lambda: len(caplog.records) == 2 and not ground.policies._asking)
        assert ground.house.policies.waiting == {1}
        assert len(ground.near.banned) + len(ground.far.banned) == 1
        await wait_until(lambda: not ground.house.policies.waiting, 20)
        await wait_until(lambda: len(ground.near.banned) + len(ground.far.banned) == 3, 20)
        run.cancel()
    assert {vars(one)["event"] for one in caplog.records} == {"round_failed"}


@pytest.mark.parametrize("failure", [OSError("no space left"), TemporaryFailure("no database")])
async def test_who_could_not_be_put_out_of_the_chat_at_first_is_put_out_later(
    failure: Exception,
) -> None:
    ground = Lists()
    ground.near.answers.set()
    ground.far.answers.set()
    ground.entity = "@*:spam.example"
    lent, own = Puppet(), Puppet()
    session = at_work(ground.instances[NEAR], lent, UserId("@bob:spam.example"))
    at_work(ground.instances[NEAR], own, UserId("@carl:spam.example"))
    ground.instances[NEAR].is_open = True
    (door, *_) = ground.doors
    door.portal = replace(door.portal, relay=session.row.id)
    failures = [failure] * 2

    async def fail() -> None:
        if failures:
            ground.meanwhile["record"] = fail
            raise failures.pop()

    ground.meanwhile["record"] = fail
    await ground.policies.load()
    await ground.policies._put_rules(door)
    while failures:
        async with asyncio.TaskGroup() as group:
            ground.policies._begin_to_ban(group, door)
        assert (lent.left, own.left.pop()) == ([], "#1")
        # There is something left to do, and not at once.
        assert ground.policies._late[1] > asyncio.get_running_loop().time()
    await ground.policies.enforce(door)
    assert lent.left == own.left == ["#1"]
    assert door.portal.relay is None
    assert 1 not in ground.policies._late
