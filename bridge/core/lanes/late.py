"""What is left out when a network was away for so long that not all of it can still be said."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from bridge.core.lanes.progress import Row, item_of
from bridge.model import ItemId


@dataclass(frozen=True, slots=True, kw_only=True)
class Lateness:
    """When something is late, and how much of it is sent all the same."""

    after: float = 3600.0
    """Seconds."""
    keep: int = 50
    """How many of a room's newest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """What is left out."""

    last: ItemId
    """All up to this one."""
    number: int
    seconds: tuple[float, float]
    """How long the oldest and the newest of it have waited."""

    def span(self, now: datetime) -> str:
        """From when to when it was said, in words."""
        oldest, newest = (now - timedelta(seconds=one) for one in self.seconds)
        end = f"{newest:%H:%M}" if newest.date() == oldest.date() else f"{newest:%Y-%m-%d %H:%M}"
        return f"{oldest:%Y-%m-%d %H:%M} to {end} UTC"


def find_cut(places: Iterable[tuple[Row, int]], now: float, lateness: Lateness) -> Cut | None:
    """Choose what is left out of what waits, in order; None if all of it is sent.

    ``now`` is of ``monotonic``. Nothing that is not late is left out, nor any of the newest; to
    leave out no more than are kept is not worth it.
    """
    waiting = list(places)
    number = 0
    for row, _ in waiting:
        if now - row.landed_at < lateness.after:
            break
        number += 1
    number = min(number, len(waiting) - lateness.keep)
    if number <= lateness.keep:
        return None
    first, last = waiting[0][0], waiting[number - 1]
    return Cut(
        last=item_of(*last),
        number=number,
        seconds=(now - first.landed_at, now - last[0].landed_at),
    )
