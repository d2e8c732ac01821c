"""What was read from a network and is not stored yet."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Inbox(Generic[T]):
    """Hands things on one after another, apart from the reading: a slow database must not
    keep us from answering the server's PING. When it is full, reading waits."""

    def __init__(self, handle: Callable[[T], Awaitable[None]], *, most: int = 2000) -> None:
        self._handle = handle
        self._most = most
        self._items: deque[T] = deque()
        self._closed = False
        self._changed = asyncio.Event()

    async def put(self, item: T) -> None:
        """Add one; waits while it is full."""
        while len(self._items) >= self._most:
            await self._wait()
        self._items.append(item)
        self._changed.set()

    def close(self) -> None:
        """Say that nothing more comes."""
        self._closed = True
        self._changed.set()

    async def work(self) -> None:
        """Hand on until closed and empty. May be called again after a cancellation."""
        while True:
            while self._items:
                # Taken out afterwards, so that a cancelled one is handed on again.
                await self._handle(self._items[0])
                self._items.popleft()
                self._changed.set()
            if self._closed:
                return
            await self._wait()

    async def _wait(self) -> None:
        self._changed.clear()
        await self._changed.wait()
