"""How fast the connections of one instance are made: few at a time, at a rate, in turn.

A server that comes back meets hundreds of us at once; it must see a trickle.
"""

import asyncio
import heapq
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from enum import IntEnum
from itertools import count


class Urgency(IntEnum):
    """Who goes first."""

    RELAY = 0
    """The ears of all."""
    SPEAKING = 1
    """Somebody waits for it."""
    RETURNING = 2


class Gate:
    """Lets through one after another, ``most`` at a time, ``rate`` a second, unevenly spaced.

    After a quiet time ``most`` may go at once.
    """

    def __init__(
        self, most: int, rate: float, jitter: Callable[[], float] = random.random
    ) -> None:
        self._most = most
        self._interval = 1 / rate
        self._jitter = jitter
        self._inside = 0
        self._next = 0.0
        self._numbers = count()
        self._waiting: list[tuple[int, int, asyncio.Future[None]]] = []
        self._timer: asyncio.TimerHandle | None = None

    @asynccontextmanager
    async def passage(self, urgency: IntEnum) -> AsyncIterator[None]:
        """Wait for the turn, those of least number first; the next may come when the block is
        left."""
        loop = asyncio.get_running_loop()
        turn: asyncio.Future[None] = loop.create_future()
        heapq.heappush(self._waiting, (urgency, next(self._numbers), turn))
        self._admit()
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._leave()
            raise
        try:
            yield
        finally:
            self._leave()

    def hold(self, seconds: float) -> None:
        """Let nobody through for a while: the server said that we come too fast."""
        loop = asyncio.get_running_loop()
        self._next = max(self._next, loop.time() + seconds * (1 + self._jitter() / 2))

    def _leave(self) -> None:
        self._inside -= 1
        self._admit()

    def _admit(self) -> None:
        if self._timer is not None:
            return
        loop = asyncio.get_running_loop()
        while self._waiting and self._inside < self._most:
            if self._waiting[0][2].done():
                heapq.heappop(self._waiting)  # Whoever waited was cancelled.
                continue
            if (pause := self._next - loop.time()) > 0:
                self._timer = loop.call_later(pause, self._admit_again)
                return
            turn = heapq.heappop(self._waiting)[2]
            self._inside += 1
            # At the rate over time, but never in step with anything else.
            first = loop.time() - self._interval * (self._most - 1)
            self._next = max(self._next, first) + self._interval * (0.5 + self._jitter())
            turn.set_result(None)

    def _admit_again(self) -> None:
        self._timer = None
        self._admit()
