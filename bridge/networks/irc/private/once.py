"""Answers that are given once: repeated they help nobody, and a stranger could have us flood."""

from collections.abc import Callable

FORGET_SECONDS = 3600.0
MOST_EACH = 5
"""So many different things are said to one person in that time."""
MOST = 1000
"""So many are remembered; the oldest is forgotten first."""


class Once:
    """What was said to whom within the last hour."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._said: dict[tuple[str, str], float] = {}
        """When, the oldest first."""

    def may_say(self, who: str, what: str) -> bool:
        """Whether it is new to somebody, whom not much was told yet."""
        now = self._now()
        while self._said and now - next(iter(self._said.values())) > FORGET_SECONDS:
            del self._said[next(iter(self._said))]
        if (who, what) in self._said:
            return False
        return sum(one == who for one, _ in self._said) < MOST_EACH

    def note(self, who: str, what: str) -> None:
        """Take note that it was said."""
        while len(self._said) >= MOST:
            del self._said[next(iter(self._said))]
        self._said[who, what] = self._now()
