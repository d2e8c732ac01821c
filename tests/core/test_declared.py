"""What the settings do not declare any more is undone, if need be later."""

import asyncio
import json
from collections.abc import Mapping
from typing import Any, cast

import pytest

from bridge.core.portals.declared import DeclaredRooms
from bridge.matrix.namespaces import Namespaces
from bridge.sdk.errors import TemporaryFailure
from bridge.sdk.ids import InstanceId, RoomId, UserId
from tests.rigs.trestle import wait_until

DICE = InstanceId("dice")
MARK = "declared " + json.dumps(["#a:test.example", "bot", DICE])


class Around:
    """Marks of one bot's room, and a homeserver that fails twice."""

    def __init__(self) -> None:
        self.marks = {MARK: json.dumps(["!room"]).encode()}
        self.failures = 2
        self.seats = {(UserId("@_trestle_dice:test.example"), RoomId("!room"))}

    async def find(self, prefix: str) -> Mapping[str, bytes]:
        return dict(self.marks)

    async def delete(self, key: str) -> None:
        del self.marks[key]

    async def leave(self, room: RoomId, user: UserId, *, reason: str) -> None:
        if self.failures:
            self.failures -= 1
            raise TemporaryFailure("the homeserver is away")

    async def move_out(self, user: UserId, room: RoomId) -> None:
        self.seats.discard((user, room))


async def test_a_room_that_cannot_be_undeclared_just_now_is_tried_again() -> None:
    around = Around()
    namespaces = Namespaces(server_name="test.example", bots=[DICE])
    parts = cast(Any, around)
    rooms = DeclaredRooms(parts, parts, parts, namespaces, parts, parts)
    rooms.residence = parts
    async with asyncio.TaskGroup() as tasks:
        run = tasks.create_task(rooms.run(first_wait=0.01))
        await wait_until(lambda: not around.marks)
        run.cancel()
    assert (around.failures, around.seats) == (0, set())


async def test_a_mark_that_makes_no_sense_keeps_no_other_from_being_taken_back(
    caplog: pytest.LogCaptureFixture,
) -> None:
    around = Around()
    broken = MARK.replace("#a:", "#0:")
    around.marks = {broken: b"nonsense", **around.marks}
    namespaces = Namespaces(server_name="test.example", bots=[DICE])
    parts = cast(Any, around)
    rooms = DeclaredRooms(parts, parts, parts, namespaces, parts, parts)
    rooms.residence = parts
    async with asyncio.TaskGroup() as tasks:
        run = tasks.create_task(rooms.run(first_wait=0.01))
        await wait_until(lambda: list(around.marks) == [broken])
        (said,) = await rooms.drift()
        assert said.startswith("#0:test.example: dice is not in the list any more, and cannot be")
        around.marks[broken] = json.dumps(["!room"]).encode()
        await wait_until(lambda: not around.marks)
        run.cancel()
    assert await rooms.drift() == []
    assert {vars(one)["event"] for one in caplog.records} == {"round_failed"}
