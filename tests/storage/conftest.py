"""A database of the storage's own, opened, with a clock that can be turned."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import asyncpg
import pytest
import pytest_asyncio

from bridge.model import SystemClock
from bridge.settings.records import DatabaseSettings
from bridge.storage.datamap import DATA_MAP
from bridge.storage.journal import Journal
from bridge.storage.keys import DayKeys
from bridge.storage.outbox import Outbox
from bridge.storage.pool import Database
from bridge.storage.retention import Retention
from bridge.storage.schema import Connection
from tests.rigs.cluster import Cluster
from tests.storage.everything import Full, fill, write
from tests.storage.rows import reopened


@dataclass
class TurnedClock:
    """A clock that a test can turn."""

    ahead: timedelta = timedelta()

    def now(self) -> datetime:
        return SystemClock().now() + self.ahead

    def today(self) -> date:
        return self.now().astimezone(UTC).date()

    def keep_from_midnight(self) -> None:
        """Have half an hour of the day left, whenever that is.

        Retention wants a clock that is not an hour off.
        """
        half_an_hour = timedelta(minutes=30)
        if (self.now() + half_an_hour).date() != self.today():
            self.ahead -= half_an_hour


def agree(database: Database) -> None:
    """Have the database's clock be ours, as with one on the same machine."""

    async def agreed() -> float:
        return 0.0

    database.time_difference = agreed  # type: ignore[method-assign]


@pytest.fixture
def clock() -> TurnedClock:
    return TurnedClock()


CATALOGUE = """
SELECT md5(string_agg(line, ' ' ORDER BY line)) FROM (
    SELECT concat_ws(' ', oid, relname, relacl, relowner, relrowsecurity, relforcerowsecurity,
        relnatts) AS line FROM pg_class WHERE relnamespace = 'public'::regnamespace
    UNION ALL SELECT concat_ws(' ', oid, polname, polroles, polqual, polwithcheck) FROM pg_policy
    UNION ALL SELECT concat_ws(' ', oid, proname) FROM pg_proc
        WHERE pronamespace = 'public'::regnamespace
    UNION ALL SELECT concat_ws(' ', max(version)) FROM schema_version) AS lines
"""
EMPTY = "; ".join(
    f"DELETE FROM {table.name}"  # noqa: S608 - names of the map
    for table in reversed(DATA_MAP)
    if table.name not in ("schema_version", "instance_state", "lease")
)


@dataclass
class Copies:
    """Databases with the schema and the tables of these days."""

    cluster: Cluster
    template: str
    free: list[tuple[DatabaseSettings, str]] = field(default_factory=list)

    async def take(self) -> tuple[DatabaseSettings, str]:
        """An empty one, and what its catalogue is like."""
        if self.free:
            return self.free.pop()
        settings = await self.cluster.fresh(template=self.template)
        return settings, await self._catalogue(settings)

    async def give_back(self, settings: DatabaseSettings, catalogue: str) -> None:
        """Keep it for another test, if this one has left its catalogue as it was."""
        if await self._catalogue(settings) == catalogue:
            self.free.append((settings, catalogue))

    async def _catalogue(self, settings: DatabaseSettings) -> str:
        connection = await asyncpg.connect(settings.url)
        try:
            await connection.execute(f"SET lock_timeout = '60s'; {EMPTY}")
            return str(await connection.fetchval(CATALOGUE))
        finally:
            await connection.close()


@pytest_asyncio.fixture
async def database_settings(empty_database: DatabaseSettings) -> DatabaseSettings:
    """Here a database is empty if nothing else is said: how it is filled is the matter."""
    return empty_database


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def copies(cluster: Cluster, template: str) -> Copies:
    """Made once, with what an earlier run would have left."""
    return Copies(cluster, template)


@pytest_asyncio.fixture
async def migrated_settings(copies: Copies) -> AsyncIterator[DatabaseSettings]:
    """A database of its own that an earlier run has left, without rows."""
    settings, catalogue = await copies.take()
    yield settings
    await copies.give_back(settings, catalogue)


@pytest_asyncio.fixture
async def database(
    migrated_settings: DatabaseSettings, folder: Path, clock: TurnedClock
) -> AsyncIterator[Database]:
    """An open database."""
    async with Database.open(migrated_settings, folder, clock) as opened:
        await Retention(opened, DayKeys(folder, clock)).run_once()
        yield opened


@pytest.fixture
def day_keys(folder: Path, clock: TurnedClock) -> DayKeys:
    """The keys of that clock's days."""
    return DayKeys(folder, clock)


@pytest_asyncio.fixture
async def journal(database: Database, day_keys: DayKeys) -> AsyncIterator[Journal]:
    """An open journal."""
    opened = Journal(database, day_keys)
    await opened.open()
    yield opened
    await opened.close()


@pytest_asyncio.fixture
async def outbox(database: Database, day_keys: DayKeys) -> Outbox:
    """An open outbox."""
    return await reopened(database, day_keys)


@pytest_asyncio.fixture
async def admin(
    database: Database, migrated_settings: DatabaseSettings
) -> AsyncIterator[Connection]:
    """The superuser, who sees everything, on the migrated database."""
    assert database.up
    connection = await asyncpg.connect(migrated_settings.url)
    yield connection
    await connection.close()


@dataclass
class FullOfADay:
    """A full database, made anew when its day is over: its oldest rows are over with that."""

    cluster: Cluster
    folders: pytest.TempPathFactory
    made: dict[date, Full] = field(default_factory=dict)

    async def at(self, clock: TurnedClock) -> Full:
        """The one of that clock's day."""
        day = clock.today()
        if day not in self.made:
            self.made[day] = await self._make(clock)
        return self.made[day]

    async def _make(self, clock: TurnedClock) -> Full:
        folder = self.folders.mktemp("full")
        settings = await self.cluster.fresh()
        await fill(settings, folder / "state", clock)
        (folder / "state/keys/master").write_bytes(b"m" * 32)
        made = Full(settings, folder / "state", folder / "full.trestle")
        await write(made, made.file, clock)
        return made


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def full_of_a_day(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> FullOfADay:
    """Made once a day."""
    return FullOfADay(cluster, tmp_path_factory)


@pytest_asyncio.fixture
async def full(full_of_a_day: FullOfADay, clock: TurnedClock) -> Full:
    """Nobody changes it, and its day lasts while it is looked at by the test's clock."""
    clock.keep_from_midnight()
    return await full_of_a_day.at(clock)
