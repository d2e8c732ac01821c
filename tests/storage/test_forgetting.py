"""Days are forgotten on time, and only then; what outlives them is not taken for what they had."""

import asyncio
from collections.abc import Awaitable
from datetime import timedelta
from pathlib import Path

import orjson
import pytest

from bridge.core.oversight.conditions import Conditions
from bridge.demo.matrix_user import PATIENCE
from bridge.matrix.body import parse_transaction
from bridge.model import Forgotten, ItemId, Mark, MessageLink, ParkReason, RowId, Sent, Source
from bridge.sdk.errors import ConfigError, PermanentFailure, TemporaryFailure
from bridge.sdk.ids import EventId, InstanceId, RemoteChatId, RoomId, UserId
from bridge.storage.books import Books, Direction
from bridge.storage.datamap import tables_by_moment
from bridge.storage.items import Items
from bridge.storage.journal import Journal
from bridge.storage.keys import DayKeys, EventKeys
from bridge.storage.outbox import Outbox
from bridge.storage.pool import Database
from bridge.storage.portals import PortalStore
from bridge.storage.retention import Retention
from bridge.storage.schema import Connection
from bridge.storage.traces import Traces
from tests.core.process import EVENT, Listener, Process
from tests.rigs.small_disk import no_room_beyond
from tests.storage.conftest import TurnedClock, agree
from tests.storage.rows import entry, forget

MONTH = timedelta(days=30)


@pytest.fixture(autouse=True)
def one_clock(database: Database) -> None:
    agree(database)


async def land(journal: Journal) -> RowId:
    return await journal.land(
        source=Source.TRANSACTION, body=b"{}", event_keys=b"k" * 16, progress=b"\0", done=False
    )


async def test_after_all_days_were_dropped_the_numbers_go_on(
    database: Database, day_keys: DayKeys, clock: TurnedClock
) -> None:
    journal, outbox = Journal(database, day_keys), Outbox(database, day_keys)
    await journal.open()
    await outbox.open()
    for _ in range(4):
        last = await land(journal)
    await outbox.add([entry("one"), entry("two")])
    await journal.close()
    store = PortalStore(database)
    portal = await store.add(
        instance=InstanceId("near"), chat=RemoteChatId("#x"), chat_name="#x", room=RoomId("!x")
    )
    await store.set_left_out(portal.id, ItemId(*last, 0))
    clock.ahead = timedelta(days=15)
    assert last.day in await forget(database, day_keys)
    assert [one.left_out for one in await store.all()] == [None]
    journal, outbox = Journal(database, day_keys), Outbox(database, day_keys)
    await journal.open()
    await outbox.open()
    assert (await land(journal)).seq == last.seq + 1
    assert [queued.seq for queued in await outbox.add([entry("three")])] == [3]
    await journal.close()
    # An old backup knows of a number that its journal, over by now, did not come with.
    await store.set_left_out(portal.id, ItemId(clock.today(), 5000, 0))
    journal = Journal(database, day_keys)
    await journal.open()
    assert (await land(journal)).seq == 5001
    await journal.close()


async def begin(
    database: Database, day_keys: DayKeys, journal: Journal, elapsed: list[float]
) -> tuple[Retention, RowId]:
    """A row that waits, and a retention that has run once."""
    retention = Retention(database, day_keys, elapsed=lambda: elapsed[0])
    row = await land(journal)
    await retention.run_once()
    return retention, row


async def test_nothing_is_dropped_after_the_clock_was_moved(
    database: Database, day_keys: DayKeys, clock: TurnedClock, journal: Journal
) -> None:
    elapsed = [0.0]
    retention, row = await begin(database, day_keys, journal, elapsed)
    elapsed[0] = 10_000.0
    for ahead in (MONTH, -MONTH, timedelta()):  # At last it stands still.
        clock.ahead = ahead
        with pytest.raises(ConfigError, match="clock was moved by"):
            await retention.run_once()
    clock.ahead = timedelta(seconds=10_000)
    assert row.day not in await retention.run_once()
    assert await journal.read(row) is not None
    # It was right all the time: two weeks went by.
    clock.ahead = timedelta(days=15)
    elapsed[0] = clock.ahead.total_seconds()
    assert row.day in await retention.run_once()
    assert await journal.read(row) is None


async def test_a_clock_that_was_set_right_is_believed_after_a_day(
    database: Database, day_keys: DayKeys, clock: TurnedClock, journal: Journal
) -> None:
    elapsed = [0.0]
    retention, row = await begin(database, day_keys, journal, elapsed)
    # A machine that knows the time only once it has asked for it.
    for hour in range(24):
        elapsed[0], clock.ahead = hour * 3600.0, MONTH + timedelta(hours=hour)
        with pytest.raises(ConfigError, match="gone right for a day"):
            await retention.run_once()
    elapsed[0], clock.ahead = 24 * 3600.0, MONTH + timedelta(hours=24)
    assert row.day in await retention.run_once()


FULL = """
CREATE FUNCTION is_full() RETURNS trigger LANGUAGE plpgsql AS
$$BEGIN RAISE EXCEPTION 'no room' USING ERRCODE = 'disk_full'; END$$;
CREATE TRIGGER is_full BEFORE DELETE ON {} EXECUTE FUNCTION is_full()
"""


async def test_of_days_that_are_dropped_by_a_run_that_fails_the_next_one_tells(
    database: Database, day_keys: DayKeys, clock: TurnedClock, admin: Connection
) -> None:
    day_keys.prepare()
    elapsed, table = [0.0], next(iter(tables_by_moment()))
    retention = Retention(database, day_keys, elapsed=lambda: elapsed[0])
    clock.ahead = MONTH
    assert await retention.run_once() == []
    elapsed[0] = 3600.0
    clock.ahead += timedelta(hours=1)
    await admin.execute(FULL.format(table))
    with pytest.raises(TemporaryFailure, match="no room"):
        await retention.run_once()
    gone = (clock.now() - clock.ahead).date()
    assert gone not in day_keys.days()
    await admin.execute(f"DROP TRIGGER is_full ON {table}")
    # Whoever has something of them in memory lets it go by that.
    assert gone in await retention.run_once()
    assert await retention.run_once() == []


async def test_of_days_that_are_dropped_when_todays_key_cannot_be_made_the_next_run_tells(
    database: Database, day_keys: DayKeys, clock: TurnedClock, folder: Path
) -> None:
    day_keys.prepare()
    gone, elapsed = clock.today(), [0.0]
    retention = Retention(database, day_keys, elapsed=lambda: elapsed[0])
    clock.ahead = MONTH
    assert await retention.run_once() == []
    elapsed[0] = 48 * 3600.0
    clock.ahead += timedelta(days=2)
    (key,) = folder.rglob(f"day/{gone}")
    unmade = key.with_name(str(clock.today()))
    unmade.mkdir()
    with pytest.raises(TemporaryFailure, match="cannot be kept"):
        await retention.run_once()
    assert gone not in day_keys.days()
    unmade.rmdir()
    assert gone in await retention.run_once()
    assert await retention.run_once() == []


async def test_after_a_start_several_days_are_dropped_an_hour_later_and_not_in_silence(
    database: Database, day_keys: DayKeys, clock: TurnedClock, folder: Path, journal: Journal,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    day_keys.prepare()
    row = await land(journal)
    elapsed = [0.0]
    retention = Retention(database, day_keys, elapsed=lambda: elapsed[0])
    clock.ahead = timedelta(days=11)
    await retention.run_once()
    (said,) = find_troubles(retention, folder, clock)
    assert said == "1 events wait for more than 10 days; at 14 days they are forgotten."
    clock.ahead = MONTH
    retention = Retention(database, day_keys, elapsed=lambda: elapsed[0])
    assert await retention.run_once() == []
    assert "forgotten in an hour. If the date is not" in caplog.text
    assert await journal.read(row) is not None
    clock.ahead += timedelta(hours=1)
    elapsed[0] = 3600.0
    assert row.day in await retention.run_once()
    assert f"1 events to network of {row.day} are forgotten undelivered" in caplog.text
    (said,) = find_troubles(retention, folder, clock)
    assert said == "1 events were forgotten undelivered since the start."


def find_troubles(retention: Retention, folder: Path, clock: TurnedClock) -> list[str]:
    """What the status room would say, were all else well."""
    conditions = Conditions(folder, now=clock.now, last_backup=clock.now, began=clock.now())
    well = {
        "homeserver": "answers", "instances": [], "parked": {}, "unaccounted": {},
        "lanes": {"oldest_seconds": 0}, "database": "answers",
        "unfinished": retention.unfinished(),
    }  # fmt: skip
    found = conditions.find(well)
    return [found[key] for key in ("forgotten", "soon") if key in found]


async def test_who_reads_a_table_for_long_holds_up_forgetting_and_nobody_behind_it(
    database: Database, day_keys: DayKeys, clock: TurnedClock, admin: Connection, journal: Journal
) -> None:
    row = await land(journal)
    clock.ahead = timedelta(days=15)
    async with asyncio.timeout(PATIENCE), admin.transaction():
        await admin.execute("SELECT FROM journal")  # As a backup does.
        with pytest.raises(TemporaryFailure, match="lock timeout"):
            await database.cover(clock.today())
        with pytest.raises(TemporaryFailure, match="lock timeout"):
            await land(journal)
    await database.cover(clock.today())
    clock.ahead += timedelta(days=1)
    tables = "SELECT count(*) FROM pg_inherits WHERE inhparent = $1::regclass"
    before = await admin.fetchval(tables, "journal")
    async with asyncio.timeout(PATIENCE), admin.transaction():
        await admin.execute("SELECT FROM journal")
        # Neither a start nor what is stored on a new day needs more than that day's tables.
        retention = Retention(database, day_keys)
        await retention.run_once()
        await land(journal)
        # What is sealed with the key of the day cannot be read any more, all the same.
        assert row.day in await forget(database, day_keys)
        assert await admin.fetchval(tables, "journal") == before
    await forget(database, day_keys)
    assert await admin.fetchval(tables, "journal") < before


STUCK = """
CREATE FUNCTION stuck() RETURNS event_trigger LANGUAGE plpgsql AS
$$BEGIN PERFORM pg_sleep(600); END$$;
CREATE EVENT TRIGGER stuck ON ddl_command_start WHEN TAG IN ('{}') EXECUTE FUNCTION stuck()
"""
UNSTUCK = "DROP EVENT TRIGGER stuck; DROP FUNCTION stuck"
SLEEPERS = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
    "WHERE wait_event = 'PgSleep' AND datname = current_database()"
)


async def refused(asked: Awaitable[object]) -> None:
    with pytest.raises(TemporaryFailure):
        await asked


async def test_a_server_that_says_no_more_amid_the_tables_of_a_day_holds_nobody_up_for_ever(
    database: Database, clock: TurnedClock, admin: Connection, journal: Journal
) -> None:
    await admin.execute(STUCK.format("CREATE TABLE"))
    clock.ahead, database.cover_limit = timedelta(days=40), 0.5
    try:
        async with asyncio.timeout(PATIENCE), asyncio.TaskGroup() as group:
            group.create_task(refused(database.cover(clock.today())))
            group.create_task(refused(land(journal)))
    finally:
        await admin.execute(SLEEPERS)
        await admin.execute(UNSTUCK)
    database.cover_limit = PATIENCE
    assert (await land(journal)).day == clock.today()


async def test_a_server_that_says_no_more_amid_a_drop_ends_that_run_and_not_all_of_them(
    database: Database,
    day_keys: DayKeys,
    clock: TurnedClock,
    admin: Connection,
    journal: Journal,
) -> None:
    row = await land(journal)
    clock.ahead = timedelta(days=40)
    await database.cover(clock.today())
    await admin.execute(STUCK.format("DROP TABLE"))
    database.owner_limit = 0.5
    try:
        async with asyncio.timeout(PATIENCE):
            await refused(forget(database, day_keys))
    finally:
        await admin.execute(SLEEPERS)
        await admin.execute(UNSTUCK)
    assert row.day in await forget(database, day_keys)


async def test_whoever_comes_first_after_a_long_way_ahead_makes_the_tables_and_nobody_fails(
    database: Database, clock: TurnedClock, journal: Journal, outbox: Outbox
) -> None:
    (queued,), row = await outbox.add([entry()]), await land(journal)
    link = MessageLink(
        portal=7, event_id=EventId("$said"), remote_id="one", part=0, sender=UserId("@a:b"),
        room=RoomId("!said:in"),
    )  # fmt: skip
    clock.ahead = timedelta(days=40)
    async with asyncio.timeout(PATIENCE), asyncio.TaskGroup() as group:
        group.create_task(journal.mark([Mark(row, b"\1", True, (0, 1, 0))], [link]))
        landing = group.create_task(land(journal))
        group.create_task(outbox.finish([Sent(queued, EventId("$there"), clock.now())]))
        adding = group.create_task(outbox.add([entry("new")]))
        group.create_task(database.cover(clock.today()))
    assert landing.result().day == adding.result()[0].day == clock.today()
    stored = await outbox.find(entry("new").transaction_id)
    assert stored is not None
    assert stored.state == "queued"


async def test_nothing_more_is_kept_of_a_day_that_is_over(
    database: Database, day_keys: DayKeys, clock: TurnedClock, outbox: Outbox
) -> None:
    items = Items(database, day_keys)
    (queued,) = await outbox.add([entry()])
    day = clock.today()
    clock.ahead = timedelta(days=15)
    # As long as its key is there, the date may be wrong.
    assert await items.note_try(ItemId(day, 1, 0), "portal:1") == 1
    await forget(database, day_keys)
    for attempt in (
        items.note_try(ItemId(day, 1, 0), "portal:1"),
        items.park(ItemId(day, 1, 0), "portal:1", ParkReason.REFUSED, "no", b"{}"),
    ):
        with pytest.raises(Forgotten, match="is forgotten"):
            await attempt
    await outbox.park(queued, ParkReason.REFUSED, "no")
    await outbox.drop(queued)
    assert day not in day_keys.days()


async def test_a_lane_goes_on_after_what_waited_for_longer_than_anything_is_kept(
    database: Database, day_keys: DayKeys, clock: TurnedClock, folder: Path, journal: Journal
) -> None:
    listener = Listener("portal:1", PermanentFailure("refused"), ValueError("a fault"))
    process = Process(database, journal, folder, [listener])
    process.intake.open()
    for number in range(2):
        event = {**EVENT, "event_id": f"$old{number}"}
        await process.intake.accept(parse_transaction(orjson.dumps({"events": [event]}), ""))
    clock.ahead = timedelta(days=15)
    await forget(database, day_keys)
    await process.intake.accept(parse_transaction(orjson.dumps({"events": [EVENT]}), ""))
    async with asyncio.TaskGroup() as group, asyncio.timeout(20):
        router = group.create_task(process.router.run())
        while process.router.waiting:
            await asyncio.sleep(0.01)
        router.cancel()
    assert listener.again == [False, False, False]


async def test_a_full_disk_at_midnight_ends_nothing_and_old_days_make_room(
    database: Database, day_keys: DayKeys, clock: TurnedClock, folder: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    clock.ahead = timedelta(days=-14)
    old = clock.today()
    DayKeys(folder, clock).prepare()
    clock.ahead = timedelta()
    today = clock.today()
    day_keys.destroy(today + timedelta(days=1))
    with no_room_beyond(0):
        day_keys.prepare()  # Today's key is there.
        assert f"the key of {today + timedelta(days=1)} cannot be kept" in caplog.text
    day_keys.destroy(today)
    with no_room_beyond(0), pytest.raises(TemporaryFailure, match="cannot be kept"):
        await Retention(database, day_keys).run_once()
    assert old not in day_keys.days()
    await Retention(database, day_keys).run_once()


async def test_what_is_tried_again_runs_once_and_is_forgotten_with_its_first_day(
    database: Database, day_keys: DayKeys, clock: TurnedClock, folder: Path, journal: Journal
) -> None:
    body, keys_of = orjson.dumps({"events": [EVENT]}), EventKeys(folder).keys_of
    (key,) = keys_of([str(EVENT["event_id"])])
    first = await journal.land(
        source=Source.TRANSACTION, body=body, event_keys=key, progress=b"\0", done=False
    )
    await journal.mark([Mark(first, b"\1", True, (1, 0, 0))])
    clock.ahead = timedelta(days=10)
    listener = Listener("portal:1")
    process = Process(database, journal, folder, [listener])
    for _ in range(2):  # Cut off before it was let go, it is asked for once more.
        await process.intake.take_again("portal:1", EVENT, "abcd1234", first.day)
    assert process.router.waiting == 1
    traces = Traces(
        database, journal, Items(database, day_keys), keys_of=keys_of, parse=parse_transaction
    )
    found = await traces.landings(str(EVENT["event_id"]))
    assert [(one.source, one.is_done, one.item.day) for one in found] == [
        (Source.TRANSACTION, True, first.day), (Source.RETRY, False, first.day),
    ]  # fmt: skip
    (account,) = await Books(database).count(first.day, [Direction.TO_NETWORK])
    assert (account.received, account.parked, account.in_hand) == (2, 1, 1)
    assert await Books(database).open_rows() == {RowId(*found[1].item[:2]): 1}
    clock.ahead = timedelta(days=15)
    await forget(database, day_keys)
    with pytest.raises(Forgotten):
        await process.intake.take_again("portal:1", EVENT, "efgh5678", first.day)
