"""What was stored while the clock was ahead is gone two weeks after it came, and not before."""

from datetime import date, timedelta

import pytest

from bridge.model import RowId, Source
from bridge.storage.journal import Journal
from bridge.storage.keys import DayKeys
from bridge.storage.outbox import Outbox
from bridge.storage.pool import Database
from bridge.storage.retention import Retention
from bridge.storage.schema import Connection
from tests.storage.conftest import TurnedClock, agree
from tests.storage.rows import entry, queued_in, sent

HOUR = 3600.0
HOURS = 24


class Lived:
    """A machine on which time goes by, whatever its clock says."""

    def __init__(self, database: Database, day_keys: DayKeys, clock: TurnedClock) -> None:
        agree(database)
        clock.keep_from_midnight()
        self._database = database
        self._day_keys = day_keys
        self._clock = clock
        self._hours = 0.0
        self._boot = "one"
        self._wrong = timedelta()
        self.start()

    def start(self, boot: str = "one", hours: float | None = None) -> None:
        """Start the program anew, maybe on another machine that is up for so long."""
        self._boot, self._hours = boot, self._hours if hours is None else hours
        self._retention = Retention(
            self._database, self._day_keys, elapsed=lambda: self._hours * HOUR, boot=boot
        )

    def turn(self, wrong: timedelta) -> None:
        """Set the clock, to so much more than is right. The program is started anew."""
        self._clock.ahead += wrong - self._wrong
        self._wrong = wrong
        self.start(self._boot)

    async def go_on(self, hours: int) -> list[date]:
        """Let hours go by, by sixes while there are so many: each look takes its time."""
        dropped = await self._retention.run_once()
        for step in (*[6] * (hours // 6), *[1] * (hours % 6)):
            self._hours += step
            self._clock.ahead += timedelta(hours=step)
            dropped += await self._retention.run_once()
        return dropped


@pytest.fixture
def life(database: Database, day_keys: DayKeys, clock: TurnedClock) -> Lived:
    return Lived(database, day_keys, clock)


async def land(journal: Journal, *, done: bool = True) -> RowId:
    return await journal.land(
        source=Source.TRANSACTION, body=b"{}", event_keys=b"k" * 16, progress=b"\1", done=done
    )


@pytest.mark.parametrize("wrong", [5, 40, 4000])
async def test_what_came_while_the_clock_was_ahead_is_gone_two_weeks_after_it_came(
    wrong: int, life: Lived, database: Database, day_keys: DayKeys, journal: Journal,
    outbox: Outbox, clock: TurnedClock,
) -> None:  # fmt: skip
    life.turn(timedelta(days=wrong))
    await life.go_on(0)
    row = await land(journal)
    (queued,) = await outbox.add([entry("ahead")])
    await outbox.finish([sent(queued, "$there")])
    life.turn(timedelta())
    await life.go_on(12 * HOURS + 23)
    assert await journal.read(row) is not None
    right = await land(journal)
    dropped = await life.go_on(25)
    assert await journal.read(row) is None
    count = "SELECT count(*) FROM outbox WHERE transaction_id = 'ahead'"
    assert await database.core.fetchval(count) == 0
    assert (row.day in dropped) is (row.day not in day_keys.days()) is (wrong > 20)
    assert await journal.read(right) is not None
    # The numbers go on, though those that had them are gone.
    assert (await land(journal)).seq == right.seq + 1


async def test_nothing_is_forgotten_early_by_a_clock_that_was_behind(
    life: Lived, journal: Journal
) -> None:
    await life.go_on(1)
    row = await land(journal)
    life.turn(timedelta(days=-12))
    await life.go_on(30)
    life.turn(timedelta())
    await life.go_on(11 * HOURS)
    assert await journal.read(row) is not None


async def test_on_another_machine_time_is_counted_from_when_it_is_there(
    life: Lived, journal: Journal
) -> None:
    life.turn(timedelta(days=5))
    await life.go_on(0)
    row = await land(journal)
    life.turn(timedelta())
    await life.go_on(4)
    life.start("two", hours=10_000)
    await life.go_on(12 * HOURS)
    assert await journal.read(row) is not None
    life.start("two")  # Which is the same machine still.
    await life.go_on(25)
    assert await journal.read(row) is None


async def test_what_waits_to_be_delivered_stays_as_long_as_its_date_says(
    life: Lived, journal: Journal, outbox: Outbox
) -> None:
    life.turn(timedelta(days=5))
    await life.go_on(0)
    row = await land(journal, done=False)
    await outbox.add([entry("ahead")])
    life.turn(timedelta())
    await life.go_on(14 * HOURS)
    assert await journal.read(row) is not None
    assert [queued.outgoing.transaction_id for queued in await queued_in(outbox)] == ["ahead"]


async def test_what_is_stored_on_the_day_itself_stays_when_what_came_ahead_goes(
    life: Lived, journal: Journal, admin: Connection
) -> None:
    life.turn(timedelta(days=5))
    await life.go_on(0)
    ahead = await land(journal)
    life.turn(timedelta())
    await life.go_on(5 * HOURS)
    there = await land(journal)
    assert there.day == ahead.day
    await life.go_on(9 * HOURS)
    assert await journal.read(ahead) is None
    assert await journal.read(there) is not None
