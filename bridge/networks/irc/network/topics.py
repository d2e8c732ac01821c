"""The topics that rooms have set in channels, by which a network's echo of them is known."""

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

from bridge.sdk.errors import PermanentFailure
from bridge.sdk.ids import RemoteChatId

_MOST = 20
"""Topics of one channel that are remembered at most."""


class Topics:
    """Those that were not heard yet, in the order in which they were set."""

    def __init__(self) -> None:
        self._set: dict[RemoteChatId, deque[str]] = {}

    @contextmanager
    def setting(self, chat: RemoteChatId, topic: str) -> Iterator[None]:
        """Expect to hear the topic that is set in the block, unless the network refuses it."""
        expected = self._set.setdefault(chat, deque(maxlen=_MOST))
        expected.append(topic)
        try:
            yield
        except PermanentFailure:
            if topic in expected:
                expected.remove(topic)
            raise

    def hear(self, chat: RemoteChatId, topic: str, *, is_ours: bool) -> bool:
        """Take note of a channel's new topic, set by one of us or by others; whether a room has
        set it, and knows."""
        expected = self._set.get(chat, deque())
        if not is_ours or topic not in expected:
            # What was set before is not the channel's any more, or comes as news after this.
            expected.clear()
            return False
        while expected.popleft() != topic:
            pass
        return True

    def forget(self, chat: RemoteChatId) -> None:
        """Expect nothing any more: what was set while the channel was not heard is told anew."""
        self._set.pop(chat, None)
