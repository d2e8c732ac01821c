"""What people say is nowhere in the database's files, and gone with the key of its day."""

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest
import pytest_asyncio

from bridge.model import ItemId, Outgoing, ParkReason, RowId, SendKind, Source
from bridge.sdk.errors import ConfigError, TemporaryFailure
from bridge.sdk.ids import InstanceId, RoomId, UserId
from bridge.storage.items import Items
from bridge.storage.journal import Journal
from bridge.storage.keys import DayKeys, KeyLost
from bridge.storage.modulestore import InstanceStore
from bridge.storage.outbox import Outbox
from bridge.storage.pool import Database
from bridge.storage.retention import Retention
from bridge.storage.schema import Connection
from bridge.storage.shelf import Shelf
from bridge.storage.timers import InstanceTimers
from tests.storage.conftest import TurnedClock, agree
from tests.storage.everything import files_with
from tests.storage.rows import left_in

SAID = b"canary-f3a9c1"
PLAIN = b"control-7b20de"
ALICE, ROOM = UserId("@alice:hs"), RoomId("!r")


@dataclass
class Stored:
    """Everything that keeps what people say, with something in it."""

    journal: Journal
    row: RowId
    outbox: Outbox


@pytest_asyncio.fixture
async def stored(
    database: Database, day_keys: DayKeys, journal: Journal, outbox: Outbox
) -> Stored:
    """Put the canary wherever text of people may come to lie."""
    said = SAID.decode()
    items = Items(database, day_keys)
    for body in (SAID, SAID + b" x" * 50_000):
        row = await journal.land(
            source=Source.TRANSACTION, body=body, event_keys=b"", progress=b"", done=False
        )
    await items.park(ItemId(*row, 0), "portal:1", ParkReason.FAILED, said, SAID)
    entries = [
        Outgoing(room=ROOM, user=ALICE, kind=SendKind.EVENT, content={"body": said},
                 transaction_id=f"t{number}", name=said)
        for number in range(2)
    ]  # fmt: skip
    queued = await outbox.add(entries)
    await outbox.park(queued[0], ParkReason.REFUSED, said)
    timers = InstanceTimers(database, day_keys, InstanceId("dice"))
    await timers.set("tea", after=timedelta(minutes=1), note=SAID)
    return Stored(journal, row, outbox)


@pytest.mark.usefixtures("stored")
async def test_nothing_that_people_say_is_in_the_databases_files(
    database: Database, folder: Path, admin: Connection
) -> None:
    # Not ours to seal: it shows that the search would find something.
    await InstanceStore(database, InstanceId("dice")).put("key", PLAIN)
    await admin.execute("CHECKPOINT")
    data = Path(await admin.fetchval("SHOW data_directory"))
    found = await files_with(PLAIN, data)
    assert any(name.startswith("base/") for name in found), found
    assert any(name.startswith("pg_wal/") for name in found), found
    for place in (data.parent, folder):
        assert await files_with(SAID, place) == []


async def test_without_the_key_of_its_day_nothing_can_be_read(
    database: Database, day_keys: DayKeys, folder: Path, stored: Stored
) -> None:
    first, _ = [row.body async for row in stored.journal.unfinished()]
    assert first == SAID
    day_keys.destroy(database.clock.today())
    assert [row async for row in stored.journal.unfinished()] == []
    with pytest.raises(KeyLost):
        await stored.journal.read(stored.row)
    parked = [one for one in await Shelf(database, day_keys).all() if one.kind == "item"]
    assert [(one.event, "cannot be read any more" in one.detail) for one in parked] == [
        (b"", True)
    ]
    assert await left_in(stored.outbox) == []
    # The key is gone from the disk, too.
    assert not (folder / "keys/day" / database.clock.today().isoformat()).exists()


async def test_a_key_is_on_disk_before_its_day_begins(
    database: Database, day_keys: DayKeys, clock: TurnedClock, folder: Path
) -> None:
    today = clock.today()
    assert day_keys.days()[-2:] == [today, today + timedelta(days=1)]
    for day in day_keys.days():
        path = folder / "keys/day" / day.isoformat()
        assert (path.stat().st_mode & 0o777, path.stat().st_size) == (0o600, 32)
    assert (folder / "keys/day").stat().st_mode & 0o777 == 0o700


async def test_a_key_that_is_destroyed_is_written_over_and_what_a_restore_kept_aside_goes_too(
    database: Database, day_keys: DayKeys, clock: TurnedClock, folder: Path
) -> None:
    aside = folder / "before-restore" / "keys" / "day"
    aside.mkdir(parents=True)
    old, today = clock.today() - timedelta(days=14), clock.today()
    for day in (old, today):
        (aside / day.isoformat()).write_bytes(b"k" * 32)
    # What is on the disk, by another name.
    (folder / "on-disk").hardlink_to(aside / old.isoformat())
    agree(database)
    await Retention(database, day_keys).run_once()
    assert [path.name for path in aside.iterdir()] == [today.isoformat()]
    found = (folder / "on-disk").read_bytes()
    assert len(found) == 32
    assert found != b"k" * 32


async def test_what_else_lies_beside_the_keys_of_days_matters_to_nobody(
    database: Database, day_keys: DayKeys, clock: TurnedClock, folder: Path
) -> None:
    days = day_keys.days()
    for name in (".DS_Store", "README", f"{clock.today()}.new"):
        (folder / "keys/day" / name).write_text("of somebody else")
    await Retention(database, day_keys).run_once()
    assert day_keys.days() == days


async def test_a_sealed_value_in_another_place_does_not_open(
    stored: Stored, admin: Connection
) -> None:
    await admin.execute(
        "UPDATE journal j SET body = (SELECT body FROM journal o WHERE o.seq <> j.seq)"
    )
    assert [row async for row in stored.journal.unfinished()] == []


async def test_a_key_that_cannot_be_kept_is_a_temporary_failure(
    journal: Journal, clock: TurnedClock, folder: Path
) -> None:
    place = folder / "keys/day"
    for path in place.iterdir():
        path.unlink()
    place.rmdir()
    place.write_text("in the way")
    with pytest.raises(TemporaryFailure, match="cannot be kept"):
        await journal.land(
            source=Source.TRANSACTION, body=b"{}", event_keys=b"", progress=b"", done=True
        )
    place.unlink()
    place.mkdir()
    (place / clock.today().isoformat()).write_bytes(b"short")
    with pytest.raises(TemporaryFailure, match="is damaged"):
        await journal.land(
            source=Source.TRANSACTION, body=b"{}", event_keys=b"", progress=b"", done=True
        )


# --- the clock ---


async def test_nothing_is_dropped_while_the_clocks_disagree_by_over_an_hour(
    database: Database, day_keys: DayKeys, clock: TurnedClock
) -> None:
    retention = Retention(database, day_keys)
    old = clock.today() - timedelta(days=30)
    clock.ahead = timedelta(days=-30)
    sealed = day_keys.seal(old, b"", b"kept")
    clock.ahead = timedelta()
    for minutes in (61, -61, 60 * 24 * 400):
        clock.ahead = timedelta(minutes=minutes)
        with pytest.raises(ConfigError, match="hours from ours; nothing is dropped"):
            await retention.run_once()
        assert day_keys.open(old, b"", sealed) == b"kept"
    for minutes in (59, -59):
        clock.ahead = timedelta(minutes=minutes)
        await Retention(database, day_keys).run_once()
    with pytest.raises(KeyLost):
        day_keys.open(old, b"", sealed)


# --- a database that cannot ---


async def test_what_the_database_cannot_store_now_is_temporary_and_stored_later(
    database: Database, day_keys: DayKeys, admin: Connection, journal: Journal, outbox: Outbox
) -> None:
    items = Items(database, day_keys)
    item = ItemId(database.clock.today(), 1, 0)
    entry = Outgoing(room=ROOM, user=ALICE, kind=SendKind.EVENT, content={}, transaction_id="t")

    async def land() -> None:
        await journal.land(
            source=Source.TRANSACTION, body=b"{}", event_keys=b"", progress=b"", done=False
        )

    # As a full disk says it, a broken one, no memory, no connection left, a standby, a shutdown.
    for code in ("53100", "58030", "53200", "53300", "25006", "57P01", "57P03", "40001"):
        await admin.execute(
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
            f"RAISE EXCEPTION 'as asked' USING ERRCODE = '{code}'; END $$"
        )
        for table in ("journal", "item", "outbox"):
            await admin.execute(
                f"CREATE TRIGGER refuse BEFORE INSERT ON {table} "
                "FOR EACH ROW EXECUTE FUNCTION refuse()"
            )
        for attempt in (land(), items.note_try(item, "c"), outbox.add([entry])):
            with pytest.raises(TemporaryFailure, match="as asked"):
                await attempt
        await admin.execute("DROP FUNCTION refuse CASCADE")
    await land()
    assert await items.note_try(item, "c") == 1
    assert len(await outbox.add([entry])) == 1
    assert len([row async for row in journal.unfinished()]) == 1
