"""What holds in memory at once, and is written behind: nobody waits for the database."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from typing import Generic, TypeVar

from bridge.sdk.errors import DeliveryError
from bridge.sdk.ids import RemoteChatId

AGAIN_SECONDS = 5.0

K = TypeVar("K")


async def try_all(all_of_them: Iterable[Callable[[], Awaitable[None]]]) -> None:
    """Do one after the other, whichever fails. Raises the first ``DeliveryError``, at the end."""
    failure: DeliveryError | None = None
    for do in all_of_them:
        try:
            await do()
        except DeliveryError as error:
            failure = failure or error
    if failure is not None:
        raise failure


class Behind(Generic[K]):
    """Of which things the store does not know yet what is in memory."""

    def __init__(self, chat_of: Callable[[K], RemoteChatId]) -> None:
        """``chat_of``: the chat that a thing is of."""
        self._chat_of = chat_of
        self._write_one: Callable[[K], Awaitable[None]] | None = None
        self._changed: dict[K, object] = {}
        """With the last change of each."""
        self._has_changed = asyncio.Event()
        self._writing = asyncio.Lock()

    def __contains__(self, key: object) -> bool:
        """Whether what is in memory is newer than what the store has."""
        return key in self._changed

    @property
    def is_open(self) -> bool:
        """Whether there is somewhere to write to."""
        return self._write_one is not None

    def open(self, write_one: Callable[[K], Awaitable[None]]) -> None:
        """Have it written from now on: one thing, as it is in memory then. That may raise a
        ``DeliveryError``."""
        self._write_one = write_one

    def change(self, key: K) -> None:
        """Take note that a thing has changed; before ``open``, too."""
        self._changed[key] = object()
        self._has_changed.set()

    async def write(self, chat: RemoteChatId | None = None) -> None:
        """Write what has changed, of this chat if one is named. Raises as ``try_all``."""
        changed = [one for one in self._changed if chat in {None, self._chat_of(one)}]
        await try_all(partial(self._write, key) for key in changed)

    async def _write(self, key: K) -> None:
        async with self._writing:
            # What changes once more meanwhile is written once more.
            while self._write_one is not None and key in self._changed:
                change = self._changed[key]
                await self._write_one(key)
                if self._changed[key] is change:
                    del self._changed[key]

    async def keep_writing(self) -> None:
        """Write what changes. Runs until cancelled; the rest is the next one's."""
        if self._changed:
            self._has_changed.set()
        while True:
            await self._has_changed.wait()
            self._has_changed.clear()
            try:
                await self.write()
            except DeliveryError:
                await asyncio.sleep(AGAIN_SECONDS)
                self._has_changed.set()
