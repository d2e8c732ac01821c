"""Forgetting on time: days dropped as a whole, their keys destroyed, module data expired."""

import logging
from datetime import date, timedelta

from bridge.sdk.errors import ConfigError
from bridge.storage.door import at_the_door
from bridge.storage.keys import DayKeys
from bridge.storage.partitions import (
    ACCESS,
    DAILY,
    days_of,
    drop_partition,
)
from bridge.storage.pool import Database
from bridge.storage.schema import Connection

log = logging.getLogger(__name__)

KEEP_DAYS = 13
"""Whole days kept beside today: what was received is gone before it is 14 days old."""

KEEP_ACCESS_DAYS = 59
_CLOCK_LIMIT = 3600.0


class Retention:
    """Run it at start and every hour."""

    def __init__(self, database: Database, day_keys: DayKeys) -> None:
        self._database = database
        self._day_keys = day_keys

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
            await self._database.core.execute(
                "DELETE FROM module_store WHERE until <= $1", self._database.clock.now()
            )
            # Their notes went with the keys of the days on which they were due.
            await self._database.core.execute(
                "DELETE FROM timer WHERE (at AT TIME ZONE 'UTC')::date < $1",
                today - timedelta(days=KEEP_DAYS),
            )
        return dropped

    async def _drop_days(self, owner: Connection, today: date) -> list[date]:
        oldest = today - timedelta(days=KEEP_DAYS)
        dropped = set()
        for table in DAILY:
            for day in await days_of(owner, table):
                if day < oldest:
                    await drop_partition(owner, table, day)
                    dropped.add(day)
        for table in ACCESS:
            for day in await days_of(owner, table):
                if day < today - timedelta(days=KEEP_ACCESS_DAYS):
                    await drop_partition(owner, table, day)
        for day in self._day_keys.days():
            if day < oldest:
                self._day_keys.destroy(day)
                dropped.add(day)
        if dropped:
            log.info("forgot %d days", len(dropped), extra={"event": "days_dropped"})
        return sorted(dropped)
