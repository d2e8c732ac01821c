"""The journal: what the homeserver gave us, one sealed row a transaction."""

import asyncio
import logging
import zlib
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from itertools import groupby
from typing import Any

import asyncpg

from bridge.model import Mark, MessageLink, RowId, Source
from bridge.sdk.errors import TemporaryFailure
from bridge.storage.door import NoTables, at_the_door
from bridge.storage.keys import DayKeys, KeyLost
from bridge.storage.partitions import name_of
from bridge.storage.pool import Database
from bridge.storage.portals import link_columns
from bridge.storage.schema import Connection

log = logging.getLogger(__name__)

KEY_BYTES = 16
_LAND_LIMIT = 15.0
_THREAD_FROM = 256 * 1024
"""Bodies from this size on are sealed in a thread: the loop must not stand still."""

_PAGE = 1500
"""Bytes from which on a value leaves its row's page."""

_LAND = (
    "INSERT INTO {} (day, seq, source, received_at, body, event_keys, progress, done, epoch, "
    "repeated) SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9, $10 "
    "WHERE (SELECT epoch FROM lease WHERE shard = 0) = $9 RETURNING 1"
)
"""Into the day's own table, so that the server need not look for it each time."""

_VOID = (
    "INSERT INTO journal (day, seq, source, received_at, body, event_keys, progress, done, epoch) "
    "SELECT $1, $2, '', $3, '', '', '', true, $4 "
    "WHERE (SELECT epoch FROM lease WHERE shard = 0) = $4 "
    "ON CONFLICT (day, seq) DO UPDATE SET body = '', event_keys = '', done = true, repeated = 0 "
    "WHERE journal.epoch = $4 RETURNING 1"
)
"""An insert of the same row that is still under way makes this wait, or fails after it. The row of
that number may be a successor's by now: that one stays."""

_HIGHEST = (
    "SELECT greatest((SELECT max(seq) FROM journal), (SELECT journal_seq FROM instance_state), "
    "(SELECT max(split_part(left_out, '.', 2)::bigint) FROM portal))"
)
"""Also of days that are gone: what was noted of a number must not come true of another event."""

_UNFINISHED = (
    "SELECT day, seq, source, received_at, body, progress, parked, delivered, dropped, "
    "length(event_keys) / 16 AS number FROM ("
    "SELECT *, sum(length(body)) OVER (ORDER BY seq) - length(body) AS before FROM ("
    "SELECT * FROM journal WHERE NOT done AND seq > $1 "
    "ORDER BY seq LIMIT 100) AS page) AS summed WHERE before < 8000000 ORDER BY seq"
)
"""At least one row, and not many more bytes than a large one has."""

_LINK = (
    "WITH linked AS (INSERT INTO message (day, portal, event_id, remote_id, part, sender, room, "
    "kind, received_at, laned_at, sent_at, confirmed_at) SELECT $10, n.portal, n.event_id, "
    "n.remote_id, coalesce(n.part, 0), n.sender, n.room, coalesce(n.kind, 'message'), "
    "n.received_at, n.laned_at, n.sent_at, n.confirmed_at FROM unnest("
    "$11::text::bigint[], $12::text[], $13::bytea[], $14::integer[], $15::text[], $16::text[], "
    "$17::text[], $18::timestamptz[], $19::timestamptz[], $20::timestamptz[], "
    "$21::timestamptz[]) AS n (portal, event_id, remote_id, part, sender, room, kind, "
    "received_at, laned_at, sent_at, confirmed_at) "
    "WHERE (SELECT epoch FROM lease WHERE shard = 0) = $5) "
)
_MARK = (
    "UPDATE journal SET progress = m.progress, done = m.done, parked = m.parked, "
    "delivered = m.delivered, dropped = m.dropped, marked_at = $6 "
    "FROM unnest($2::bigint[], $3::bytea[], $4::boolean[], $7::integer[], $8::integer[], "
    "$9::integer[]) AS m (seq, progress, done, parked, delivered, dropped) "
    "WHERE journal.day = $1 AND journal.seq = m.seq "
    "AND (SELECT epoch FROM lease WHERE shard = 0) = $5"
)
_LINK_AND_MARK = _LINK + _MARK


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalRow:
    """A row as read back, its body opened."""

    id: RowId
    source: Source
    received_at: datetime
    body: bytes
    progress: bytes
    counts: tuple[int, int, int]
    """How many of its events were parked, delivered, dropped."""
    number: int
    """How many events it has."""


class Journal:
    """Written by one lander at a time, in the order of arrival."""

    def __init__(self, database: Database, day_keys: DayKeys) -> None:
        self._database = database
        self._day_keys = day_keys
        self._clock = database.clock
        self._connection: Connection | None = None
        self._landing: dict[date, Any] = {}
        """How to land on that connection what is kept with a day."""
        self._seq = 0
        self._uncertain: list[RowId] = []

    async def open(self) -> None:
        """Read where the numbering stands. Call once, before anything is landed."""
        with at_the_door():
            self._seq = await self._database.core.fetchval(_HIGHEST)

    async def close(self) -> None:
        """Let go of the lander's connection."""
        connection, self._connection = self._connection, None
        self._landing = {}
        if connection is not None:
            connection.terminate()

    async def land(
        self, *, source: Source, body: bytes, event_keys: bytes, progress: bytes, done: bool,
        repeated: int = 0, day: date | None = None,
        begun: Callable[[RowId], None] = lambda row: None,
    ) -> RowId:  # fmt: skip
        """Store a transaction; returns after the commit. ``begun`` is told once that is under way.

        ``event_keys`` are 16 bytes an event, of which ``repeated`` came before; ``progress`` is
        the core's. It is kept as what came on ``day`` is, or today. Raises
        ``TemporaryFailure`` when the database is away; then nothing is stored, and if that is
        not sure it is made so before anything else is landed or looked up. Raises ``Forgotten``
        when the day is over.
        """
        if self._uncertain:
            await self._void_uncertain()
        now = self._clock.now()
        if now.date() > self._database.covered_until:
            await self._database.cover(now.date())
        self._seq += 1
        row = RowId(day or now.date(), self._seq)
        if len(body) < _THREAD_FROM:
            sealed = self._seal(row, body)
        else:
            sealed = await asyncio.to_thread(self._seal, row, body)
        connection, statement = await self._lander(row.day)
        # Cheaper than asyncpg's own limit.
        cut = asyncio.get_running_loop().call_later(_LAND_LIMIT, connection.terminate)
        try:
            begun(row)
            with at_the_door():
                stored = await statement.fetchval(
                    row.day, row.seq, source.value, now, sealed, event_keys, progress, done,
                    self._database.epoch, repeated,
                )  # fmt: skip
        except asyncpg.UndefinedTableError as error:
            self._landing = {}
            raise NoTables("the tables of this day are not there any more") from error
        except (TemporaryFailure, asyncio.CancelledError):
            self._uncertain.append(row)
            await self.close()
            raise
        finally:
            cut.cancel()
        if stored is None:
            raise TemporaryFailure("another instance took over the database")
        return row

    async def mark(self, marks: Sequence[Mark], links: Sequence[MessageLink] = ()) -> None:
        """Make progress durable, and which event is which remote message, in one commit a day."""
        now = self._clock.now()
        if links and now.date() > self._database.covered_until:
            await self._database.cover(now.date())
        days = [list(group) for _, group in groupby(marks, key=lambda mark: mark.row.day)]
        for some in days:
            parked, delivered, dropped = zip(*(one.counts for one in some), strict=True)
            values: list[Any] = [
                some[0].row.day, [one.row.seq for one in some], [one.progress for one in some],
                [one.done for one in some], self._database.epoch, now, parked, delivered, dropped,
            ]  # fmt: skip
            # With the first: no mark is durable before the link of what it marks.
            linking = bool(links) and some is days[0]
            if linking:
                values += [now.date(), *link_columns(links)]
            with at_the_door():
                await self._database.core.execute(_LINK_AND_MARK if linking else _MARK, *values)

    async def unfinished(self) -> AsyncIterator[JournalRow]:
        """The rows with something left to do, in the order of arrival."""
        seq = 0
        while True:
            with at_the_door():
                rows = await self._database.core.fetch(_UNFINISHED, seq)
            if not rows:
                return
            for row in rows:
                try:
                    yield self._open(row)
                except KeyLost as error:
                    log.error(
                        "transaction %s of %s cannot be read: %s", row["seq"], row["day"], error,
                        extra={"event": "journal_unreadable"},
                    )  # fmt: skip
            seq = rows[-1]["seq"]

    async def read(self, row: RowId) -> JournalRow | None:
        """One row, None if it is not there any more, or was taken back."""
        with at_the_door():
            found = await self._database.core.fetchrow(
                "SELECT day, seq, source, received_at, body, progress, parked, delivered, "
                "dropped, length(event_keys) / 16 AS number FROM journal "
                "WHERE day = $1 AND seq = $2 AND body <> ''",
                row.day, row.seq,
            )  # fmt: skip
        return None if found is None else self._open(found)

    async def known_keys(self, keys: Sequence[bytes]) -> set[bytes]:
        """Those of the keys that were landed in the days kept. Slow: reads every row's keys."""
        if self._uncertain:
            await self._void_uncertain()
        wanted = set(keys)
        known: set[bytes] = set()
        async for packed in self._packed_keys():
            known.update(key for key in _unpack(packed) if key in wanted)
            if len(known) == len(wanted):
                break
        return known

    async def has_retry(self, day: date, key: bytes) -> bool:
        """Whether a row of that day was landed to try again what the key stands for."""
        if self._uncertain:
            await self._void_uncertain()
        with at_the_door():
            return bool(await self._database.core.fetchval(
                "SELECT EXISTS (SELECT FROM journal WHERE day = $1 AND source = $2 "
                "AND position($3 IN event_keys) > 0)",
                day, Source.RETRY.value, key,
            ))  # fmt: skip

    async def recent_keys(self, limit: int) -> AsyncIterator[bytes]:
        """The newest keys, newest first, at most ``limit``."""
        left = limit
        async for packed in self._packed_keys():
            for key in reversed(_unpack(packed)):
                if left <= 0:
                    return
                left -= 1
                yield key

    async def _packed_keys(self) -> AsyncIterator[bytes]:
        """Every row's keys, newest row first."""
        day, seq = date.max, 2**62
        while True:
            with at_the_door():
                rows = await self._database.core.fetch(
                    "SELECT day, seq, event_keys FROM journal WHERE (day, seq) < ($1, $2) "
                    "ORDER BY day DESC, seq DESC LIMIT 1000",
                    day, seq,
                )  # fmt: skip
            if not rows:
                return
            for row in rows:
                yield row["event_keys"]
            day, seq = rows[-1]["day"], rows[-1]["seq"]

    async def _lander(self, day: date) -> tuple[Connection, Any]:
        connection, statement = self._connection, self._landing.get(day)
        if connection is None or connection.is_closed() or statement is None:
            try:
                with at_the_door():
                    async with asyncio.timeout(_LAND_LIMIT):
                        if connection is None or connection.is_closed():
                            connection = self._connection = await self._database.connection()
                        statement = await _prepare_landing(connection, day)
            except BaseException:
                await self.close()
                raise
            # Nearly all is kept with one day.
            self._landing = {day: statement}
        return connection, statement

    async def _void_uncertain(self) -> None:
        """Take back rows of which nobody knows whether they were stored.

        They were not acknowledged, so the homeserver repeats them; and they are in no lane, so
        their keys must not make the repetition look like a double.
        """
        for row in list(self._uncertain):
            try:
                with at_the_door():
                    taken_back = await self._database.core.fetchval(
                        _VOID, row.day, row.seq, self._clock.now(), self._database.epoch
                    )
            except NoTables:
                taken_back = True  # It went with its day.
            if taken_back is None:
                raise TemporaryFailure("another instance took over the database")
            self._uncertain.remove(row)

    def _seal(self, row: RowId, body: bytes) -> bytes:
        return self._day_keys.seal(row.day, _associated(row), _pack(body))

    def _open(self, row: asyncpg.Record) -> JournalRow:
        row_id = RowId(row["day"], row["seq"])
        return JournalRow(
            id=row_id,
            source=Source(row["source"]),
            received_at=row["received_at"],
            body=_unpack_body(self._day_keys.open(row_id.day, _associated(row_id), row["body"])),
            progress=row["progress"],
            counts=(row["parked"], row["delivered"], row["dropped"]),
            number=row["number"],
        )


async def _prepare_landing(connection: Connection, day: date) -> Any:
    own = name_of("journal", day)
    # Not so for a day that an earlier version made, or none: then the server says what is wrong.
    may = "SELECT has_table_privilege(to_regclass($1), 'INSERT')"
    table = own if await connection.fetchval(may, own) else "journal"
    return await connection.prepare(_LAND.format(table))


def _associated(row: RowId) -> bytes:
    return f"journal {row.day.isoformat()} {row.seq}".encode()


def _pack(body: bytes) -> bytes:
    """Compress what would not fit into a page of the table: Postgres would cut it up."""
    if len(body) < _PAGE:
        return b"\0" + body
    return b"\1" + zlib.compress(body, 1)


def _unpack_body(packed: bytes) -> bytes:
    return zlib.decompress(packed[1:]) if packed[:1] == b"\1" else packed[1:]


def _unpack(packed: bytes) -> list[bytes]:
    return [packed[at : at + KEY_BYTES] for at in range(0, len(packed), KEY_BYTES)]
