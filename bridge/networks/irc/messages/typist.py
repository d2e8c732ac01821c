"""Shows that a connection's owner is writing (IRCv3 client tag ``typing``)."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from bridge.networks.irc.connections.connection import Connection
from bridge.networks.irc.connections.flag import Flag
from bridge.networks.irc.protocol.acts import TAGS, typing
from bridge.networks.irc.wire import Line

APART_SECONDS = 3.0
"""How often it is said of a channel, at most, and as long as somebody writes."""
LONGEST_SECONDS = 60.0
"""Somebody who is said to write for so long has gone away."""


@dataclass(slots=True)
class _Channel:
    until: float
    said_at: float | None = None
    is_over: bool = False
    """Nothing was sent: ``done`` is said when it may be."""


class Typist:
    """One connection's notices. Best effort: ``say`` leaves out what flood control has no room
    for."""

    def __init__(self, say: Callable[[Line], object], now: Callable[[], float]) -> None:
        self._say = say
        self._now = now
        self._channels: dict[str, _Channel] = {}
        self._woken = Flag()

    @classmethod
    def on(cls, connection: Connection) -> "Typist":
        """One that says it while the server takes tags, and flood control has room."""

        def say(one: Line) -> None:
            if TAGS in connection.capabilities:  # The server may take them away.
                connection.answer(one)

        return cls(say, asyncio.get_running_loop().time)

    def begin(self, channel: str) -> None:
        """Say from now on that the owner writes."""
        until = self._now() + LONGEST_SECONDS
        known = self._channels.setdefault(channel, _Channel(until))
        known.until, known.is_over = until, False
        self._woken.set()

    def cease(self, channel: str) -> None:
        """Say that the owner writes no more, and has sent nothing."""
        known = self._channels.get(channel)
        if known is not None:
            known.is_over = True
            self._woken.set()

    def spoke(self, channel: str) -> None:
        """Say no more of it: the message itself tells."""
        known = self._channels.get(channel)
        if known is not None:
            known.until, known.is_over = 0.0, False
            self._woken.set()

    def work(self) -> float | None:
        """Say what may be said now; return in how many seconds to look again, None if never."""
        now, soonest = self._now(), None
        for channel, one in list(self._channels.items()):
            free_at = 0.0 if one.said_at is None else one.said_at + APART_SECONDS
            is_silent = one.is_over or one.until <= now
            if free_at <= now:
                if not is_silent:
                    self._say(typing(channel, "active"))
                    one.said_at, free_at = now, now + APART_SECONDS
                else:
                    if one.is_over and one.said_at is not None:
                        self._say(typing(channel, "done"))
                    del self._channels[channel]
                    continue
            soonest = free_at if soonest is None else min(soonest, free_at)
        return None if soonest is None else max(0.0, soonest - now)

    async def run(self) -> None:
        """Work until cancelled."""
        while True:
            self._woken.clear()
            pause = self.work()
            try:
                async with asyncio.timeout(pause):
                    await self._woken.wait()
            except TimeoutError:
                continue
