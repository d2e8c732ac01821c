"""What is done to a ghost in a room is done in its chat soon, or not at all."""

import asyncio
from datetime import date
from itertools import count
from types import SimpleNamespace
from typing import Any, cast

import pytest

from bridge.core.lane import Item, Lane
from bridge.core.portals import Portals
from bridge.core.progress import Row
from bridge.core.roomacts import LATE_SECONDS, RoomActs
from bridge.model import Permission, RowId
from bridge.sdk.errors import TemporaryFailure
from bridge.sdk.events import Rank, RemoteChat, Removal
from bridge.sdk.ids import RemoteUserId, UserId
from tests.core.ground import ALICE, NEAR, ROOM, Ground

BEA = UserId("@bea:test.example")
NUMBERS = count(1)


class Channel:
    """A chat that does whatever it is told to."""

    def __init__(self) -> None:
        self.done: list[tuple[object, ...]] = []

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
        nobody = SimpleNamespace(cover=self.ground.cover, waiting=())
        house.policies = house.blocks = nobody
        house.permissions = SimpleNamespace(of=lambda user, instance: Permission.ADMIN)
        house.instances = {NEAR: SimpleNamespace(
            name=NEAR, relay=session, find_session=lambda user: session if user == BEA else None,
        )}  # fmt: skip
        self.acts: RoomActs = Portals(house)._open(self.ground.portal).acts

    @property
    def said(self) -> list[str]:
        """What the room was told."""
        return [str(one.content.get("body")) for one in self.ground.waiting]


def changed(age: float, kind: str, content: dict[str, Any], **more: Any) -> Item:
    """A change of the room's state that came so many seconds ago."""
    event = {
        "type": kind, "room_id": ROOM, "sender": ALICE, "event_id": "$1", "content": content,
        "state_key": "", **more,
    }  # fmt: skip
    landed_at = asyncio.get_running_loop().time() - age
    row = Row(RowId(date(2026, 11, 27), next(NUMBERS)), 1, landed_at=landed_at)
    return Item(row, 0, event, cast(Lane, None))


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
