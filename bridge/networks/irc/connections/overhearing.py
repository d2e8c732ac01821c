"""What people say to one connection alone, for those who wait for it."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from bridge.networks.irc.connections.connection import Connection
from bridge.networks.irc.wire import Incoming, Source

MOST_PAUSES = 4
"""Somebody who goes on talking is heard for this many times the first pause."""

IsHeard = Callable[[Source], bool]

_CTCP = "\x01"


class Overheard:
    """What one person says to us alone for a while."""

    def __init__(self, nick: str, is_heard: IsHeard | None, question: str) -> None:
        self.nick = nick
        self.is_heard = is_heard
        self.question = question
        self.lines: list[Incoming] = []
        self.came_at = 0.0
        """When the last of them came, by the loop's clock."""
        self._came = asyncio.Event()

    def take(self, message: Incoming) -> None:
        """Take a line that the person said."""
        self.lines.append(message)
        self.came_at = asyncio.get_running_loop().time()
        self._came.set()

    async def wait(self, seconds: float, most: int) -> None:
        """Return when nothing was said for some seconds, or enough was."""
        loop = asyncio.get_running_loop()
        end = loop.time() + MOST_PAUSES * seconds
        while len(self.lines) < most and loop.time() < end:
            self._came.clear()
            try:
                async with asyncio.timeout(seconds if not self.lines else seconds / 4):
                    await self._came.wait()
            except TimeoutError:
                return


class Overhearing:
    """Those who wait for something on one connection."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._waiting: list[Overheard] = []

    @contextmanager
    def of(
        self, nick: str, is_heard: IsHeard | None = None, question: str = ""
    ) -> Iterator[Overheard]:
        """Hear what somebody says to us alone, for as long as the block lasts.

        ``is_heard``: whether it is one whose words come here, and nowhere else; None: it is.
        ``question``: it is what their program answers to that (CTCP, ``VERSION`` say); empty: what
        is no CTCP.
        """
        overheard = Overheard(nick, is_heard, question)
        self._waiting.append(overheard)
        try:
            yield overheard
        finally:
            self._waiting.remove(overheard)

    def handle(self, message: Incoming) -> bool:
        """Follow what somebody says; whether it was said to us alone and is waited for."""
        source = message.source
        if not self._waiting or source is None or not self._connection.is_own(message.named(0)):
            return False
        fold, answered = self._connection.isupport.fold, _answered(message)
        waiting = [
            one for one in self._waiting
            if one.question == answered and fold(one.nick) == fold(source.nick)
            and (one.is_heard is None or one.is_heard(source))
        ]  # fmt: skip
        for one in waiting:
            one.take(message)
        return bool(waiting)


def _answered(message: Incoming) -> str | None:
    """The CTCP question that a line answers; empty: it is no CTCP. None: it is one itself."""
    text = message.param(1)
    if not text.startswith(_CTCP):
        return ""
    if message.command != "NOTICE":
        return None
    return text[1:].removesuffix(_CTCP).partition(" ")[0].upper()
