"""The outbox: what must go into Matrix, stored before it is sent."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from datetime import date, datetime, timedelta
from itertools import groupby
from operator import attrgetter, itemgetter
from time import monotonic
from typing import NamedTuple

import asyncpg

from bridge.model import Forgotten, LinkKind, Outgoing, ParkReason, QueuedOutgoing, Sent
from bridge.sdk.errors import PermanentFailure, TemporaryFailure
from bridge.sdk.ids import RoomId, UserId
from bridge.storage.arrays import but_for, packed
from bridge.storage.datamap import RECEIVED_DAYS
from bridge.storage.door import at_the_door
from bridge.storage.keys import DayKeys, KeyLost
from bridge.storage.moves import Moves
from bridge.storage.outboxcall import Call
from bridge.storage.outboxentry import (
    ADD,
    ADD_LOOKING_ROUND,
    ADD_ONE,
    Place,
    as_arrays,
    columns_of,
    open_entry,
    outbox_context,
    payload_of,
)
from bridge.storage.pool import Database
from bridge.storage.portals import remote_bytes
from bridge.storage.storeddays import DAYS, StoredDays

log = logging.getLogger(__name__)


_FIND = (
    "SELECT day, seq, received_at, transaction_id, state FROM outbox "
    "WHERE day >= $1 AND transaction_id = ANY($2::text[])"
)
_SENT = (
    "WITH sent AS (UPDATE outbox SET state = 'sent', event_id = m.event_id, sent_at = m.sent_at "
    "FROM unnest($2::text::bigint[], $3::text[], $6::timestamptz[], $7::text[], $8::bytea[]) "
    "AS m (seq, event_id, sent_at, link, alias) "
    "WHERE outbox.day = $1 AND outbox.seq = m.seq AND outbox.state <> 'sent' "
    "AND (SELECT epoch FROM lease WHERE shard = 0) = $4 RETURNING outbox.*, m.link, m.alias) "
    "INSERT INTO message (day, portal, event_id, remote_id, part, sender, room, kind, "
    "received_at, confirmed_at) "
    "SELECT $5, portal, event_id, called, part, sender, room, "
    "coalesce(link, 'message'), received_at, sent_at "
    "FROM sent CROSS JOIN LATERAL (SELECT sent.remote_id UNION ALL "
    "SELECT sent.alias WHERE sent.alias IS NOT NULL) AS names (called) "
    "WHERE kind = 'event' AND portal IS NOT NULL AND event_id IS NOT NULL"
)
"""What was marked before is not marked again: a repetition adds no second link."""

_NEXT = (
    "SELECT * FROM outbox WHERE state = 'queued' AND room = $1 AND seq > $2 AND seq <= $3 "
    "ORDER BY seq LIMIT $4"
)
_CLAIM = (
    "SELECT o.* FROM unnest($1::date[], $2::bigint[]) AS d (day, seq) "
    "JOIN outbox o ON (o.day, o.seq) = (d.day, d.seq) WHERE o.state = 'queued'"
)


class Waiting(NamedTuple):
    """What waits for one room."""

    room: RoomId
    number: int
    last: int
    """The number of the newest, in the order in which entries were added."""


class Stored(NamedTuple):
    """Where an entry stands, and what became of it."""

    day: date
    seq: int
    state: str


class More(NamedTuple):
    """What comes next for a room."""

    entries: list[QueuedOutgoing]
    last: int
    """The number of the last that was looked at."""
    is_all: bool
    """There is no more."""


_MOST_DOUBTFUL = 10_000
_DOUBT_SECONDS = 60.0
"""For so long after the database's return a commit that nobody heard of may show up."""


class Outbox:
    """Entries of a room go out in the order in which they were added."""

    def __init__(self, database: Database, day_keys: DayKeys) -> None:
        self._database = database
        self._day_keys = day_keys
        self.moves = Moves(database, day_keys)
        self._clock = database.clock
        self._seq = 0
        self._days = StoredDays()
        self._gathered: list[Call] = []
        self._writer: Call | None = None
        """Whose caller writes, or is about to."""
        self._left: dict[Place, QueuedOutgoing] = {}
        """Stored entries that nobody has in hand: their callers were cancelled."""
        self._doubtful: dict[Place, float | None] = {}
        """Entries that may be stored: the answer to the commit was not heard. When (monotonic)
        it was first asked for them since."""
        self.on_unclaimed: Callable[[], None] = lambda: None
        """Called when :attr:`has_unclaimed` may have come true."""

    async def open(self) -> None:
        """Read where the numbering stands. Call once, before anything is added."""
        with at_the_door():
            (stands,) = await self._database.core.fetch(
                "SELECT greatest((SELECT max(seq) FROM outbox), (SELECT outbox_seq "
                "FROM instance_state)) AS seq"
            )
            days = await self._database.core.fetch(DAYS)
        self._seq, self._days = stands["seq"], StoredDays(row["day"] for row in days)

    @property
    def has_unclaimed(self) -> bool:
        """Whether something may be stored that nobody has in hand: an :meth:`add` gives it, also
        one of nothing."""
        # Of what is being written just now, a caller may have been cut off.
        return bool(self._left or self._doubtful or self._gathered or self._writer)

    async def add(self, outgoing: Sequence[Outgoing]) -> list[QueuedOutgoing]:
        """Store the entries in one commit, shared with whoever adds at the same time.

        Returns those that are now the caller's to send, in order; what a cancelled caller left,
        or a commit whose answer was lost, comes first. A transaction id that is there already
        (of today or yesterday, or of later days if the clock was put back; of any day kept, for
        what is replayed) is the same entry: it is not returned again.

        Raises ``TemporaryFailure`` when the database is away, and ``PermanentFailure`` for an
        entry that cannot be stored; add the same again after the first.
        """
        now = self._clock.now()
        day = now.date()
        payloads = [payload_of(one) for one in outgoing]
        first = self._seq + 1
        self._seq += len(payloads)
        call = Call(
            [
                QueuedOutgoing(day=day, seq=seq, received_at=now, outgoing=one)
                for seq, one in enumerate(outgoing, first)
            ],
            payloads,
            asyncio.get_running_loop().create_future(),
        )
        self._gathered.append(call)
        try:
            if self._writer is None:
                self._writer = call
            else:
                await call.turn
            if not call.written:
                await self._write_gathered()
        except BaseException:
            self._give_up(call)
            raise
        finally:
            if self._writer is call:
                self._pass_on()
        if call.error is not None:
            raise call.error
        return call.result

    async def finish(self, done: Sequence[Sent]) -> None:
        """Mark entries as sent, and note which event is which message, in one commit a day."""
        today = self._clock.today()
        if today > self._database.covered_until:
            await self._database.cover(today)
        day_of = attrgetter("queued.day")
        for day, group in groupby(sorted(done, key=day_of), key=day_of):
            entries = list(group)
            with at_the_door():
                await self._database.core.execute(
                    _SENT, day, packed(one.queued.seq for one in entries),
                    [one.event_id for one in entries], self._database.epoch, today,
                    [one.at for one in entries],
                    but_for(LinkKind.MESSAGE, [one.queued.outgoing.link for one in entries]),
                    but_for(
                        None, [remote_bytes(one.queued.outgoing.alias or None) for one in entries]
                    ),
                )  # fmt: skip

    async def park(self, queued: QueuedOutgoing, reason: ParkReason, detail: str) -> None:
        """Put the entry aside with the reason in a sentence; one whose day is over is let go."""
        context = outbox_context(queued.day, queued.seq)
        try:
            sealed = self._day_keys.seal(queued.day, context, detail.encode("utf-8", "replace"))
        except Forgotten:
            await self._drop(queued.day, queued.seq)
            return
        with at_the_door():
            await self._database.core.execute(
                "UPDATE outbox SET state = 'parked', reason = $3, detail = $4 "
                "WHERE day = $1 AND seq = $2 "
                "AND (SELECT epoch FROM lease WHERE shard = 0) = $5",
                queued.day, queued.seq, reason.value, sealed, self._database.epoch,
            )  # fmt: skip

    async def drop(self, queued: QueuedOutgoing) -> None:
        """Note that a rule leaves the entry out; what it says is forgotten."""
        try:
            nothing = self._day_keys.seal(
                queued.day, outbox_context(queued.day, queued.seq), b"{}"
            )
        except Forgotten:
            await self._drop(queued.day, queued.seq)
            return
        with at_the_door():
            await self._database.core.execute(
                "UPDATE outbox SET state = 'dropped', content = $3 WHERE day = $1 AND seq = $2 "
                "AND (SELECT epoch FROM lease WHERE shard = 0) = $4",
                queued.day, queued.seq, nothing, self._database.epoch,
            )  # fmt: skip

    async def take_back(self, day: date, seq: int) -> QueuedOutgoing | None:
        """Have a parked entry wait again: it is the caller's to send. None if it is not parked.

        If the answer is lost, whoever adds something next has it to send as well. Raises
        ``KeyLost`` when it cannot be read any more; then it stays parked.
        """
        try:
            with at_the_door():
                async with self._database.core.acquire() as connection, connection.transaction():
                    row = await connection.fetchrow(
                        "UPDATE outbox SET state = 'queued', reason = NULL, detail = NULL "
                        "WHERE (day, seq) = ($1, $2) AND state = 'parked' "
                        "AND (SELECT epoch FROM lease WHERE shard = 0) = $3 RETURNING *",
                        day, seq, self._database.epoch,
                    )  # fmt: skip
                    entry = None if row is None else open_entry(row, self._day_keys, again=True)
        except (TemporaryFailure, asyncio.CancelledError):
            self._doubtful[day, seq] = None
            self.on_unclaimed()
            raise
        if entry is not None:  # It has an owner now, though an earlier try was in doubt.
            self._doubtful.pop((day, seq), None)
        return entry

    async def find(self, transaction_id: str) -> Stored | None:
        """What became of the entry, of those that an :meth:`add` of the same would find there."""
        today = self._clock.today()
        with at_the_door():
            row = await self._database.core.fetchrow(
                "SELECT day, seq, state FROM outbox WHERE day >= $1 "
                "AND transaction_id = $2 ORDER BY day DESC LIMIT 1",
                today - timedelta(days=1), transaction_id,
            )  # fmt: skip
        return None if row is None else Stored(row["day"], row["seq"], row["state"])

    async def waiting(self) -> list[Waiting]:
        """What is not sent yet, by room; the room that has waited longest first."""
        with at_the_door():
            rows = await self._database.core.fetch(
                "SELECT room, count(*) AS number, max(seq) AS last FROM outbox "
                "WHERE state = 'queued' GROUP BY room ORDER BY min(seq)"
            )
        return [Waiting(RoomId(row["room"]), row["number"], row["last"]) for row in rows]

    async def senders_waiting(self, room: RoomId) -> list[UserId]:
        """Whose entries wait for the room."""
        with at_the_door():
            rows = await self._database.core.fetch(
                "SELECT DISTINCT sender FROM outbox WHERE state = 'queued' AND room = $1", room
            )
        return sorted(UserId(row["sender"]) for row in rows)

    async def have_sent(self, transaction_ids: Sequence[str], *, before: datetime) -> bool:
        """Whether an entry of one of the ids was answered before that; of a day or two."""
        days = [before.date() - timedelta(days=1), before.date()]
        with at_the_door():
            return bool(await self._database.core.fetchval(
                "SELECT EXISTS (SELECT FROM outbox WHERE day = ANY($1) "
                "AND transaction_id = ANY($2) AND state = 'sent' AND sent_at < $3)",
                days, list(transaction_ids), before,
            ))  # fmt: skip

    async def next_of(self, room: RoomId, after: int, until: int, limit: int) -> More:
        """The room's entries with numbers behind one up to another, in order, at most ``limit``.

        What cannot be read any more, since its day's key is gone, is dropped with a word.
        """
        with at_the_door():
            rows = await self._database.core.fetch(_NEXT, room, after, until, limit)
        found = []
        for row in rows:
            if (entry := await self._read_or_drop(row)) is not None:
                found.append(entry)
        return More(found, rows[-1]["seq"] if rows else until, len(rows) < limit)

    async def _read_or_drop(self, row: asyncpg.Record) -> QueuedOutgoing | None:
        """A queued entry; None, with a word, if it cannot be read any more."""
        try:
            return open_entry(row, self._day_keys, again=True)
        except KeyLost as error:
            log.error(
                "entry %s of %s of the outbox cannot be read: %s", row["seq"], row["day"],
                error, extra={"event": "outbox_unreadable"},
            )  # fmt: skip
        await self._drop(row["day"], row["seq"])
        return None

    async def _drop(self, day: date, seq: int) -> None:
        with at_the_door():
            await self._database.core.execute(
                "UPDATE outbox SET state = 'dropped' WHERE (day, seq) = ($1, $2) "
                "AND state = 'queued' AND (SELECT epoch FROM lease WHERE shard = 0) = $3",
                day, seq, self._database.epoch,
            )  # fmt: skip

    def _give_up(self, call: Call) -> None:
        call.given_up = True
        if call in self._gathered and not call.begun:
            self._gathered.remove(call)
        for queued in call.result:
            self._left[queued.day, queued.seq] = queued
        self.on_unclaimed()

    def _pass_on(self) -> None:
        """Have the first in line write what was gathered meanwhile."""
        self._writer = next((one for one in self._gathered if not one.given_up), None)
        if self._writer is not None:
            self._writer.wake()

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
                    self._note_doubtful(call)
        except BaseException:
            self._gathered = [call for call in calls if not call.written] + self._gathered
            raise
        finally:
            # All whose entries were written go on at once, in the order in which they came: while
            # some have the next ones ready, and those are written, the others still work.
            for call in calls:
                if call.written:
                    call.wake()

    async def _write_apart(self, calls: Sequence[Call]) -> None:
        """Each caller's entries alone, so that one that cannot be stored costs no other."""
        for call in calls:
            try:
                await self._write([call])
            except PermanentFailure as error:
                call.error, call.written = error, True

    async def _write(self, calls: Sequence[Call]) -> None:
        await self._claim()
        stored: set[Place] = set()
        pairs = [pair for call in calls for pair in zip(call.entries, call.payloads, strict=True)]
        for day, group in groupby(pairs, key=lambda pair: pair[0].day):
            stored |= await self._insert(day, list(group))
        missing = [queued for queued, _ in pairs if (queued.day, queued.seq) not in stored]
        found = await self._find(missing) if missing else {}
        for call in calls:
            call.written = True
            for queued in call.entries:
                place = (queued.day, queued.seq)
                if place in stored:
                    self._left[place] = queued
                    continue
                mine = found.get(queued.outgoing.transaction_id)
                if mine is None:
                    continue
                there = (mine.day, mine.seq)
                # Stored by a writer that was cut off, or by a commit that nobody heard of.
                if there == place or there in self._doubtful:
                    self._doubtful.pop(there, None)
                    self._left[there] = mine
            if not call.given_up:
                # By number: a day may come before an earlier one, as clocks are.
                left = sorted(self._left, key=itemgetter(1))
                call.result += [self._left[place] for place in left]
                self._left.clear()

    def _note_doubtful(self, call: Call) -> None:
        # What was under way when the database went counts; later ones did not get that far.
        if len(self._doubtful) < _MOST_DOUBTFUL:
            self._doubtful.update(((one.day, one.seq), None) for one in call.entries)
        self.on_unclaimed()

    async def _claim(self) -> None:
        """Take up what was stored though the answer to its commit was not heard."""
        if not self._doubtful:
            return
        doubtful = sorted(self._doubtful)
        with at_the_door():
            rows = await self._database.core.fetch(
                _CLAIM, [day for day, _ in doubtful], [seq for _, seq in doubtful]
            )
        for row in rows:
            place = (row["day"], row["seq"])
            entry = await self._read_or_drop(row)
            if place not in self._doubtful:
                continue  # Meanwhile it has got an owner.
            del self._doubtful[place]
            if entry is not None:
                self._left[place] = entry
        now = monotonic()
        self._doubtful = {
            place: now if asked is None else asked
            for place, asked in self._doubtful.items()
            if asked is None or now - asked < _DOUBT_SECONDS
        }

    async def _insert(
        self, day: date, entries: Sequence[tuple[QueuedOutgoing, bytes]]
    ) -> set[Place]:
        if day > self._database.covered_until:
            await self._database.cover(day)
        shared = (day, entries[0][0].received_at, self._database.epoch, day - timedelta(days=1))
        rows = [columns_of(queued, payload, self._day_keys) for queued, payload in entries]
        looks_round = self._days.note(day) or any(row[-1] for row in rows)
        with at_the_door():
            if len(rows) == 1 and not looks_round:
                stored = await self._database.core.fetch(ADD_ONE, *shared, *rows[0][:-1])
            else:
                *columns, kept = zip(*rows, strict=True)
                adding, more = (ADD_LOOKING_ROUND, [kept]) if looks_round else (ADD, [])
                stored = await self._database.core.fetch(
                    adding, *shared, *as_arrays(columns), *more
                )
        return {(day, row["seq"]) for row in stored}

    async def _find(self, missing: Sequence[QueuedOutgoing]) -> dict[str, QueuedOutgoing]:
        """Those of the entries that were stored before and are not sent, by transaction id."""
        last = max(queued.day for queued in missing)
        wanted = {queued.outgoing.transaction_id: queued.outgoing for queued in missing}
        with at_the_door():
            rows = await self._database.core.fetch(
                _FIND, last - timedelta(days=RECEIVED_DAYS), list(wanted)
            )
        if not wanted.keys() <= {row["transaction_id"] for row in rows}:
            raise TemporaryFailure("another instance took over the database")
        return {
            row["transaction_id"]: QueuedOutgoing(
                day=row["day"], seq=row["seq"], received_at=row["received_at"],
                outgoing=wanted[row["transaction_id"]], again=True,
            )
            for row in rows if row["state"] == "queued"
        }  # fmt: skip
