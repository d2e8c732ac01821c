"""What is done to a ghost in a room is done in its chat soon, or not at all."""

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest

from bridge.core.lanes.lane import Item
from bridge.core.permissions.blocks import Blocks
from bridge.core.permissions.permissions import Permissions
from bridge.core.permissions.policyrules import InForce
from bridge.core.portals.portals import Portals
from bridge.core.traffic.roomacts import LATE_SECONDS, RoomActs
from bridge.model import Permission
from bridge.sdk.errors import PermanentFailure, TemporaryFailure
from bridge.sdk.events import Rank, RemoteChat, Removal
from bridge.sdk.ids import RemoteUserId, UserId
from tests.core.ground import NEAR, Ground, changed

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
        session = SimpleNamespace(
            client=self.channel, supervisor=SimpleNamespace(connected=asyncio.Event())
        )
        self.connected = session.supervisor.connected
        house = cast(Any, self.ground.house)
        house.policies, house.blocks = InForce(), Blocks(cast(Any, None))
        levels = {"*": Permission.ADMIN}
        house.permissions = Permissions(levels, "test.example", self.ground.namespaces.is_ours)
        house.instances = {NEAR: SimpleNamespace(
            name=NEAR, relay=session, find_session=lambda user: session if user == BEA else None,
        )}  # fmt: skip
        self.acts: RoomActs = Portals(house)._open(self.ground.portal).acts

    @property
    def said(self) -> list[str]:
        """What the room was told."""
        return [str(one.content.get("body")) for one in self.ground.waiting]


async def test_what_comes_late_is_done_to_our_own_people_and_the_topic_and_to_no_ghost() -> None:
    stage, late = Stage(), LATE_SECONDS + 1
    stage.connected.set()
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
    stage.connected.set()
    await stage.acts.remove(membership(stage, 30, "ban"))
    await stage.acts.handle(power(stage, 30, bob=50, bea=0))
    assert stage.channel.done == [("bob", Removal.BAN), ("bob", Rank.MODERATOR)]


@pytest.mark.parametrize("came", [0, 30])
async def test_what_was_done_long_ago_is_late_however_soon_after_it_came(came: float) -> None:
    """As after an hour's outage of ours, when it is tried again, and in what is caught up with."""
    stage = Stage()
    stage.connected.set()
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
    session = SimpleNamespace(client=own, supervisor=SimpleNamespace(connected=asyncio.Event()))
    session.supervisor.connected.set()
    near = cast(Any, stage.ground.house).instances[NEAR]
    near.find_session = lambda user: session
    # The relay is not connected, and then it breaks while it does it.
    for number in (1, 2):
        await stage.acts.remove(membership(stage, 0, "ban"))
        assert len(own.done) == len(stage.said) == number
        assert stage.said[-1].endswith("did not take the ban of bob: you are no operator there.")
        stage.connected.set()
        stage.channel.refusal = TemporaryFailure("the connection broke")
    assert len(stage.channel.done) == 1
