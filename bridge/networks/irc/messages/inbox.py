"""What was read from a network and is not stored yet."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

from bridge.networks.irc.connections.flag import Flag

T = TypeVar("T")
Deed = Callable[[], Awaitable[None]]
"""Something else that is to be done apart from the reading."""


class Inbox(Generic[T]):
    """Hands things on apart from the reading: a slow database must not keep us from answering
    the server's PING. When it is full, reading waits.

    Things of one ``lane`` are handed on one after another, those of different lanes at once: so
    what many rooms have to store shares one commit.
    """

    def __init__(
        self,
        handle: Callable[[T], Awaitable[None]],
        lane: Callable[[T], Hashable],
        *,
        most: int = 2000,
    ) -> None:
        self._handle = handle
        self._lane = lane
        self._most = most
        self._held = 0
        self._lanes: dict[Hashable, deque[T]] = {}
        self._workers: asyncio.TaskGroup | None = None
        self._closed = False
        self._changed = Flag()

    async def put(self, *items: T) -> None:
        """Add them, with nothing between them; waits while there are too many."""
        self.add(*items)
        # They are in already: a caller that is cancelled here loses nothing.
        while self._held > self._most:
            await self._wait()

    def add(self, *items: T) -> None:
        """Add them however many there are: for what comes at the end, when nobody reads on."""
        for item in items:
            self._held += 1
            lane = self._lane(item)
            if lane in self._lanes:
                self._lanes[lane].append(item)
            else:
                self._lanes[lane] = deque([item])
                self._start(lane)

    def close(self) -> None:
        """Say that nothing more comes."""
        self._closed = True
        self._changed.set()

    async def work(self) -> None:
        """Hand on until closed and empty. May be called again after a cancellation."""
        try:
            async with asyncio.TaskGroup() as self._workers:
                for lane in self._lanes:
                    self._start(lane)
                while self._lanes or not self._closed:
                    await self._wait()
        except ExceptionGroup as group:
            raise group.exceptions[0] from group
        finally:
            self._workers = None

    def _start(self, lane: Hashable) -> None:
        if self._workers is not None:
            self._workers.create_task(self._empty(lane))

    async def _empty(self, lane: Hashable) -> None:
        items = self._lanes[lane]
        while items:
            # Taken out afterwards, so that a cancelled one is handed on again.
            await self._handle(items[0])
            items.popleft()
            self._held -= 1
            self._changed.set()
        del self._lanes[lane]

    async def _wait(self) -> None:
        self._changed.clear()
        await self._changed.wait()
