"""What channels ban, as the relay knew it last: whatever else it finds when it comes in again was
set while it was away."""

from collections.abc import Iterable

from bridge.sdk.ids import RemoteChatId

MOST = 500
"""Bans of one channel. Of a list that is longer nothing is concluded."""


class BanLists:
    """One network's, in memory alone; of each mask only a number by which it is known again."""

    def __init__(self) -> None:
        self._known: dict[RemoteChatId, frozenset[int]] = {}

    def knows(self, chat: RemoteChatId) -> bool:
        """Whether the channel's list is known."""
        return chat in self._known

    def hear(self, chat: RemoteChatId, mask: str, *, is_set: bool) -> None:
        """Follow a change while we are there. Masks are folded."""
        known = self._known.get(chat)
        if known is not None:
            self._keep(chat, known | {hash(mask)} if is_set else known - {hash(mask)})

    def learn(self, chat: RemoteChatId, masks: Iterable[str]) -> set[str]:
        """Take a whole list; give those masks that are new, none where no list was known."""
        now, known = set(masks), self._known.get(chat)
        self._keep(chat, frozenset(map(hash, now)))
        return set() if known is None else {mask for mask in now if hash(mask) not in known}

    def forget(self, chat: RemoteChatId) -> None:
        """Know nothing of a channel any more."""
        self._known.pop(chat, None)

    def _keep(self, chat: RemoteChatId, known: frozenset[int]) -> None:
        if len(known) > MOST:
            self.forget(chat)
        else:
            self._known[chat] = known
