"""Tasks that empty lanes. In a burst most lines come alone in their rooms: a task for each would
cost as much as all that decides how it is sent."""

import asyncio
from collections.abc import Awaitable, Callable

from bridge.core.outbox.roomlane import RoomLane

_MOST_IDLE = 64
"""So many wait for another lane once theirs is empty."""


class Carriers:
    """Each empties one lane at a time, as a task of a group that ends them all."""

    def __init__(
        self, group: asyncio.TaskGroup, empty: Callable[[RoomLane], Awaitable[None]]
    ) -> None:
        """What ``empty`` raises is the group's."""
        self._group = group
        self._empty = empty
        self._idle: list[asyncio.Future[RoomLane]] = []

    def take(self, lane: RoomLane) -> None:
        """Have the lane emptied, from the loop's next turn on.

        Raises ``RuntimeError`` when the group is ending.
        """
        while self._idle:
            wanted = self._idle.pop()
            if not wanted.done():  # Else the group is ending.
                wanted.set_result(lane)
                return
        carrying = self._carry(lane)
        try:
            self._group.create_task(carrying, name="sender")
        except RuntimeError:
            carrying.close()
            raise

    async def _carry(self, lane: RoomLane) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._empty(lane)
            if len(self._idle) >= _MOST_IDLE:
                return
            wanted: asyncio.Future[RoomLane] = loop.create_future()
            self._idle.append(wanted)
            lane = await wanted
