"""The storage on a real Postgres."""

import asyncio
from datetime import date, timedelta
from pathlib import Path

import asyncpg
import pytest

from bridge.model import (
    ItemId,
    Mark,
    MessageLink,
    Outgoing,
    ParkReason,
    RowId,
    SendKind,
    Source,
    SystemClock,
)
from bridge.sdk.errors import PermanentFailure, TemporaryFailure
from bridge.sdk.ids import EventId, InstanceId, RemoteChatId, RoomId, UserId
from bridge.sdk.login import LoginKind
from bridge.storage.accounts import Accounts
from bridge.storage.door import NoTables
from bridge.storage.items import Items
from bridge.storage.journal import Journal
from bridge.storage.keys import DayKeys, KeyLost
from bridge.storage.outbox import Outbox
from bridge.storage.partitions import drop_partition, name_of
from bridge.storage.pool import Database
from bridge.storage.portals import PortalStore
from bridge.storage.schema import CORE
from bridge.storage.shelf import Shelf
from tests.rigs.cluster import until_one_waits
from tests.storage.conftest import TurnedClock
from tests.storage.rows import left_in, queued_in, sent

KEY = b"k" * 16


async def test_a_landed_row_is_read_back_whole_until_it_is_done(journal: Journal) -> None:
    body = b'{"events": ["' + b"x" * 5000 + b'"]}'
    row = await journal.land(
        source=Source.TRANSACTION, body=body, event_keys=b"k" * 32, progress=b"\0", done=False
    )
    assert [r.body async for r in journal.unfinished()] == [body]
    assert await journal.known_keys([b"k" * 16, b"n" * 16]) == {b"k" * 16}
    await journal.mark([Mark(row, b"\3", True, (0, 2, 0))])
    assert [r async for r in journal.unfinished()] == []


async def test_a_mark_and_what_crossed_are_one_commit_that_no_predecessor_makes(
    database: Database, admin: asyncpg.Connection, journal: Journal
) -> None:
    store = PortalStore(database)
    row = await journal.land(
        source=Source.TRANSACTION, body=b"{}", event_keys=KEY, progress=b"\0", done=False
    )
    link = MessageLink(
        portal=7, event_id=EventId("$said"), remote_id="one", part=0, sender=UserId("@a:b"),
        room=RoomId("!said:in"), received_at=database.clock.now(),
    )  # fmt: skip
    mark = Mark(row, b"\1", True, (0, 1, 0))
    await admin.execute("UPDATE lease SET epoch = epoch + 1")
    await journal.mark([mark], [link])
    assert await store.find_message(7, EventId("$said")) == []
    await admin.execute("UPDATE lease SET epoch = epoch - 1")
    await journal.mark([mark], [link])
    assert await store.find_message(7, EventId("$said")) == [link]
    assert [r async for r in journal.unfinished()] == []


async def test_no_mark_is_durable_before_the_link_of_what_it_marks(
    database: Database, admin: asyncpg.Connection, journal: Journal
) -> None:
    store = PortalStore(database)
    today, later = [
        await journal.land(
            source=Source.TRANSACTION, body=b"{}", event_keys=KEY, progress=b"\0", done=False
        )
        for _ in range(2)
    ]
    await admin.execute("UPDATE journal SET day = day + 1 WHERE seq = $1", later.seq)
    await admin.execute("ALTER TABLE journal ADD CONSTRAINT few CHECK (delivered < 5)")
    link = MessageLink(
        portal=7, event_id=EventId("$midnight"), remote_id="one", part=0, sender=UserId("@a:b"),
        room=RoomId("!said:in"),
    )  # fmt: skip
    marks = [
        Mark(today, b"\1", True, (0, 1, 0)),
        Mark(RowId(later.day + timedelta(days=1), later.seq), b"\1", True, (0, 9, 0)),
    ]
    with pytest.raises(asyncpg.CheckViolationError):
        await journal.mark(marks, [link])
    assert await store.find_message(7, EventId("$midnight")) == [link]
    await admin.execute("ALTER TABLE journal DROP CONSTRAINT few")


async def test_a_row_of_which_nobody_knows_is_taken_back_before_the_next(
    database: Database, admin: asyncpg.Connection, journal: Journal
) -> None:

    async def land(body: bytes) -> RowId:
        return await journal.land(
            source=Source.TRANSACTION, body=body, event_keys=KEY, progress=b"", done=False
        )

    first = await land(b"first")
    async with admin.transaction():
        await admin.execute("LOCK TABLE journal IN ACCESS EXCLUSIVE MODE")
        async with asyncio.TaskGroup() as group:
            blocked = group.create_task(land(b"cut off"))
            await until_one_waits(admin)
            blocked.cancel()
    assert blocked.cancelled()
    third = await land(b"third")
    rows = await database.core.fetch("SELECT day, seq, event_keys FROM journal ORDER BY seq")
    assert [row["event_keys"] for row in rows] == [KEY, b"", KEY]
    taken_back = RowId(rows[1]["day"], rows[1]["seq"])
    assert await journal.read(taken_back) is None
    assert [row.body async for row in journal.unfinished()] == [b"first", b"third"]
    assert [found.body for one in (first, third) if (found := await journal.read(one))] == [
        b"first", b"third",
    ]  # fmt: skip


async def test_what_is_received_goes_straight_into_its_days_own_table(
    database: Database, day_keys: DayKeys, admin: asyncpg.Connection
) -> None:
    async def land() -> RowId:
        journal = Journal(database, day_keys)
        await journal.open()
        try:
            return await journal.land(
                source=Source.TRANSACTION, body=b"{}", event_keys=KEY, progress=b"", done=False
            )
        finally:
            await journal.close()

    await admin.execute(f"REVOKE INSERT ON journal FROM {CORE}")
    first = await land()
    await admin.execute(f"GRANT INSERT ON journal TO {CORE}")
    # A day that an earlier version made has no such right.
    await admin.execute(f"REVOKE INSERT ON {name_of('journal', first.day)} FROM {CORE}")
    second = await land()
    days = await database.core.fetch("SELECT tableoid::regclass::text, seq FROM journal")
    assert {(table, seq) for table, seq in days} == {
        (name_of("journal", one.day), one.seq) for one in (first, second)
    }


async def test_a_day_whose_table_went_is_told_as_such_and_hinders_no_other(
    database: Database, day_keys: DayKeys, admin: asyncpg.Connection, journal: Journal
) -> None:

    async def land(day: date | None = None) -> RowId:
        return await journal.land(
            source=Source.RETRY, body=b"{}", event_keys=KEY, progress=b"", done=False, day=day
        )

    yesterday = database.clock.today() - timedelta(days=1)
    day_keys._sealing(yesterday)
    assert (await land(yesterday)).day == yesterday
    await drop_partition(admin, "journal", yesterday)
    with pytest.raises(NoTables):
        await land(yesterday)
    assert (await land()).day == database.clock.today()


async def test_a_row_of_which_nobody_knows_is_gone_with_its_day(
    admin: asyncpg.Connection, clock: TurnedClock, journal: Journal
) -> None:

    async def land() -> RowId:
        return await journal.land(
            source=Source.TRANSACTION, body=b"{}", event_keys=KEY, progress=b"", done=False
        )

    first = await land()
    async with admin.transaction():
        await admin.execute("LOCK TABLE journal IN ACCESS EXCLUSIVE MODE")
        async with asyncio.TaskGroup() as group:
            blocked = group.create_task(land())
            await until_one_waits(admin)
            blocked.cancel()
    clock.ahead = timedelta(days=20)
    await drop_partition(admin, "journal", first.day)
    later = await land()
    assert later.day > first.day
    assert await journal.known_keys([KEY]) == {KEY}
    assert [row.id async for row in journal.unfinished()] == [later]


async def test_a_replaced_instance_takes_no_row_of_its_successor_back(
    database: Database, day_keys: DayKeys, admin: asyncpg.Connection
) -> None:
    async def land(journal: Journal) -> RowId:
        return await journal.land(
            source=Source.TRANSACTION, body=b"{}", event_keys=KEY, progress=b"", done=False
        )

    old, new = Journal(database, day_keys), Journal(database, day_keys)
    await old.open()
    await land(old)
    await new.open()
    # What the old one sends as number 2 does not arrive, and it does not know.
    async with admin.transaction():
        await admin.execute("LOCK TABLE journal IN ACCESS EXCLUSIVE MODE")
        async with asyncio.TaskGroup() as group:
            blocked = group.create_task(land(old))
            await until_one_waits(admin)
            blocked.cancel()
            await admin.execute("UPDATE lease SET epoch = epoch + 1")
    database._lock.epoch += 1
    row = await land(new)
    assert row.seq == 2
    for behind in (1, 0):  # While its lock is lost, and if the lease were its own again.
        database._lock.epoch -= behind
        await admin.execute("UPDATE lease SET epoch = epoch - $1", 1 - behind)
        with pytest.raises(TemporaryFailure, match="another instance took over"):
            await land(old)
    assert await new.read(row) is not None
    assert row in [one.id async for one in new.unfinished()]
    await old.close()
    await new.close()


async def test_outbox_entries_of_one_transaction_id_are_one(
    database: Database, outbox: Outbox
) -> None:
    entry = Outgoing(
        room=RoomId("!r"), user=UserId("@u:hs"), kind=SendKind.EVENT, type="m.room.message",
        content={"body": "\0 zero"}, transaction_id="t1", portal=1, remote_id="r1",
    )  # fmt: skip
    async with asyncio.TaskGroup() as group:
        adding = [group.create_task(outbox.add([entry])) for _ in range(10)]
    assert sum(len(task.result()) for task in adding) == 1
    queued = await queued_in(outbox)
    assert [one.outgoing for one in queued] == [entry]
    await outbox.finish([sent(queued[0], "$e")])
    assert await left_in(outbox) == []
    links = await PortalStore(database).find_message(1, EventId("$e"))
    assert [link.remote_id for link in links] == ["r1"]


async def test_a_parked_item_keeps_its_reason_and_event(database: Database, folder: Path) -> None:
    day_keys = DayKeys(folder, database.clock)
    items, item = Items(database, day_keys), ItemId(database.clock.today(), 1, 0)
    assert [await items.note_try(item, "c") for _ in range(2)] == [1, 2]
    await items.park(item, "c", ParkReason.FAILED, "it failed", b"{}")
    (parked,) = await Shelf(database, day_keys).all()
    assert (parked.key, parked.reason) == ((*item, "c"), ParkReason.FAILED)
    assert (parked.detail, parked.event) == ("it failed", b"{}")
    assert await items.count_parked() == {ParkReason.FAILED: 1}


async def test_a_predecessor_counts_no_tries_and_forgets_and_drops_none(
    database: Database, day_keys: DayKeys
) -> None:
    items, shelf = Items(database, day_keys), Shelf(database, day_keys)
    item = ItemId(database.clock.today(), 1, 0)
    await items.note_try(item, "c")
    await items.park(item, "d", ParkReason.FAILED, "it failed", b"{}")
    (parked,) = await shelf.all()
    await database.core.execute("UPDATE lease SET epoch = epoch + 1")
    with pytest.raises(TemporaryFailure, match="another instance"):
        await items.note_try(item, "c")
    await items.clear_try(item, "c")
    await shelf.drop(parked)
    assert await database.core.fetchval("SELECT sum(tries) FROM item") == 2
    await database.core.execute("UPDATE lease SET epoch = epoch - 1")
    await shelf.drop(parked)
    assert await shelf.all() == []


async def test_a_chat_is_bridged_once(database: Database) -> None:
    portals = PortalStore(database)
    chat = {"instance": InstanceId("near"), "chat": RemoteChatId("#x"), "chat_name": "#x"}
    await portals.add(**chat, room=RoomId("!a"))  # type: ignore[arg-type]
    with pytest.raises(PermanentFailure, match="bridged already"):
        await portals.add(**chat, room=RoomId("!b"))  # type: ignore[arg-type]


async def test_a_subject_sees_no_logins_of_others(database: Database) -> None:
    accounts = Accounts(database)
    for owner in ("@a:hs", "@b:hs"):
        await accounts.get_or_add_login(InstanceId("near"), LoginKind.AUTOMATIC, UserId(owner))
    async with database.as_subject("@a:hs") as connection:
        rows = await connection.fetch("SELECT subject FROM login")
    assert [row["subject"] for row in rows] == ["@a:hs"]
    assert await database.subject.fetch("SELECT * FROM login") == []


async def test_nobody_may_read_a_partition_past_the_policies(database: Database) -> None:
    name = f"message_{database.clock.today():%Y%m%d}"
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await database.subject.fetch(f"SELECT * FROM {name}")  # noqa: S608 - a name of ours


async def test_a_key_opens_only_what_belongs_to_its_place(folder: Path) -> None:
    keys = DayKeys(folder, SystemClock())
    today = SystemClock().today()
    sealed = keys.seal(today, b"row 1", b"secret")
    with pytest.raises(KeyLost):
        keys.open(today, b"row 2", sealed)
