"""Flood control: how many lines a server takes from one connection."""

import asyncio
from collections.abc import Callable


class Flood:
    """A token bucket: ``burst`` lines at once, ``rate`` lines a second after that.

    Reservations are in turn, so that two chats on one connection take turns by line.
    """

    def __init__(self, burst: int, rate: float, time: Callable[[], float] | None = None) -> None:
        self.burst = burst
        self._interval = 1 / rate
        self._slack = (burst - 1) * self._interval
        self._time = time or asyncio.get_running_loop().time
        self._next = 0.0

    def reserve(self) -> float:
        """Take the next place and return the seconds until it comes; 0 is now."""
        now = self._time()
        due = max(self._next, now - self._slack)
        self._next = due + self._interval
        return max(0.0, due - now)

    @property
    def pause(self) -> float:
        """The seconds until a place is free that nobody has reserved; 0 is now."""
        return max(0.0, self._next - self._time())

    @property
    def leisure(self) -> float:
        """The seconds until half the burst is free and nobody has reserved it; 0 is now."""
        return max(0.0, self._next + self._slack / 2 - self._time())

    def take(self) -> bool:
        """Take a place if it is free at once. For answers that may as well be left out."""
        if self._next > self._time():
            return False
        self.reserve()
        return True
