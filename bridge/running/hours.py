"""When the hourly work is due: every hour, and as soon as another UTC day has begun."""

from datetime import date

_HOUR = 3600.0
_FIRST = 30.0
"""Seconds from the start to the first time."""
_AGAIN = 60.0
"""Seconds from a failure to the next try."""


class Hours:
    """Given the loop's time in seconds and today's UTC date."""

    def __init__(self, now: float, today: date) -> None:
        self._next = now + _FIRST
        self._today = today

    def are_due(self, now: float, today: date) -> bool:
        """Whether it is to be done now; then it is taken as done."""
        is_another_day, self._today = today != self._today, today
        if now < self._next and not is_another_day:
            return False
        self._next = now + _HOUR
        return True

    def note_failure(self, now: float) -> None:
        """Have it done again soon."""
        self._next = now + _AGAIN
