"""Forgetting on time, as the data map says: days dropped as a whole, their keys destroyed."""

import logging
from datetime import date, timedelta

from bridge.model import Clock
from bridge.sdk.errors import ConfigError, TemporaryFailure
from bridge.storage.books import Books, Direction
from bridge.storage.datamap import RECEIVED_DAYS, tables_by_day, tables_by_moment
from bridge.storage.door import at_the_door
from bridge.storage.keys import DayKeys
from bridge.storage.labels import After
from bridge.storage.partitions import days_of, drop_partition
from bridge.storage.pool import Database
from bridge.storage.schema import Connection

log = logging.getLogger(__name__)

_COUNTED = {"journal": Direction.TO_NETWORK, "outbox": Direction.TO_MATRIX}
"""Of what was in these the counts stay."""
_CLOCK_LIMIT = 3600.0


class Retention:
    """Run it at start and every hour."""

    def __init__(self, database: Database, day_keys: DayKeys) -> None:
        self._database = database
        self._day_keys = day_keys
        self._books = Books(database)

    async def run_once(self) -> list[date]:
        """Make partitions and keys ahead, drop what is over; return the days dropped.

        Drops nothing, and raises ``ConfigError``, when the database's clock and ours are more
        than an hour apart: one of them is wrong, and what is dropped stays dropped.
        """
        today = self._database.clock.today()
        self._day_keys.prepare()
        difference = await self._database.time_difference()
        await self._database.cover(today)
        if abs(difference) > _CLOCK_LIMIT:
            raise ConfigError(
                f"the database's clock is {difference / 3600:+.1f} hours from ours; nothing is "
                "dropped until they agree. Set the machines' clocks"
            )
        with at_the_door():
            owner = await self._database.owner()
            try:
                dropped = await self._drop_days(owner, today)
            finally:
                await owner.close()
            for table, keep in tables_by_moment().items():
                await self._drop_rows(table, keep)
        return dropped

    async def _drop_rows(self, table: str, keep: After) -> None:
        condition, moment = past(keep, self._database.clock)
        statement = f"DELETE FROM {table} WHERE {condition}"  # noqa: S608 - names of ours
        await self._database.core.execute(statement, moment)

    async def _drop_days(self, owner: Connection, today: date) -> list[date]:
        over = [
            (table, day)
            for table, keep in tables_by_day().items()
            for day in await days_of(owner, table)
            if day < oldest_kept(today, keep.days)
        ]
        for table, day in over:
            if table in _COUNTED:
                await self._count(table, day)
        for table, day in over:
            await drop_partition(owner, table, day)
        dropped = {day for _, day in over}
        for day in self._day_keys.days():
            if day < oldest_kept(today, RECEIVED_DAYS):
                self._day_keys.destroy(day)
                dropped.add(day)
        self._day_keys.destroy_aside(oldest_kept(today, RECEIVED_DAYS))
        if dropped:
            log.info("forgot %d days", len(dropped), extra={"event": "days_dropped"})
        return sorted(dropped)

    async def _count(self, table: str, day: date) -> None:
        try:
            await self._books.count(day, [_COUNTED[table]])
        except TemporaryFailure as error:
            # That it is forgotten in time comes first.
            log.warning("a day is dropped uncounted: %s", error, extra={"event": "uncounted"})


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
