"""Rows for any table, made from the live catalogue."""

import itertools
import uuid
from collections.abc import Sequence
from datetime import UTC, date, datetime, time

import asyncpg

from bridge.model import Outgoing, QueuedOutgoing, SendKind, Sent, SystemClock
from bridge.sdk.ids import EventId, RoomId, UserId
from bridge.storage.keys import DayKeys
from bridge.storage.labels import Table
from bridge.storage.outbox import Outbox
from bridge.storage.pool import Database
from bridge.storage.retention import Retention
from bridge.storage.schema import Connection

COLUMNS = (
    "SELECT c.table_name, c.column_name, c.data_type, c.is_nullable = 'YES' AS nullable, "
    "c.is_identity = 'YES' AS made, "
    "(SELECT p.relname FROM pg_inherits i JOIN pg_class p ON p.oid = i.inhparent "
    "WHERE i.inhrelid = format('public.%I', c.table_name)::regclass) AS parent "
    "FROM information_schema.columns c WHERE c.table_schema = 'public'"
)
FIXED = {
    ("login", "kind"): "relay", "state": "parked", "uncertain": "hold", "telling": "notice",
    "direction": "to_matrix", "way": "token", "follow": "topic", ("consent", "state"): "asked",
}  # fmt: skip
"""Values for columns that take only some, of one table or of any."""

NUMBERS = itertools.count(1)


def value_for(column: asyncpg.Record, day: date) -> object:
    """Something that the column takes."""
    name = column["column_name"]
    found = FIXED.get((column["table_name"], name)) or FIXED.get(name)
    if found is not None:
        return found
    number = next(NUMBERS)
    moment = datetime.combine(day, time(12), UTC)
    return {
        "text": f"text {number}", "bytea": b"x%d" % number, "date": day, "boolean": True,
        "timestamp with time zone": moment, "uuid": uuid.UUID(int=number),
        "ARRAY": [f"text {number}"],
    }.get(column["data_type"], number)  # fmt: skip


async def insert(connection: Connection, table: Table, day: date, **fields: object) -> None:
    """Put a row into the table, of that day where it has one."""
    columns = await connection.fetch(f"{COLUMNS} AND c.table_name = $1", table.name)
    row = {
        column["column_name"]: value_for(column, day)
        for column in columns
        if not column["made"] and not column["nullable"]
    } | fields
    places = ", ".join(f"${number}" for number in range(1, len(row) + 1))
    await connection.execute(
        f"INSERT INTO {table.name} ({', '.join(row)}) VALUES ({places})",  # noqa: S608
        *row.values(),
    )


async def forget(database: Database, day_keys: DayKeys) -> list[date]:
    """Drop what is over, as a program that has run for an hour; the days dropped."""
    elapsed = iter((0.0, 3600.0))
    retention = Retention(database, day_keys, elapsed=lambda: next(elapsed))
    return [*await retention.run_once(), *await retention.run_once()]


async def left_in(outbox: Outbox) -> list[Outgoing]:
    """What waits in the outbox, as the next process finds it."""
    return [queued.outgoing for queued in await queued_in(outbox)]


async def queued_in(outbox: Outbox) -> list[QueuedOutgoing]:
    """The same, with its places."""
    found: list[QueuedOutgoing] = []
    for waiting in await outbox.waiting():
        found += (await outbox.next_of(waiting.room, 0, waiting.last, 1000)).entries
    return sorted(found, key=lambda queued: queued.seq)


def sent(queued: QueuedOutgoing, event_id: str) -> Sent:
    """The entry as it is once the homeserver has it."""
    return Sent(queued, EventId(event_id), SystemClock().now())


def entry(transaction_id: str = "t1", **fields: object) -> Outgoing:
    """Something to say."""
    record: dict[str, object] = {
        "room": RoomId("!r"), "user": UserId("@u:hs"), "kind": SendKind.EVENT,
        "type": "m.room.message", "content": {"body": "hello"}, "portal": 1, "remote_id": "r1",
        "transaction_id": transaction_id,
    }  # fmt: skip
    return Outgoing(**(record | fields))  # type: ignore[arg-type]


async def reopened(database: Database, day_keys: DayKeys) -> Outbox:
    """The outbox as a restarted process sees it."""
    outbox = Outbox(database, day_keys)
    await outbox.open()
    return outbox


def ids_of(given: Sequence[QueuedOutgoing]) -> list[str]:
    """The transaction ids of what was given out."""
    return [queued.outgoing.transaction_id for queued in given]
