"""The tasks that empty lanes are few, and end with their group."""

import asyncio
from collections import deque

import pytest

from bridge.core.outbox.carriers import Carriers
from bridge.core.outbox.roomlane import RoomLane
from bridge.sdk.ids import RoomId


def lane(room: str) -> RoomLane:
    return RoomLane(RoomId(room), deque())


class Emptied:
    """What was emptied, by which task; ``!odd`` raises, and the others wait for their turn."""

    def __init__(self) -> None:
        self.by: dict[str, asyncio.Task[object] | None] = {}
        self.turn = asyncio.Event()
        self.turn.set()

    async def empty(self, lane: RoomLane) -> None:
        self.by[lane.room] = asyncio.current_task()
        await self.turn.wait()
        if lane.room == "!odd":
            raise RuntimeError("nobody foresaw it")


async def some_turns() -> None:
    """Let all go on that can."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_who_has_emptied_a_lane_takes_the_next_one_and_nobody_waits_for_another() -> None:
    emptied = Emptied()
    async with asyncio.TaskGroup() as group:
        carriers = Carriers(group, emptied.empty)
        carriers.take(lane("!a"))
        await some_turns()
        emptied.turn.clear()
        carriers.take(lane("!b"))
        carriers.take(lane("!c"))
        await some_turns()
        assert set(emptied.by) == {"!a", "!b", "!c"}
        assert emptied.by["!a"] is emptied.by["!b"] is not emptied.by["!c"]
        assert len(group._tasks) == 2
        for task in emptied.by.values():
            assert task is not None
            task.cancel()


async def test_after_a_rush_only_some_stay() -> None:
    emptied = Emptied()
    emptied.turn.clear()
    async with asyncio.TaskGroup() as group:
        carriers = Carriers(group, emptied.empty)
        for number in range(500):
            carriers.take(lane(f"!{number}"))
        await some_turns()
        assert len(group._tasks) == 500
        emptied.turn.set()
        await some_turns()
        assert len(group._tasks) == 64
        for task in set(group._tasks):
            task.cancel()


async def test_what_nobody_foresaw_ends_the_group_with_those_that_are_idle() -> None:
    emptied, group = Emptied(), asyncio.TaskGroup()
    carriers = Carriers(group, emptied.empty)

    async def meet_the_odd() -> None:
        async with group:
            emptied.turn.clear()
            carriers.take(lane("!a"))
            carriers.take(lane("!b"))
            await some_turns()
            emptied.turn.set()
            await some_turns()
            carriers.take(lane("!odd"))
            await asyncio.Event().wait()

    with pytest.raises(ExceptionGroup) as failed:
        await meet_the_odd()
    assert failed.group_contains(RuntimeError, match="nobody foresaw it")
    with pytest.raises(RuntimeError, match="finished"):
        carriers.take(lane("!late"))
