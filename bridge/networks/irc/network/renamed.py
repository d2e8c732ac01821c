"""Channels that are called otherwise now, as servers have told any connection of ours."""

from bridge.sdk.ids import RemoteChatId


class Renamed:
    """By the name that they are bridged by: the old one is free, and who comes to it makes an
    empty channel, or meets a stranger's. Kept in memory."""

    def __init__(self) -> None:
        self._new: dict[RemoteChatId, str] = {}

    def note(self, chat: RemoteChatId, new: str) -> None:
        """Take note of a channel's new name; empty: the server does not tell it."""
        self._new[chat] = new or self._new.get(chat, "")

    def find(self, chat: RemoteChatId) -> str | None:
        """Return the channel's new name; None: it has its old one."""
        return self._new.get(chat)

    def forget(self, chat: RemoteChatId) -> None:
        """Take a channel's name for its own again."""
        self._new.pop(chat, None)
