"""Ghosts come into rooms, and leave them, a few at a time: no channel of hundreds is a storm."""

import asyncio
import logging
from typing import Protocol

from bridge.sdk.errors import TrestleError
from bridge.sdk.ids import InstanceId

log = logging.getLogger(__name__)

EACH, ALL = 2, 10
"""So many of one room, and of all rooms, in one turn."""
TURN_SECONDS = 1.0
_REST_SECONDS = 600.0
"""For so long a room has no turn after what nobody foresaw."""


class Waits(Protocol):
    """A room with people at its door."""

    @property
    def instance(self) -> InstanceId:
        """The network that it is bridged to."""
        ...

    async def admit(self, most: int) -> int:
        """Have up to ``most`` come or go; how many that were, 0 if nobody waits any more.

        Raises a ``TrestleError`` when it cannot be just now.
        """
        ...


class Gathering:
    """Everybody who waits, room by room in turn. Kept in memory: who is wanted is told anew by the
    network after a restart, and who is there already is left alone."""

    def __init__(self, turn: float = TURN_SECONDS, rest: float = _REST_SECONDS) -> None:
        """``turn``: seconds from one turn to the next; ``rest``: until a room has its turn again
        in which nobody foresaw what failed."""
        self._turn = turn
        self._rest = rest
        self._rooms: dict[Waits, None] = {}
        self._resting: dict[Waits, float] = {}
        """When their rest is over, by the loop's clock."""
        self._changed = asyncio.Event()

    def want(self, room: Waits) -> None:
        """Somebody waits for a room."""
        self._rooms[room] = None
        self._changed.set()

    async def run(self) -> None:
        """Have them come and go until cancelled."""
        while True:
            self._end_rests()
            while not self._rooms:
                await self._wait()
            left = ALL
            for room in list(self._rooms):
                if left <= 0:
                    break
                left -= await self._admit(room, min(EACH, left))
            await asyncio.sleep(self._turn)

    async def _wait(self) -> None:
        """Return when somebody may wait, or a rest is over."""
        self._changed.clear()
        try:
            async with asyncio.timeout_at(min(self._resting.values(), default=None)):
                await self._changed.wait()
        except TimeoutError:
            self._end_rests()

    def _end_rests(self) -> None:
        now = asyncio.get_running_loop().time()
        for room in [room for room, until in self._resting.items() if until <= now]:
            del self._resting[room]
            self._rooms.setdefault(room)

    async def _admit(self, room: Waits, most: int) -> int:
        # Its turn comes again after all others'.
        del self._rooms[room]
        try:
            number = await room.admit(most)
        except TrestleError as error:
            log.info("nobody comes or goes just now: %s", error,
                     extra={"event": "gathering_waits", "instance": room.instance})  # fmt: skip
            number = 1
        except Exception:
            # What nobody foresaw is this room's trouble, and no other's.
            log.exception(
                "nobody comes into a room, or leaves it; that is tried again in ten minutes",
                extra={"event": "gathering_failed", "instance": room.instance},
            )
            self._resting[room] = asyncio.get_running_loop().time() + self._rest
            return 1
        if number:
            self._rooms[room] = None
        return number
