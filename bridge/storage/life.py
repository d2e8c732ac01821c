"""What was stored under a date to come, while the clock was ahead, is forgotten in time as well.

How old that is no date tells. So it is counted how long the database has lived, by a clock that
nobody sets, and noted how far its numbers had come when. Time of which it is not sure that it went
by, as while the machine was off, is not counted: by no clock is anything forgotten early.
"""

import json
import os
import secrets
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import date, timedelta
from pathlib import Path

from bridge.storage.datamap import RECEIVED_DAYS
from bridge.storage.partitions import AHEAD
from bridge.storage.pool import Database

_DAY = 86400.0
_LEAST_AGE = (RECEIVED_DAYS - 1) * _DAY
"""Seconds after which it is forgotten; what was stored just after midnight is kept as long."""

_MARK_EVERY = 4 * 3600.0
_BOOT = Path("/proc/sys/kernel/random/boot_id")
"""Another one each time that a machine is started."""

_NAMESPACE = Path("/proc/self/ns/time")

_HIGHEST = (
    "SELECT coalesce(max(newest.seq), 0) FROM unnest($1::date[]) AS d (day), LATERAL "
    "(SELECT seq FROM {0} WHERE {0}.day = d.day ORDER BY {0}.day DESC, seq DESC LIMIT 1) AS newest"
)
"""Each looked up in its day's index."""

_KEEP = (
    "UPDATE instance_state SET life = $1, journal_seq = greatest(journal_seq, $2), "
    "outbox_seq = greatest(outbox_seq, $3)"
)
"""The numbers go on from there, also if what has them is gone."""

_AT_ONCE = 20_000
_FORGET = tuple(
    f"DELETE FROM {table} WHERE day = $1 AND seq IN (SELECT seq FROM {table} "  # noqa: S608
    f"WHERE day = $1 AND seq <= $2 AND {over} ORDER BY seq LIMIT {_AT_ONCE})"
    for table, over in (
        ("journal", "done"),
        ("item", "NOT EXISTS (SELECT FROM journal WHERE day = $1 AND seq = item.seq)"),
        ("outbox", "state NOT IN ('queued', 'waiting')"),
    )
)
"""In slices, as a statement has its limit. What waits to be delivered stays, as those who deliver
it know of it."""

_YOUNGER = (
    "SELECT EXISTS (SELECT FROM journal WHERE day = $1 AND seq > $2) "
    "OR EXISTS (SELECT FROM outbox WHERE day = $1 AND seq > $3)"
)


def uptime() -> float:
    """Seconds since the machine was started: nobody sets this clock, and it goes on in sleep."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


def this_boot() -> str:
    """What tells one start of the machine from all others, or where nothing does, of us."""
    try:
        boot = _BOOT.read_text().strip()
    except OSError:
        return secrets.token_hex()
    with suppress(OSError):  # What runs in a time namespace of its own may have another uptime.
        boot += f" {os.readlink(_NAMESPACE)}"
    return boot


@dataclass(slots=True)
class _Mark:
    lived: float
    newest: str
    """The latest day that it was said to be, from then until the next mark."""
    journal: int
    outbox: int


class Life:
    """Note it at start and every hour."""

    def __init__(self, database: Database, boot: str) -> None:
        self._database = database
        self._boot = boot
        self._is_read = False
        self._lived = 0.0
        self._noted: tuple[str, float] = ("", 0.0)
        """On which start of which machine it was noted last, and at how many seconds of that."""
        self._marks: list[_Mark] = []

    async def note(self, days: Sequence[date], elapsed: float) -> None:
        """Note that it lives. ``days``: those that may have rows; ``elapsed``: seconds, by a clock
        that cannot be set and goes on while the machine does."""
        if not self._is_read:
            await self._read()
        boot, before = self._noted
        if boot == self._boot:
            self._lived += max(0.0, elapsed - before)
        self._noted = self._boot, elapsed
        today = self._database.clock.today().isoformat()
        last = self._marks[-1] if self._marks else None
        if last is None or self._lived - last.lived >= _MARK_EVERY:
            last = _Mark(self._lived, today, *[
                int(await self._database.core.fetchval(_HIGHEST.format(table), days))
                for table in ("journal", "outbox")
            ])  # fmt: skip
            self._marks.append(last)
        last.newest = max(last.newest, today)
        old = [mark for mark in self._marks if self._lived - mark.lived >= _LEAST_AGE]
        del self._marks[: len(old[:-1])]
        text = json.dumps([self._lived, self._noted, [asdict(mark) for mark in self._marks]])
        await self._database.core.execute(_KEEP, text, last.journal, last.outbox)

    async def forget(self, days: Sequence[date]) -> list[date]:
        """Delete what is old enough of those days, however late its date. Return those of which
        nothing is younger, and that are none which tables are kept ready for."""
        old = self._marks[0] if self._marks else None
        if old is None or self._lived - old.lived < _LEAST_AGE:
            return []
        newest = date.fromisoformat(max(mark.newest for mark in self._marks))
        whole = []
        for day in days:
            if day > newest + timedelta(days=AHEAD) and not await self._database.core.fetchval(
                _YOUNGER, day, old.journal, old.outbox
            ):
                whole.append(day)
                continue
            newest_old = (old.journal, old.journal, old.outbox)
            for statement, number in zip(_FORGET, newest_old, strict=True):
                while await self._database.core.execute(statement, day, number) != "DELETE 0":
                    pass
        return whole

    async def _read(self) -> None:
        text = await self._database.core.fetchval("SELECT life FROM instance_state")
        if text:
            self._lived, noted, marks = json.loads(text)
            self._noted = noted[0], noted[1]
            self._marks = [_Mark(**mark) for mark in marks]
        self._is_read = True
