"""Channels that are called otherwise now, as servers have told any connection of ours."""

import asyncio

from bridge.sdk.errors import DeliveryError
from bridge.sdk.ids import RemoteChatId
from bridge.sdk.module import Store

STORE_PREFIX = "renamed:"
MOST = 5000
"""Channels of one network that are noted. A server that renames more of them means no good."""
AGAIN_SECONDS = 5.0


class Renamed:
    """By the name that they are bridged by: the old one is free, and who comes to it makes an
    empty channel, or meets a stranger's."""

    def __init__(self) -> None:
        self._store: Store | None = None
        self._new: dict[RemoteChatId, str] = {}
        self._changed: set[RemoteChatId] = set()
        """Those of which the store does not know yet what is in memory."""
        self._has_changed = asyncio.Event()
        self._writing = asyncio.Lock()

    async def load(self, store: Store) -> None:
        """Read what an earlier process was told. Raises ``TemporaryFailure``."""
        if self._store is not None:
            return
        kept = await store.find(STORE_PREFIX)
        if self._store is not None:
            return  # Another has read it meanwhile, and what changed since may be written.
        for key, new in kept.items():
            chat = RemoteChatId(key.removeprefix(STORE_PREFIX))
            if chat not in self._changed:  # What was told since is newer.
                self._new.setdefault(chat, new.decode("utf-8", "replace"))
        self._store = store

    def note(self, chat: RemoteChatId, new: str) -> None:
        """Take note of a channel's new name; empty: the server does not tell it."""
        before = self._new.get(chat)
        if before is None and len(self._new) >= MOST:
            return
        self._new[chat] = new or before or ""
        if self._new[chat] != before:
            self._change(chat)

    def find(self, chat: RemoteChatId) -> str | None:
        """Return the channel's new name; None: it has its old one."""
        return self._new.get(chat)

    def forget(self, chat: RemoteChatId) -> None:
        """Take a channel's name for its own again."""
        # What is not read yet may be in the store.
        if self._new.pop(chat, None) is not None or self._store is None:
            self._change(chat)

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

    async def write(self) -> None:
        """Write what has changed. Raises ``TemporaryFailure``; it will be written all the same."""
        async with self._writing:
            while self._store is not None and self._changed:
                chat = next(iter(self._changed))
                new = self._new.get(chat)
                if new is None:
                    await self._store.delete(STORE_PREFIX + chat)
                else:
                    await self._store.put(STORE_PREFIX + chat, new.encode())
                # What changed once more meanwhile is written once more.
                if self._new.get(chat) == new:
                    self._changed.discard(chat)

    def _change(self, chat: RemoteChatId) -> None:
        self._changed.add(chat)
        self._has_changed.set()
