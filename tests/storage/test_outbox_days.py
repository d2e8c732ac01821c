"""The outbox over midnight, and with clocks that are set."""

from datetime import timedelta

import pytest

from bridge.sdk.ids import EventId
from bridge.storage.keys import DayKeys
from bridge.storage.outbox import Outbox
from bridge.storage.pool import Database
from bridge.storage.portals import PortalStore
from tests.storage.conftest import TurnedClock
from tests.storage.rows import entry, ids_of, reopened, sent


async def test_an_entry_of_before_midnight_is_the_same_after_it(
    outbox: Outbox, database: Database, clock: TurnedClock
) -> None:
    (queued,) = await outbox.add([entry()])
    clock.ahead = timedelta(days=1)
    assert await outbox.add([entry()]) == []
    await outbox.finish([sent(queued, "$e")])
    assert await outbox.add([entry()]) == []
    assert len(await PortalStore(database).find_message(1, EventId("$e"))) == 1


async def test_a_clock_that_was_years_ahead_for_a_moment_hides_no_entry_of_after_midnight(
    outbox: Outbox, database: Database, day_keys: DayKeys, clock: TurnedClock
) -> None:
    await outbox.add([entry("yesterday")])
    clock.ahead = timedelta(days=1)
    await outbox.add([entry("t1")])
    clock.ahead = timedelta(days=3650)
    await outbox.add([entry("far")])
    for one in (outbox, await reopened(database, day_keys)):
        clock.ahead = timedelta()
        assert ids_of(await one.add([entry("t1")])) == []


@pytest.mark.parametrize("is_restarted", [False, True])
async def test_an_entry_of_after_midnight_is_the_same_when_the_clock_is_put_back_over_it(
    outbox: Outbox, database: Database, day_keys: DayKeys, clock: TurnedClock, is_restarted: bool
) -> None:
    clock.ahead = timedelta(days=1)
    queued, other = await outbox.add([entry(), entry("t2")])
    clock.ahead = timedelta()
    if is_restarted:
        outbox = await reopened(database, day_keys)
    assert await outbox.add([entry()]) == []
    found = await outbox.find("t1")
    assert found is not None
    assert (found.day, found.seq) == (queued.day, queued.seq)
    # Nor is one that was sent meanwhile, or that comes with others.
    await outbox.finish([sent(other, "$e")])
    given = await outbox.add([entry("t2"), entry("t3"), entry()])
    assert [one.outgoing for one in given] == [entry("t3")]
    clock.ahead = timedelta(days=1)
    assert await outbox.add([entry(), entry("t3")]) == []


async def test_what_a_network_replays_days_later_is_the_same_too(
    outbox: Outbox, database: Database, day_keys: DayKeys, clock: TurnedClock
) -> None:
    (queued,) = await outbox.add([entry()])
    await outbox.finish([sent(queued, "$e")])
    clock.ahead = timedelta(days=10)
    again = await reopened(database, day_keys)
    replayed = [entry(replayed=True), entry("t2", replayed=True)]
    assert [one.outgoing for one in await again.add(replayed)] == replayed[1:]


async def test_what_is_said_anew_is_that_though_something_replayed_is_stored_with_it(
    outbox: Outbox, database: Database, day_keys: DayKeys, clock: TurnedClock
) -> None:
    for one in await outbox.add([entry(), entry("notice")]):
        await outbox.finish([sent(one, f"${one.seq}")])
    clock.ahead = timedelta(days=5)
    again = await reopened(database, day_keys)
    stored = await again.add([entry(replayed=True), entry("notice")])
    assert [one.outgoing for one in stored] == [entry("notice")]
