"""The outbox: what must go into Matrix, stored before it is sent."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import date, datetime, timedelta
from typing import Any

import asyncpg
import orjson

from bridge.model import Outgoing, ParkReason, QueuedOutgoing, SendKind
from bridge.sdk.ids import EventId, RoomId, UserId
from bridge.storage.door import at_the_door
from bridge.storage.keys import DayKeys
from bridge.storage.pool import Database

_ADD = (
    "INSERT INTO outbox (day, seq, received_at, room, sender, kind, transaction_id, content, "
    "portal, remote_id, part, state, epoch) "
    "SELECT $1, n.seq, $2, n.room, n.sender, n.kind, n.transaction_id, n.content, n.portal, "
    "n.remote_id, n.part, 'queued', $12 FROM unnest($3::bigint[], $4::text[], $5::text[], "
    "$6::text[], $7::text[], $8::bytea[], $9::bigint[], $10::bytea[], $11::integer[]) AS n "
    "(seq, room, sender, kind, transaction_id, content, portal, remote_id, part) "
    "WHERE (SELECT epoch FROM lease WHERE shard = 0) = $12 AND NOT EXISTS ("
    "SELECT FROM outbox o WHERE o.day = $13 AND o.transaction_id = n.transaction_id) "
    "ON CONFLICT (day, transaction_id) DO NOTHING RETURNING seq"
)
_SENT = (
    "UPDATE outbox SET state = 'sent', event_id = m.event_id FROM "
    "unnest($2::bigint[], $3::text[]) AS m (seq, event_id) "
    "WHERE outbox.day = $1 AND outbox.seq = m.seq "
    "AND (SELECT epoch FROM lease WHERE shard = 0) = $4"
)


class Outbox:
    """Entries of a room go out in the order in which they were added."""

    def __init__(self, database: Database, day_keys: DayKeys) -> None:
        self._database = database
        self._day_keys = day_keys
        self._clock = database.clock
        self._seq = 0
        self._gathered: list[tuple[QueuedOutgoing, asyncio.Future[bool]]] = []
        self._writing = asyncio.Lock()

    async def open(self) -> None:
        """Read where the numbering stands. Call once, before anything is added."""
        with at_the_door():
            self._seq = await self._database.core.fetchval(
                "SELECT coalesce(max(seq), 0) FROM outbox"
            )

    async def add(self, outgoing: Sequence[Outgoing]) -> list[QueuedOutgoing]:
        """Store the entries in one commit, shared with whoever adds at the same time.

        Returns those that are new: a transaction id that is there already (of today or
        yesterday) is the same entry. Raises ``TemporaryFailure`` when the database is away.
        """
        loop = asyncio.get_running_loop()
        now = self._clock.now()
        mine = []
        for one in outgoing:
            self._seq += 1
            queued = QueuedOutgoing(day=now.date(), seq=self._seq, received_at=now, outgoing=one)
            mine.append((queued, loop.create_future()))
        self._gathered += mine
        async with self._writing:
            if any(not future.done() for _, future in mine):
                await self._write_gathered()
        return [queued for queued, future in mine if future.result()]

    async def finish(self, done: Sequence[tuple[QueuedOutgoing, EventId | None]]) -> None:
        """Mark entries as sent, and note which event is which message, in one commit."""
        by_day: dict[date, list[tuple[QueuedOutgoing, EventId | None]]] = {}
        for queued, event_id in done:
            by_day.setdefault(queued.day, []).append((queued, event_id))
        links = [
            (self._clock.today(), queued.outgoing.portal, event_id,
             _encode(queued.outgoing.remote_id), queued.outgoing.part, queued.outgoing.user,
             "message")
            for queued, event_id in done
            if event_id and queued.outgoing.portal is not None
            and queued.outgoing.kind is SendKind.EVENT
        ]  # fmt: skip
        with at_the_door():
            async with self._database.core.acquire() as connection, connection.transaction():
                for day, entries in by_day.items():
                    await connection.execute(
                        _SENT, day, [q.seq for q, _ in entries], [e for _, e in entries],
                        self._database.epoch,
                    )  # fmt: skip
                if links:
                    await connection.executemany(
                        "INSERT INTO message (day, portal, event_id, remote_id, part, sender, "
                        "kind) VALUES ($1, $2, $3, $4, $5, $6, $7)",
                        links,
                    )

    async def park(self, queued: QueuedOutgoing, reason: ParkReason, detail: str) -> None:
        """Put the entry aside with the reason in a sentence."""
        sealed = self._day_keys.seal(
            queued.day, _associated(queued.day, queued.seq), detail.encode("utf-8", "replace")
        )
        with at_the_door():
            await self._database.core.execute(
                "UPDATE outbox SET state = 'parked', reason = $3, detail = $4 "
                "WHERE day = $1 AND seq = $2 "
                "AND (SELECT epoch FROM lease WHERE shard = 0) = $5",
                queued.day, queued.seq, reason.value, sealed, self._database.epoch,
            )  # fmt: skip

    async def unfinished(self) -> AsyncIterator[QueuedOutgoing]:
        """The entries not sent yet, in order."""
        day, seq = date.min, 0
        while True:
            with at_the_door():
                rows = await self._database.core.fetch(
                    "SELECT * FROM outbox WHERE state = 'queued' AND (day, seq) > ($1, $2) "
                    "ORDER BY day, seq LIMIT 500",
                    day, seq,
                )  # fmt: skip
            if not rows:
                return
            for row in rows:
                yield self._open(row)
            day, seq = rows[-1]["day"], rows[-1]["seq"]

    async def _write_gathered(self) -> None:
        batch, self._gathered = self._gathered, []
        try:
            with at_the_door():
                by_day: dict[date, list[QueuedOutgoing]] = {}
                for queued, _ in batch:
                    by_day.setdefault(queued.day, []).append(queued)
                stored: set[int] = set()
                for day, entries in by_day.items():
                    stored |= await self._insert(day, entries)
        except BaseException as error:
            for _, future in batch:
                if not future.done():
                    failure = error if isinstance(error, Exception) else None
                    if failure is None:
                        future.cancel()
                    else:
                        future.set_exception(failure)
                        future.exception()  # Retrieved: each caller raises its own.
            raise
        for queued, future in batch:
            if not future.done():
                future.set_result(queued.seq in stored)

    async def _insert(self, day: date, entries: Sequence[QueuedOutgoing]) -> set[int]:
        columns: list[list[Any]] = [[] for _ in range(9)]
        received_at: datetime = entries[0].received_at
        for queued in entries:
            one = queued.outgoing
            payload = orjson.dumps({
                "type": one.type, "state_key": one.state_key, "content": one.content,
                "target": one.target, "name": one.name,
            })  # fmt: skip
            sealed = self._day_keys.seal(day, _associated(day, queued.seq), payload)
            row = (
                queued.seq, one.room, one.user, one.kind.value, one.transaction_id, sealed,
                one.portal, _encode(one.remote_id), one.part,
            )  # fmt: skip
            for column, value in zip(columns, row, strict=True):
                column.append(value)
        rows = await self._database.core.fetch(
            _ADD, day, received_at, *columns, self._database.epoch, day - timedelta(days=1)
        )
        return {row["seq"] for row in rows}

    def _open(self, row: asyncpg.Record) -> QueuedOutgoing:
        payload = orjson.loads(
            self._day_keys.open(row["day"], _associated(row["day"], row["seq"]), row["content"])
        )
        remote_id = row["remote_id"]
        return QueuedOutgoing(
            day=row["day"],
            seq=row["seq"],
            received_at=row["received_at"],
            outgoing=Outgoing(
                room=RoomId(row["room"]),
                user=UserId(row["sender"]),
                kind=SendKind(row["kind"]),
                type=payload["type"],
                state_key=payload["state_key"],
                content=payload["content"],
                transaction_id=row["transaction_id"],
                portal=row["portal"],
                remote_id=None
                if remote_id is None
                else remote_id.decode("utf-8", "surrogatepass"),
                part=row["part"],
                target=payload["target"],
                name=payload["name"],
            ),
        )


def _associated(day: date, seq: int) -> bytes:
    return f"outbox {day.isoformat()} {seq}".encode()


def _encode(remote_id: str | None) -> bytes | None:
    return None if remote_id is None else remote_id.encode("utf-8", "surrogatepass")
