"""Netsplits: people cut off are back soon as a rule, and the room need not see hundreds go."""

import asyncio
import random
import re
from collections.abc import Callable, Sequence

from bridge.networks.irc.wire import Incoming
from bridge.sdk.events import RemoteEvent, RemoteJoin, RemoteLeave, RemoteMembers, RemoteRename
from bridge.sdk.ids import RemoteChatId, RemoteUserId

_SERVERS = re.compile(r"[A-Za-z0-9*_-]+(\.[A-Za-z0-9*_-]+)+ [A-Za-z0-9*_-]+(\.[A-Za-z0-9*_-]+)+\Z")
"""The names of the two servers that lost each other. What people say when they quit is told with
a word or a sign before it."""
_MOST = 50_000

_Key = tuple[RemoteChatId, RemoteUserId]


class Splits:
    """Holds back that people left by a netsplit. Kept in memory only: after a restart, those who
    have not come back are not in the list of names either."""

    def __init__(self, seconds: float, now: Callable[[], float]) -> None:
        """``seconds``: how long at least; up to twice as long, so that not all go at once."""
        self._seconds = seconds
        self._now = now
        self._held: dict[_Key, tuple[float, RemoteLeave]] = {}
        self._changed = asyncio.Event()

    def filter(self, message: Incoming, events: Sequence[RemoteEvent]) -> list[RemoteEvent]:
        """Return what of the events of one line is news to the room now."""
        cut_off = message.command == "QUIT" and is_split(message.param(0))
        return [event for event in events if not self._holds(event, cut_off)]

    def due(self) -> list[RemoteEvent]:
        """Take out those who did not come back in time."""
        over = [key for key, (until, _) in self._held.items() if until <= self._now()]
        return [self._held.pop(key)[1] for key in over]

    def forget(self, chat: RemoteChatId) -> None:
        """Hold nobody of a chat any more."""
        self._held = {key: one for key, one in self._held.items() if key[0] != chat}

    async def wait_until_due(self) -> None:
        """Return when somebody may be due."""
        while not self._held:
            self._changed.clear()
            await self._changed.wait()
        first = min(until for until, _ in self._held.values())
        await asyncio.sleep(max(0.0, first - self._now()))

    def _holds(self, event: RemoteEvent, cut_off: bool) -> bool:
        match event:
            case RemoteLeave() if cut_off and self._seconds and len(self._held) < _MOST:
                until = self._now() + self._seconds * random.uniform(1, 2)  # noqa: S311 - jitter
                self._held[event.chat, event.user.id] = (until, event)
                self._changed.set()
                return True
            case RemoteJoin():
                return self._held.pop((event.chat, event.user.id), None) is not None
            case RemoteRename():
                # Another has the name now, whose ghost is in the room already.
                self._held.pop((event.chat, event.new.id), None)
            case RemoteMembers():
                for key in [key for key in self._held if key[0] == event.chat]:
                    del self._held[key]
        return False


def is_split(reason: str) -> bool:
    """Whether somebody quit because two servers lost each other."""
    return _SERVERS.match(reason) is not None
