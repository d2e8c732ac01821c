"""A database of the storage's own, opened, with a clock that can be turned."""

import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import asyncpg
import pytest
import pytest_asyncio

from bridge.model import SystemClock
from bridge.settings import DatabaseSettings
from bridge.storage.keys import DayKeys
from bridge.storage.pool import Database
from bridge.storage.retention import Retention
from bridge.storage.schema import Connection
from tests.rigs.cluster import Cluster


@dataclass
class TurnedClock:
    """A clock that a test can turn."""

    ahead: timedelta = timedelta()

    def now(self) -> datetime:
        return SystemClock().now() + self.ahead

    def today(self) -> date:
        return self.now().astimezone(UTC).date()


@pytest.fixture
def clock() -> TurnedClock:
    return TurnedClock()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def migrated(cluster: Cluster) -> str:
    """The name of a database with the schema and the tables of these days, to be copied."""
    settings = await cluster.fresh()
    with tempfile.TemporaryDirectory() as folder:
        async with Database.open(settings, Path(folder), SystemClock()) as opened:
            await opened.cover(opened.clock.today())
            return str(await opened.core.fetchval("SELECT current_database()"))


@pytest_asyncio.fixture
async def migrated_settings(cluster: Cluster, migrated: str) -> DatabaseSettings:
    """A database of its own that an earlier run has left."""
    return await cluster.fresh(template=migrated)


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
async def admin(
    database: Database, migrated_settings: DatabaseSettings
) -> AsyncIterator[Connection]:
    """The superuser, who sees everything, on the migrated database."""
    assert database.up
    connection = await asyncpg.connect(migrated_settings.url)
    yield connection
    await connection.close()
