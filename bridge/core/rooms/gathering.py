"""Ghosts come into rooms, and leave them, a few at a time: no channel of hundreds is a storm."""

import asyncio
import logging
from typing import Protocol

from bridge.sdk.errors import TrestleError

log = logging.getLogger(__name__)

EACH, ALL = 2, 10
"""So many of one room, and of all rooms, in one turn."""
TURN_SECONDS = 1.0


class Waits(Protocol):
    """A room with people at its door."""

    async def admit(self, most: int) -> int:
        """Have up to ``most`` come or go; how many that were, 0 if nobody waits any more.

        Raises a ``TrestleError`` when it cannot be just now.
        """
        ...


class Gathering:
    """Everybody who waits, room by room in turn. Kept in memory: who is wanted is told anew by the
    network after a restart, and who is there already is left alone."""

    def __init__(self, turn: float = TURN_SECONDS) -> None:
        """``turn``: seconds from one turn to the next."""
        self._turn = turn
        self._rooms: dict[Waits, None] = {}
        self._changed = asyncio.Event()

    def want(self, room: Waits) -> None:
        """Somebody waits for a room."""
        self._rooms[room] = None
        self._changed.set()

    async def run(self) -> None:
        """Let them in until cancelled."""
        while True:
            while not self._rooms:
                self._changed.clear()
                await self._changed.wait()
            left = ALL
            for room in list(self._rooms):
                if left <= 0:
                    break
                left -= await self._admit(room, min(EACH, left))
            await asyncio.sleep(self._turn)

    async def _admit(self, room: Waits, most: int) -> int:
        # Its turn comes again after all others'.
        del self._rooms[room]
        try:
            number = await room.admit(most)
        except TrestleError as error:
            log.info("nobody is let in just now: %s", error, extra={"event": "gathering_waits"})
            number = 1
        except Exception:
            # What nobody foresaw is this room's trouble, and no other's. It has its turn again
            # when somebody is wanted there anew.
            log.exception("nobody is let into a room", extra={"event": "gathering_failed"})
            return 1
        if number:
            self._rooms[room] = None
        return number
