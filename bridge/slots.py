"""Turns to do something, of which so many may be had at a time."""

import asyncio
from collections import deque


class Slots:
    """A semaphore for what each event passes: ``asyncio.Semaphore`` costs four times as much, most
    of it to look through those who wait when there are none.

    Whoever waits longest is next; whoever comes while others wait goes behind them.
    """

    __slots__ = ("_free", "_waiting")

    def __init__(self, number: int) -> None:
        self._free = number
        self._waiting: deque[asyncio.Future[None]] = deque()

    @property
    def is_any_free(self) -> bool:
        """Whether :meth:`take` would not wait."""
        return self._free > 0

    async def take(self) -> None:
        """Wait for a slot, and have it until :meth:`give`."""
        if self._free:
            self._free -= 1
            return
        mine: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(mine)
        try:
            await mine
        except BaseException:
            if mine.done() and not mine.cancelled():
                self.give()  # It came while its taker was being cancelled.
            raise

    def give(self) -> None:
        """Let go of a slot."""
        while self._waiting:
            mine = self._waiting.popleft()
            if not mine.done():
                mine.set_result(None)
                return
        self._free += 1

    __aenter__ = take

    async def __aexit__(self, *_: object) -> None:
        self.give()
