"""Forgetting on time, as the data map says: days dropped as a whole, their keys destroyed."""

import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime, timedelta

import asyncpg

from bridge.model import Clock
from bridge.sdk.errors import ConfigError, TemporaryFailure
from bridge.storage.books import Account, Books, Direction
from bridge.storage.datamap import RECEIVED_DAYS, tables_by_day, tables_by_moment
from bridge.storage.door import at_the_door
from bridge.storage.keys import DayKeys
from bridge.storage.labels import After
from bridge.storage.life import Life, this_boot, uptime
from bridge.storage.partitions import days_of, drop_partition, wait_briefly
from bridge.storage.pool import Database
from bridge.storage.schema import Connection

log = logging.getLogger(__name__)

_COUNTED = {"journal": Direction.TO_NETWORK, "outbox": Direction.TO_MATRIX}
"""Of what was in these the counts stay."""
_RECEIVED = [name for name, keep in tables_by_day().items() if keep.days == RECEIVED_DAYS]
_CLOCK_LIMIT = 3600.0
_STEADY = 3600.0
"""Seconds that a clock must have gone right before several days are dropped at once."""

_SETTLED = 86400.0
"""Seconds after which a clock that was moved, and since then went right, is taken for right."""

_LATE_DAYS = 10
"""Days after which what is not delivered is in danger of being forgotten."""

_SOON = (
    "SELECT (SELECT count(*) FROM journal WHERE NOT done AND day < $1) + "
    "(SELECT count(*) FROM outbox WHERE state = 'queued' AND day < $1)"
)
_FORGET_CUTS = "UPDATE portal SET left_out = NULL WHERE split_part(left_out, '.', 1)::date < $1"
"""Up to where something was left out matters as long as an event of that day may be there."""


class Retention:
    """Run it at start and every hour. What is dropped stays dropped, so it trusts no clock
    blindly; ``elapsed`` is a clock that cannot be set, in seconds from the start of the machine
    that ``boot`` stands for."""

    def __init__(
        self, database: Database, day_keys: DayKeys, *, elapsed: Callable[[], float] = uptime,
        boot: str = "",
    ) -> None:  # fmt: skip
        self._database = database
        self._day_keys = day_keys
        self._books = Books(database)
        self._elapsed = elapsed
        self._life = Life(database, boot or this_boot())
        self._began: tuple[datetime, float] | None = None
        self._moved: tuple[datetime, float] | None = None
        """When it was seen that the clock was moved; both as in ``_began``."""
        self._forgotten = self._soon = 0
        self._dropped: set[date] = set()
        """Days that are dropped, and of which no caller was told: the run went no further."""

    def unfinished(self) -> Mapping[str, int]:
        """What was not delivered in time: ``forgotten`` since the start, and ``soon`` to be, if
        nothing happens."""
        return {"forgotten": self._forgotten, "soon": self._soon}

    async def run_or_complain(self) -> list[date]:
        """As :meth:`run_once`, but that a clock is wrong is only logged: it can be set right while
        everything goes on. Raises ``TemporaryFailure``."""
        try:
            return await self.run_once()
        except ConfigError as error:
            log.error("%s", error, extra={"event": "retention_refused"})
            return []

    async def run_once(self) -> list[date]:
        """Make partitions and keys ahead, drop what is over; return the days dropped, with those
        of earlier runs that failed after it.

        Drops nothing, and raises ``ConfigError``, when the database's clock and ours are more
        than an hour apart, or ours was moved by more than an hour less than a day ago. After a
        start it is an hour until more than one day is dropped at once: that may be a long rest
        of the program, or a wrong clock that somebody can still set right. Raises
        ``TemporaryFailure`` when the database is away or today's key cannot be made.
        """
        try:
            await self._forget()
        finally:
            # Whether anything may be dropped or not; after it, which makes room.
            self._day_keys.prepare()
        dropped, self._dropped = sorted(self._dropped), set()
        return dropped

    async def _forget(self) -> None:
        now, elapsed = self._database.clock.now(), self._elapsed()
        today = now.date()
        difference = await self._database.time_difference()
        await self._database.cover(today)
        with at_the_door():
            await self._life.note(await self._received_days(), elapsed)
        if abs(difference) > _CLOCK_LIMIT:
            raise ConfigError(
                f"the database's clock is {difference / 3600:+.1f} hours from ours; nothing is "
                "dropped until they agree. Set the machines' clocks"
            )
        running = self._running(now, elapsed)
        if running < _STEADY and (days := self._over(today))[1:]:
            log.warning(
                "%d days are over at once: they are forgotten in an hour. If the date is not %s, "
                "set this machine's clock before", len(days), today,
                extra={"event": "days_held"},
            )  # fmt: skip
            return
        with at_the_door():
            async with self._database.as_owner() as owner:
                await self._drop_days(owner, today)
            for table, keep in tables_by_moment().items():
                await self._drop_rows(table, keep)
            self._soon = await self._database.core.fetchval(
                _SOON, today - timedelta(days=_LATE_DAYS)
            )
            async with self._database.as_owner() as owner:
                await self._drop_to_come(owner, today)

    def _running(self, now: datetime, elapsed: float) -> float:
        """Seconds since the first run. Raises ``ConfigError`` if the clock was moved since."""
        if self._began is None:
            self._began = now, elapsed
        moved = _moved(self._began, now, elapsed)
        if abs(moved) <= _CLOCK_LIMIT:
            self._moved = None
        elif self._moved is None or abs(_moved(self._moved, now, elapsed)) > _CLOCK_LIMIT:
            self._moved = now, elapsed
        elif elapsed - self._moved[1] >= _SETTLED:
            self._began, self._moved = self._moved, None
        if self._moved is not None:
            raise ConfigError(
                f"this machine's clock was moved by {moved / 3600:+.1f} hours; nothing is dropped "
                "until it is set back, or has gone right for a day"
            )
        return elapsed - self._began[1]

    def _over(self, today: date) -> list[date]:
        """The days whose keys are to be destroyed."""
        first = oldest_kept(today, RECEIVED_DAYS)
        return [day for day in self._day_keys.days() if day < first]

    async def _drop_rows(self, table: str, keep: After) -> None:
        condition, moment = past(keep, self._database.clock)
        statement = f"DELETE FROM {table} WHERE {condition}"  # noqa: S608 - names of ours
        await self._database.core.execute(statement, moment)

    async def _drop_days(self, owner: Connection, today: date) -> None:
        over = [
            (table, day)
            for table, keep in tables_by_day().items()
            for day in await days_of(owner, table)
            if day < oldest_kept(today, keep.days)
        ]
        before = len(self._dropped)
        await self._drop_tables(owner, over)
        for day in self._over(today):
            self._day_keys.destroy(day)
            self._dropped.add(day)
        first = oldest_kept(today, RECEIVED_DAYS)
        self._day_keys.destroy_aside(first)
        await self._database.core.execute(_FORGET_CUTS, first)
        if number := len(self._dropped) - before:
            log.info("forgot %d days", number, extra={"event": "days_dropped"})

    async def _drop_to_come(self, owner: Connection, today: date) -> None:
        """Drop what bears a later date than it came on, as the clock was ahead, and is old."""
        first = oldest_kept(today, RECEIVED_DAYS)
        days = [day for day in await self._received_days() if day > first]
        for day in await self._life.forget(days):
            await self._drop_tables(owner, [(table, day) for table in _RECEIVED])
            self._day_keys.destroy(day)

    async def _received_days(self) -> list[date]:
        """The days for which there are tables of what is received."""
        async with self._database.core.acquire() as connection:
            found = [await days_of(connection, table) for table in _RECEIVED]  # type: ignore[arg-type]
        return sorted(set().union(*found))

    async def _drop_tables(self, owner: Connection, over: Sequence[tuple[str, date]]) -> None:
        """Drop days of tables; those of a table that somebody reads are left for another hour."""
        in_use: set[str] = set()
        await wait_briefly(owner)
        for table, day in over:
            if table in in_use:
                continue
            try:
                await self._drop_table(owner, table, day)
            except asyncpg.LockNotAvailableError:
                in_use.add(table)
            else:
                self._dropped.add(day)
        if in_use:
            log.warning(
                "somebody reads %s, for a backup say: what is over there is dropped later",
                ", ".join(sorted(in_use)), extra={"event": "tables_in_use"},
            )  # fmt: skip

    async def _drop_table(self, owner: Connection, table: str, day: date) -> None:
        account = None
        if table in _COUNTED:
            account = await self._count(table, day)
            await self._note_numbers(table, day)
        await drop_partition(owner, table, day)
        if account is not None and account.in_hand:
            self._forgotten += account.in_hand
            log.error(
                "%d events %s of %s are forgotten undelivered", account.in_hand,
                account.direction.replace("_", " "), day, extra={"event": "forgotten"},
            )  # fmt: skip

    async def _count(self, table: str, day: date) -> Account | None:
        try:
            (account,) = await self._books.count(day, [_COUNTED[table]])
        except TemporaryFailure as error:
            # That it is forgotten in time comes first.
            log.warning("a day is dropped uncounted: %s", error, extra={"event": "uncounted"})
            return None
        return account

    async def _note_numbers(self, table: str, day: date) -> None:
        """Keep how far the numbers had come: the next ones go on from there."""
        await self._database.core.execute(
            f"UPDATE instance_state SET {table}_seq = greatest({table}_seq, "  # noqa: S608
            f"(SELECT max(seq) FROM {table} WHERE day = $1))",
            day,
        )


def _moved(since: tuple[datetime, float], now: datetime, elapsed: float) -> float:
    """Seconds by which a clock was set forward (back: negative)."""
    return (now - since[0]).total_seconds() - (elapsed - since[1])


def past(keep: After, clock: Clock) -> tuple[str, date]:
    """What is true of a row that is over, in SQL, and the moment that stands in it as $1."""
    if keep.days:
        # Whole UTC days, as the keys with which such rows are sealed.
        condition = f"({keep.column} AT TIME ZONE 'UTC')::date < $1"
        return condition, oldest_kept(clock.today(), keep.days)
    return f"{keep.column} <= $1", clock.now()


def oldest_kept(today: date, days: int) -> date:
    """The first of so many days, of which today is the last."""
    return today - timedelta(days=days - 1)
