"""What is done to a ghost in a room is done in its chat soon, or not at all."""

from dataclasses import replace
from typing import Any, cast

import pytest

from bridge.core.lanes.lane import Item
from bridge.core.portals.portals import Portals
from bridge.core.traffic.roomacts import LATE_SECONDS, RoomActs
from bridge.model import Follow
from bridge.sdk.errors import PermanentFailure, TemporaryFailure
from bridge.sdk.events import Rank, RemoteChat, RemoteRanks, Removal
from bridge.sdk.ids import RemoteUserId, UserId
from bridge.sdk.login import LoginState
from tests.core.ground import ALICE, CHAT, NEAR, ROOM, Ground, changed
from tests.core.instances import Line, at_work, network

BEA = UserId("@bea:test.example")


class Channel:
    """A chat that does whatever it is told to."""

    def __init__(self) -> None:
        self.done: list[tuple[object, ...]] = []
        self.refusal: Exception | None = None
        """What each removal ends with."""

    async def set_topic(self, chat: RemoteChat, topic: str) -> None:
        """Do it."""
        self.done.append(("topic", topic))

    async def set_rank(self, chat: RemoteChat, person: RemoteUserId | UserId, rank: Rank) -> None:
        """Do it."""
        self.done.append((person, rank))

    async def remove(
        self, chat: RemoteChat, person: RemoteUserId | UserId, how: Removal, reason: str
    ) -> None:
        """Do it."""
        self.done.append((person, how))
        if self.refusal is not None:
            raise self.refusal


def power(stage: "Stage", age: float, **levels: int) -> Item:
    users = {stage.ground.namespaces.ghost(NEAR, RemoteUserId("bob")): levels["bob"]}
    users[BEA] = levels["bea"]
    unsigned: dict[str, Any] = {"prev_content": {"users": {}}}
    return changed(age, "m.room.power_levels", {"users": users}, unsigned=unsigned)


def membership(stage: "Stage", age: float, now: str, before: str = "join") -> Item:
    bob = stage.ground.namespaces.ghost(NEAR, RemoteUserId("bob"))
    unsigned = {"prev_content": {"membership": before}}
    content = {"membership": now}
    return changed(age, "m.room.member", content, unsigned=unsigned, state_key=bob)


class Stage:
    """A room whose chat is on a network that comes and goes."""

    def __init__(self) -> None:
        self.ground = Ground()
        self.channel = Channel()
        self.near = self.ground.instances[NEAR] = network(NEAR, Line())
        relay = at_work(self.near, self.channel, connected=False)
        own = at_work(self.near, self.channel, BEA, connected=False)
        self._supervisors = relay.supervisor, own.supervisor
        self.portals = Portals(self.ground.house)
        self.untold = object()
        """What the room's clients are told of the bridge by."""
        self.portals.on_empowered = lambda door: self.ground.want(self.untold)
        self.door = self.portals._open(self.ground.portal)
        self.acts: RoomActs = self.door.acts

    def connect(self) -> None:
        """Have the network there."""
        for one in self._supervisors:
            one.report(LoginState.CONNECTED)

    async def hear_of_carl(self) -> None:
        """Hear of his rank while our bot may not give him any in the room."""
        self.ground.is_demoted = True
        ranks = {RemoteUserId("carl"): Rank.HELPER}
        await self.door.receive(RemoteRanks(chat=CHAT, ranks=ranks))
        self.ground.is_demoted = False

    @property
    def said(self) -> list[str]:
        """What the room was told."""
        return [str(one.content.get("body")) for one in self.ground.waiting]


async def test_what_comes_late_is_done_to_our_own_people_and_the_topic_and_to_no_ghost() -> None:
    stage, late = Stage(), LATE_SECONDS + 1
    stage.connect()
    for becomes, before in (("ban", "join"), ("leave", "join"), ("leave", "ban")):
        await stage.acts.remove(membership(stage, late, becomes, before))
    await stage.acts.handle(power(stage, late, bob=50, bea=50))
    await stage.acts.handle(changed(late, "m.room.topic", {"topic": "new"}))
    assert stage.channel.done == [(BEA, Rank.MODERATOR), ("topic", "new")]
    assert [one.split(" the ")[1].partition(":")[0] for one in stage.said] == [
        "ban of bob", "kick of bob", "unban of bob",
        "change of @_trestle_near_bob",
    ]  # fmt: skip
    assert all("by now somebody else may go by that name" in one for one in stage.said)


async def test_what_is_done_to_a_ghost_waits_for_no_connection_and_is_tried_again() -> None:
    stage = Stage()
    for item in (membership(stage, 0, "ban"), membership(stage, 30, "leave")):
        with pytest.raises(TemporaryFailure, match="near is not connected"):
            await stage.acts.remove(item)
    with pytest.raises(TemporaryFailure, match="near is not connected"):
        await stage.acts.handle(power(stage, 0, bob=50, bea=0))
    assert (stage.channel.done, stage.said) == ([], [])
    stage.connect()
    await stage.acts.remove(membership(stage, 30, "ban"))
    await stage.acts.handle(power(stage, 30, bob=50, bea=0))
    assert stage.channel.done == [("bob", Removal.BAN), ("bob", Rank.MODERATOR)]


@pytest.mark.parametrize("came", [0, 30])
async def test_what_was_done_long_ago_is_late_however_soon_after_it_came(came: float) -> None:
    """As after an hour's outage of ours, when it is tried again, and in what is caught up with."""
    stage = Stage()
    stage.connect()
    now = stage.ground.house.clock.now().timestamp()
    for ago, how in ((3600, "ban"), (LATE_SECONDS - 40, "leave"), (-3600, "ban")):
        item = membership(stage, came, how)
        item.event["origin_server_ts"] = int((now - ago) * 1000)
        await stage.acts.remove(item)
    assert stage.channel.done == [("bob", Removal.KICK), ("bob", Removal.BAN)]
    (said,) = stage.said
    assert "ban of bob: it could not be done at once" in said


async def test_what_the_sender_is_refused_is_not_done_again_while_the_relay_is_away() -> None:
    stage = Stage()
    own = Channel()
    own.refusal = PermanentFailure("you are no operator there")
    at_work(stage.near, own, ALICE)
    # The relay is not connected, and then it breaks while it does it.
    for number in (1, 2):
        await stage.acts.remove(membership(stage, 0, "ban"))
        assert len(own.done) == len(stage.said) == number
        assert stage.said[-1].endswith("did not take the ban of bob: you are no operator there.")
        stage.connect()
        stage.channel.refusal = TemporaryFailure("the connection broke")
    assert len(stage.channel.done) == 1


def empowering(stage: "Stage", **unsigned: Any) -> Item:
    """Somebody gives power to our bot and to Bob."""
    bob = stage.ground.namespaces.ghost(NEAR, RemoteUserId("bob"))
    users = {stage.ground.namespaces.bot: 100, bob: 50}
    return changed(0, "m.room.power_levels", {"users": users}, unsigned=unsigned)


async def test_what_our_bot_may_do_now_holds_up_nothing_that_was_done_to_a_ghost_with_it() -> None:
    stage = Stage()
    stage.connect()
    await stage.hear_of_carl()
    stage.ground.is_away = True
    await stage.acts.handle(empowering(stage, prev_content={"users": {}}))
    assert stage.channel.done == [("bob", Rank.MODERATOR)]
    # Both of it comes when the homeserver answers, which is not waited for a second time.
    assert stage.ground.wanted == [stage.untold, stage.door.facts]
    stage.ground.meanwhile["can"] = stage.hear_of_carl
    stage.ground.is_away = False
    await stage.acts.handle(empowering(stage, prev_content={"users": {}}))
    assert "can" in stage.ground.meanwhile


async def test_a_room_that_does_not_follow_asks_nobody_which_powers_there_were_before() -> None:
    stage = Stage()
    stage.door.portal = replace(stage.door.portal, follow=Follow.TOPIC)
    # The homeserver that would have to say it is not there.
    await stage.acts.handle(empowering(stage, replaces_state="$0"))
    assert stage.ground.wanted == [stage.untold]


@pytest.mark.parametrize("why", ["paused", "left alone", "out"])
async def test_power_that_our_bot_gets_from_whomever_and_whenever_is_used_in_the_end(
    why: str,
) -> None:
    stage = Stage()
    ground, door, bot = stage.ground, stage.door, stage.ground.namespaces.bot
    await stage.hear_of_carl()
    if why == "paused":
        await stage.portals.set_paused(door, True, ALICE)
    elif why == "out":
        ground.evictions._known.put((ROOM, bot), True)
    else:
        ground.house.policies = cast(Any, Policy())
    await door.handle(empowering(stage, prev_content={"users": {}}))
    if why == "paused":
        assert not ground.waiting
        await stage.portals.set_paused(door, False, ALICE)
    elif why == "out":
        assert not ground.waiting
        ground.evictions.forgive(ROOM, bot)
        await stage.portals.bot_came(bot, ROOM)
    assert ground.wanted == [stage.untold]
    ground.arrive()
    assert ground.levels["users"][ground.namespaces.ghost(NEAR, RemoteUserId("carl"))] == 25
    assert stage.channel.done == []


class Policy:
    """Policy lists that keep everybody out."""

    waiting: frozenset[int] = frozenset()

    def cover(self, *who: object) -> bool:
        return True
