"""A database of the storage's own, opened, with a clock that can be turned."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
import pytest_asyncio

from bridge.model import SystemClock
from bridge.settings import DatabaseSettings
from bridge.storage.keys import DayKeys
from bridge.storage.pool import Database
from bridge.storage.retention import Retention


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


@pytest_asyncio.fixture
async def database(
    database_settings: DatabaseSettings, folder: Path, clock: TurnedClock
) -> AsyncIterator[Database]:
    async with Database.open(database_settings, folder, clock) as opened:
        await Retention(opened, DayKeys(folder, clock)).run_once()
        yield opened


@pytest.fixture
def day_keys(folder: Path, clock: TurnedClock) -> DayKeys:
    """The keys of that clock's days."""
    return DayKeys(folder, clock)
