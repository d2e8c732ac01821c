"""The journal: what the homeserver gave us, one sealed row a transaction."""

import asyncio
import zlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from itertools import groupby
from typing import Any

import asyncpg

from bridge.model import RowId, Source
from bridge.sdk.errors import TemporaryFailure
from bridge.storage.keys import DayKeys
from bridge.storage.pool import Database, at_the_door
from bridge.storage.schema import Connection

KEY_BYTES = 16
_THREAD_FROM = 256 * 1024
"""Bodies from this size on are sealed in a thread: the loop must not stand still."""

_PAGE = 1500
"""Bytes from which on a value leaves its row's page."""

_LAND = (
    "INSERT INTO journal (day, seq, source, received_at, body, event_keys, progress, done, epoch) "
    "SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9 "
    "WHERE (SELECT epoch FROM lease WHERE shard = 0) = $9 RETURNING 1"
)
_MARK = (
    "UPDATE journal SET progress = m.progress, done = m.done "
    "FROM unnest($2::bigint[], $3::bytea[], $4::boolean[]) AS m (seq, progress, done) "
    "WHERE journal.day = $1 AND journal.seq = m.seq "
    "AND (SELECT epoch FROM lease WHERE shard = 0) = $5"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalRow:
    """A row as read back, its body opened."""

    id: RowId
    source: Source
    received_at: datetime
    body: bytes
    progress: bytes


class Journal:
    """Written by one lander at a time, in the order of arrival."""

    def __init__(self, database: Database, day_keys: DayKeys) -> None:
        self._database = database
        self._day_keys = day_keys
        self._clock = database.clock
        self._connection: Connection | None = None
        self._land_statement: Any = None
        self._seq = 0

    async def open(self) -> None:
        """Read where the numbering stands. Call once, before anything is landed."""
        with at_the_door():
            self._seq = await self._database.core.fetchval(
                "SELECT coalesce(max(seq), 0) FROM journal"
            )

    async def close(self) -> None:
        """Let go of the lander's connection."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.terminate()

    async def land(
        self, *, source: Source, body: bytes, event_keys: bytes, progress: bytes, done: bool
    ) -> RowId:
        """Store a transaction; returns after the commit.

        ``event_keys`` are 16 bytes an event, ``progress`` is the core's. Raises
        ``TemporaryFailure`` when the database is away. An unknown outcome is a failure too: the
        homeserver repeats the transaction, and its events are known by their keys.
        """
        now = self._clock.now()
        self._seq += 1
        row = RowId(now.date(), self._seq)
        associated = _associated(row)
        if len(body) < _THREAD_FROM:
            sealed = self._day_keys.seal(row.day, associated, _pack(body))
        else:
            sealed = await asyncio.to_thread(
                lambda: self._day_keys.seal(row.day, associated, _pack(body))
            )
        values = (
            row.day, row.seq, source.value, now, sealed, event_keys, progress, done,
            self._database.epoch,
        )  # fmt: skip
        try:
            with at_the_door():
                statement = self._land_statement or await self._prepare()
                stored = await statement.fetchval(*values, timeout=15)
        except (TemporaryFailure, TimeoutError, asyncio.CancelledError) as error:
            await self.close()
            self._land_statement = None
            if isinstance(error, TimeoutError):
                raise TemporaryFailure("the database did not store it in 15 s") from error
            raise
        if stored is None:
            raise TemporaryFailure("another instance took over the database")
        return row

    async def mark(self, marks: Sequence[tuple[RowId, bytes, bool]]) -> None:
        """Make progress durable: (row, progress, whether the row is done)."""
        with at_the_door():
            for day, group in groupby(marks, key=lambda mark: mark[0].day):
                seqs, progress, done = [], [], []
                for row, bits, finished in group:
                    seqs.append(row.seq)
                    progress.append(bits)
                    done.append(finished)
                await self._database.core.execute(
                    _MARK, day, seqs, progress, done, self._database.epoch
                )

    async def unfinished(self) -> AsyncIterator[JournalRow]:
        """The rows with something left to do, in the order of arrival."""
        day, seq = date.min, 0
        while True:
            with at_the_door():
                rows = await self._database.core.fetch(
                    "SELECT day, seq, source, received_at, body, progress FROM journal "
                    "WHERE NOT done AND (day, seq) > ($1, $2) ORDER BY day, seq LIMIT 100",
                    day, seq,
                )  # fmt: skip
            if not rows:
                return
            for row in rows:
                yield self._open(row)
            day, seq = rows[-1]["day"], rows[-1]["seq"]

    async def read(self, row: RowId) -> JournalRow | None:
        """One row, None if it is not there any more."""
        with at_the_door():
            found = await self._database.core.fetchrow(
                "SELECT day, seq, source, received_at, body, progress FROM journal "
                "WHERE day = $1 AND seq = $2",
                row.day, row.seq,
            )  # fmt: skip
        return None if found is None else self._open(found)

    async def known_keys(self, keys: Sequence[bytes]) -> set[bytes]:
        """Those of the keys that were landed in the days kept. Slow: reads every row's keys."""
        wanted = set(keys)
        known: set[bytes] = set()
        async for packed in self._packed_keys():
            known.update(key for key in _unpack(packed) if key in wanted)
            if len(known) == len(wanted):
                break
        return known

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
                    "ORDER BY day DESC, seq DESC LIMIT 5000",
                    day, seq,
                )  # fmt: skip
            if not rows:
                return
            for row in rows:
                yield row["event_keys"]
            day, seq = rows[-1]["day"], rows[-1]["seq"]

    async def _prepare(self) -> Any:
        if self._connection is None or self._connection.is_closed():
            self._connection = await self._database.connection()
        self._land_statement = await self._connection.prepare(_LAND)
        return self._land_statement

    def _open(self, row: asyncpg.Record) -> JournalRow:
        row_id = RowId(row["day"], row["seq"])
        return JournalRow(
            id=row_id,
            source=Source(row["source"]),
            received_at=row["received_at"],
            body=_unpack_body(self._day_keys.open(row_id.day, _associated(row_id), row["body"])),
            progress=row["progress"],
        )


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
