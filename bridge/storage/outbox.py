"""The outbox: what must go into Matrix, stored before it is sent."""

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from itertools import groupby
from typing import Any

import asyncpg
import orjson

from bridge.model import Outgoing, ParkReason, QueuedOutgoing, SendKind
from bridge.sdk.errors import PermanentFailure, TemporaryFailure
from bridge.sdk.ids import EventId, RoomId, UserId
from bridge.storage.door import at_the_door
from bridge.storage.keys import DayKeys, KeyLost
from bridge.storage.pool import Database

log = logging.getLogger(__name__)

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
_FIND = (
    "SELECT day, seq, received_at, transaction_id, state FROM outbox "
    "WHERE day BETWEEN $1 AND $2 AND transaction_id = ANY($3::text[])"
)
_SENT = (
    "WITH sent AS (UPDATE outbox SET state = 'sent', event_id = m.event_id FROM "
    "unnest($2::bigint[], $3::text[]) AS m (seq, event_id) "
    "WHERE outbox.day = $1 AND outbox.seq = m.seq AND outbox.state <> 'sent' "
    "AND (SELECT epoch FROM lease WHERE shard = 0) = $4 RETURNING outbox.*) "
    "INSERT INTO message (day, portal, event_id, remote_id, part, sender, kind) "
    "SELECT $5, portal, event_id, remote_id, part, sender, 'message' FROM sent "
    "WHERE kind = 'event' AND portal IS NOT NULL AND event_id IS NOT NULL"
)
"""What was marked before is not marked again: a repetition adds no second link."""


@dataclass(slots=True, eq=False)
class _Call:
    """One caller's entries, and what became of them."""

    entries: list[QueuedOutgoing]
    payloads: list[bytes]
    result: list[QueuedOutgoing] = field(default_factory=list)
    error: Exception | None = None
    begun: bool = False
    """Somebody writes it or tried to: it may be stored."""
    written: bool = False
    given_up: bool = False
    """The caller was cancelled; what is stored of it goes to the next one."""


class Outbox:
    """Entries of a room go out in the order in which they were added."""

    def __init__(self, database: Database, day_keys: DayKeys) -> None:
        self._database = database
        self._day_keys = day_keys
        self._clock = database.clock
        self._seq = 0
        self._gathered: list[_Call] = []
        self._writing = asyncio.Lock()
        self._out: set[tuple[date, int]] = set()
        """Entries in a caller's hands: neither finished nor parked yet."""
        self._left: dict[tuple[date, int], QueuedOutgoing] = {}
        """Stored entries of callers that were cancelled."""

    async def open(self) -> None:
        """Read where the numbering stands. Call once, before anything is added."""
        with at_the_door():
            self._seq = await self._database.core.fetchval(
                "SELECT coalesce(max(seq), 0) FROM outbox"
            )

    async def add(self, outgoing: Sequence[Outgoing]) -> list[QueuedOutgoing]:
        """Store the entries in one commit, shared with whoever adds at the same time.

        Returns those that are now the caller's to send, in order; what a cancelled caller left
        comes first. A transaction id that is there already (of today or yesterday) is the same
        entry: it is returned only if it is not sent and in nobody's hands, as after a commit
        whose answer was lost.

        Raises ``TemporaryFailure`` when the database is away, and ``PermanentFailure`` for an
        entry that cannot be stored; add the same again after the first.
        """
        now = self._clock.now()
        payloads = [_payload(one) for one in outgoing]
        first = self._seq + 1
        self._seq += len(payloads)
        call = _Call(
            [
                QueuedOutgoing(day=now.date(), seq=seq, received_at=now, outgoing=one)
                for seq, one in enumerate(outgoing, first)
            ],
            payloads,
        )
        self._gathered.append(call)
        try:
            async with self._writing:
                if not call.written:
                    await self._write_gathered()
        except BaseException:
            self._give_up(call)
            raise
        if call.error is not None:
            raise call.error
        return call.result

    async def finish(self, done: Sequence[tuple[QueuedOutgoing, EventId | None]]) -> None:
        """Mark entries as sent, and note which event is which message, in one commit a day."""
        today = self._clock.today()
        if today > self._database.covered_until:
            await self._database.cover(today)
        for day, group in groupby(
            sorted(done, key=lambda pair: pair[0].day), key=lambda pair: pair[0].day
        ):
            entries = list(group)
            with at_the_door():
                await self._database.core.execute(
                    _SENT, day, [q.seq for q, _ in entries], [e for _, e in entries],
                    self._database.epoch, today,
                )  # fmt: skip
            self._out.difference_update((day, queued.seq) for queued, _ in entries)

    async def park(self, queued: QueuedOutgoing, reason: ParkReason, detail: str) -> None:
        """Put the entry aside with the reason in a sentence."""
        sealed = self._day_keys.seal(
            queued.day, outbox_context(queued.day, queued.seq), detail.encode("utf-8", "replace")
        )
        with at_the_door():
            await self._database.core.execute(
                "UPDATE outbox SET state = 'parked', reason = $3, detail = $4 "
                "WHERE day = $1 AND seq = $2 "
                "AND (SELECT epoch FROM lease WHERE shard = 0) = $5",
                queued.day, queued.seq, reason.value, sealed, self._database.epoch,
            )  # fmt: skip
        self._out.discard((queued.day, queued.seq))

    async def take_back(self, day: date, seq: int) -> QueuedOutgoing | None:
        """Have a parked entry wait again: it is the caller's to send. None if it is not parked."""
        with at_the_door():
            row = await self._database.core.fetchrow(
                "UPDATE outbox SET state = 'queued', reason = NULL, detail = NULL "
                "WHERE (day, seq) = ($1, $2) AND state = 'parked' "
                "AND (SELECT epoch FROM lease WHERE shard = 0) = $3 RETURNING *",
                day, seq, self._database.epoch,
            )  # fmt: skip
        if row is None:
            return None
        self._out.add((day, seq))
        return self._open(row)

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
                try:
                    queued = self._open(row)
                except KeyLost as error:
                    log.error(
                        "entry %s of %s of the outbox cannot be read: %s", row["seq"], row["day"],
                        error, extra={"event": "outbox_unreadable"},
                    )  # fmt: skip
                    continue
                self._out.add((queued.day, queued.seq))
                yield queued
            day, seq = rows[-1]["day"], rows[-1]["seq"]

    def _give_up(self, call: _Call) -> None:
        call.given_up = True
        if call in self._gathered and not call.begun:
            self._gathered.remove(call)
        for queued in call.result:
            place = (queued.day, queued.seq)
            self._out.discard(place)
            self._left[place] = queued

    async def _write_gathered(self) -> None:
        """Write what all callers gathered. A cancelled writer leaves it to the next in line."""
        calls, self._gathered = self._gathered, []
        for call in calls:
            call.begun = True
        try:
            try:
                await self._write(calls)
            except PermanentFailure:
                await self._write_apart(calls)
        except TemporaryFailure as error:
            for call in calls:
                if not call.written:
                    call.error, call.written = error, True
        except BaseException:
            self._gathered = [call for call in calls if not call.written] + self._gathered
            raise

    async def _write_apart(self, calls: Sequence[_Call]) -> None:
        """Each caller's entries alone, so that one that cannot be stored costs no other."""
        for call in calls:
            try:
                await self._write([call])
            except PermanentFailure as error:
                call.error, call.written = error, True

    async def _write(self, calls: Sequence[_Call]) -> None:
        stored: set[tuple[date, int]] = set()
        pairs = [pair for call in calls for pair in zip(call.entries, call.payloads, strict=True)]
        for day, group in groupby(pairs, key=lambda pair: pair[0].day):
            stored |= await self._insert(day, list(group))
        missing = [queued for queued, _ in pairs if (queued.day, queued.seq) not in stored]
        found = await self._find(missing) if missing else {}
        for call in calls:
            call.written = True
            for queued in call.entries:
                place = (queued.day, queued.seq)
                mine = queued if place in stored else found.get(queued.outgoing.transaction_id)
                if mine is None or (mine.day, mine.seq) in self._out:
                    continue
                self._left[mine.day, mine.seq] = mine
            if not call.given_up:
                call.result += [self._left[place] for place in sorted(self._left)]
                self._out.update(self._left)
                self._left.clear()

    async def _insert(
        self, day: date, entries: Sequence[tuple[QueuedOutgoing, bytes]]
    ) -> set[tuple[date, int]]:
        if day > self._database.covered_until:
            await self._database.cover(day)
        columns: list[list[Any]] = [[] for _ in range(9)]
        received_at: datetime = entries[0][0].received_at
        for queued, payload in entries:
            one = queued.outgoing
            sealed = self._day_keys.seal(day, outbox_context(day, queued.seq), payload)
            row = (
                queued.seq, one.room, one.user, one.kind.value, one.transaction_id, sealed,
                one.portal, _encode(one.remote_id), one.part,
            )  # fmt: skip
            for column, value in zip(columns, row, strict=True):
                column.append(value)
        with at_the_door():
            rows = await self._database.core.fetch(
                _ADD, day, received_at, *columns, self._database.epoch, day - timedelta(days=1)
            )
        return {(day, row["seq"]) for row in rows}

    async def _find(self, missing: Sequence[QueuedOutgoing]) -> dict[str, QueuedOutgoing]:
        """Those of the entries that were stored before and are not sent, by transaction id."""
        last = max(queued.day for queued in missing)
        wanted = {queued.outgoing.transaction_id: queued.outgoing for queued in missing}
        with at_the_door():
            rows = await self._database.core.fetch(
                _FIND, last - timedelta(days=2), last, list(wanted)
            )
        if not wanted.keys() <= {row["transaction_id"] for row in rows}:
            raise TemporaryFailure("another instance took over the database")
        return {
            row["transaction_id"]: QueuedOutgoing(
                day=row["day"], seq=row["seq"], received_at=row["received_at"],
                outgoing=wanted[row["transaction_id"]],
            )
            for row in rows if row["state"] == "queued"
        }  # fmt: skip

    def _open(self, row: asyncpg.Record) -> QueuedOutgoing:
        payload = orjson.loads(
            self._day_keys.open(row["day"], outbox_context(row["day"], row["seq"]), row["content"])
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


def _payload(one: Outgoing) -> bytes:
    """What is sealed of an entry. Checked before others' entries share a statement with it."""
    try:
        return orjson.dumps({
            "type": one.type, "state_key": one.state_key, "content": one.content,
            "target": one.target, "name": one.name,
        })  # fmt: skip
    except orjson.JSONEncodeError as error:
        raise PermanentFailure("it holds what Matrix has no words for") from error


def outbox_context(day: date, seq: int) -> bytes:
    """What an entry's sealed parts are bound to."""
    return f"outbox {day.isoformat()} {seq}".encode()


def _encode(remote_id: str | None) -> bytes | None:
    return None if remote_id is None else remote_id.encode("utf-8", "surrogatepass")
