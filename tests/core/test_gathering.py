"""Ghosts come into rooms a few at a time, room by room in turn."""

import asyncio
from dataclasses import dataclass, field

from bridge.core.rooms.gathering import ALL, EACH, Gathering
from bridge.sdk.errors import TemporaryFailure
from bridge.sdk.ids import InstanceId
from tests.rigs.trestle import wait_until

TURN = 0.01
IRC = InstanceId("irc")
AWAY = TemporaryFailure("the database is away")


@dataclass(eq=False)
class Room:
    """A room at whose door people wait."""

    waiting: int
    order: list["Room"]
    failures: int = 0
    failure: Exception = AWAY
    instance: InstanceId = IRC
    portions: list[int] = field(default_factory=list)

    async def admit(self, most: int) -> int:
        if self.failures:
            self.failures -= 1
            raise self.failure
        number = min(most, self.waiting)
        self.waiting -= number
        self.portions.append(number)
        self.order.append(self)
        return number


async def test_three_hundred_come_slowly_and_keep_nobody_else_waiting_for_long() -> None:
    gathering, order = Gathering(TURN), list[Room]()
    rooms = [Room(300, order), *(Room(3, order) for _ in range(20))]
    rooms[3].failures = 2
    started = asyncio.get_running_loop().time()
    async with asyncio.TaskGroup() as tasks:
        run = tasks.create_task(gathering.run())
        for room in rooms:
            gathering.want(room)
        await wait_until(lambda: not any(room.waiting for room in rooms))
        run.cancel()
    took = asyncio.get_running_loop().time() - started
    assert all(number <= EACH for room in rooms for number in room.portions)
    total = sum(sum(room.portions) for room in rooms)
    assert total == 360
    # Never faster than so many a turn; and the small ones did not wait for the large one.
    assert took >= TURN * (300 / EACH - 1)
    assert took >= TURN * (total / ALL - 1)
    ends = [max(at for at, one in enumerate(order) if one is room) for room in rooms]
    assert ends[0] == max(ends)
    assert max(ends[1:]) < 150


async def test_a_room_whose_wish_is_taken_back_is_asked_once_more_and_then_left_alone() -> None:
    gathering, order = Gathering(TURN), list[Room]()
    room = Room(300, order)
    async with asyncio.TaskGroup() as tasks:
        run = tasks.create_task(gathering.run())
        gathering.want(room)
        await wait_until(lambda: len(order) >= 3)
        room.waiting = 0
        await wait_until(lambda: not room.portions[-1])
        asked = len(order)
        other = Room(EACH * 5, order)
        gathering.want(other)
        await wait_until(lambda: not other.waiting)
        run.cancel()
    assert order.count(room) == asked


async def test_after_what_nobody_foresaw_a_room_has_its_turn_again_by_itself() -> None:
    gathering, order = Gathering(TURN, rest=0.1), list[Room]()
    bad, good = Room(1, order, 2, RuntimeError("nobody foresaw it")), Room(10, order)
    started = asyncio.get_running_loop().time()
    async with asyncio.TaskGroup() as tasks:
        run = tasks.create_task(gathering.run())
        gathering.want(bad)
        gathering.want(good)
        await wait_until(lambda: not bad.waiting)
        run.cancel()
    assert asyncio.get_running_loop().time() - started >= 0.2
    assert not good.waiting


async def test_what_nobody_foresaw_keeps_a_room_back_until_somebody_is_wanted_anew() -> None:
    gathering, order = Gathering(TURN), list[Room]()
    bad, good = Room(1, order, 1, RuntimeError("nobody foresaw it")), Room(1, order)
    async with asyncio.TaskGroup() as tasks:
        run = tasks.create_task(gathering.run())
        gathering.want(bad)
        await wait_until(lambda: not bad.failures)
        gathering.want(good)
        await wait_until(lambda: not good.waiting)
        assert bad.waiting == 1
        gathering.want(bad)
        await wait_until(lambda: not bad.waiting)
        run.cancel()
