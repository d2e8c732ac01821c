"""What is done to a ghost in a room is done in its chat soon, or not at all."""

from typing import Any

import pytest

from bridge.core.lanes.lane import Item
from bridge.core.portals.portals import Portals
from bridge.core.traffic.roomacts import LATE_SECONDS, RoomActs
from bridge.sdk.errors import PermanentFailure, TemporaryFailure
from bridge.sdk.events import Rank, RemoteChat, Removal
from bridge.sdk.ids import RemoteUserId, UserId
from bridge.sdk.login import LoginState
from tests.core.ground import ALICE, NEAR, Ground, changed
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
        self.acts: RoomActs = Portals(self.ground.house)._open(self.ground.portal).acts

    def connect(self) -> None:
        """Have the network there."""
        for one in self._supervisors:
            one.report(LoginState.CONNECTED)

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
