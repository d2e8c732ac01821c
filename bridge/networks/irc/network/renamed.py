"""Channels that are called otherwise now, as servers have told any connection of ours."""

from functools import partial

from bridge.networks.irc.network.behind import Behind
from bridge.sdk.ids import RemoteChatId
from bridge.sdk.module import Store

STORE_PREFIX = "renamed:"
MOST = 5000
"""Channels of one network that are noted. A server that renames more of them means no good."""


class Renamed:
    """By the name that they are bridged by: the old one is free, and who comes to it makes an
    empty channel, or meets a stranger's."""

    def __init__(self) -> None:
        self._new: dict[RemoteChatId, str] = {}
        self.behind = Behind[RemoteChatId](lambda chat: chat)

    async def load(self, store: Store) -> None:
        """Read what an earlier process was told. Raises ``TemporaryFailure``."""
        if self.behind.is_open:
            return
        kept = await store.find(STORE_PREFIX)
        if self.behind.is_open:
            return  # Another has read it meanwhile, and what changed since may be written.
        for key, new in kept.items():
            chat = RemoteChatId(key.removeprefix(STORE_PREFIX))
            if chat not in self.behind:  # What was told since is newer.
                self._new.setdefault(chat, new.decode("utf-8", "replace"))
        self.behind.open(partial(self._write, store))

    def note(self, chat: RemoteChatId, new: str) -> None:
        """Take note of a channel's new name; empty: the server does not tell it."""
        before = self._new.get(chat)
        if before is None and len(self._new) >= MOST:
            return
        self._new[chat] = new or before or ""
        if self._new[chat] != before:
            self.behind.change(chat)

    def find(self, chat: RemoteChatId) -> str | None:
        """Return the channel's new name; None: it has its old one."""
        return self._new.get(chat)

    def forget(self, chat: RemoteChatId) -> None:
        """Take a channel's name for its own again."""
        # What is not read yet may be in the store.
        if self._new.pop(chat, None) is not None or not self.behind.is_open:
            self.behind.change(chat)

    async def _write(self, store: Store, chat: RemoteChatId) -> None:
        new = self._new.get(chat)
        if new is None:
            await store.delete(STORE_PREFIX + chat)
        else:
            await store.put(STORE_PREFIX + chat, new.encode())
