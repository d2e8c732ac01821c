"""On which days something was stored, as clocks went."""

from collections.abc import Iterable
from datetime import date, timedelta

_PUT_BACK = timedelta(days=7)
"""By how much a clock is put back at the most: days beyond that are of one that was all wrong."""

DAYS = (
    "WITH RECURSIVE days AS ((SELECT min(day) AS day FROM outbox) UNION ALL "
    "SELECT (SELECT min(day) FROM outbox WHERE day > days.day) FROM days WHERE day IS NOT NULL) "
    "SELECT day FROM days WHERE day IS NOT NULL"
)
"""Those of the outbox, each looked up in the index."""


class StoredDays:
    """Tells a clock that was put back, be it from one that was years ahead for a while."""

    def __init__(self, days: Iterable[date] = ()) -> None:
        self._days = set(days)
        self._newest: date | None = None
        self._is_put_back = False

    def note(self, day: date) -> bool:
        """Take note that something is stored on a day; whether that was so on later ones, too."""
        if day != self._newest:
            self._newest = day
            self._days.add(day)
            self._is_put_back = any(day < one <= day + _PUT_BACK for one in self._days)
        return self._is_put_back
