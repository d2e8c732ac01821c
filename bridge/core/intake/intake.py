"""Where events come in: told apart from known ones, landed, and handed to their lanes."""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Collection, Sequence
from datetime import date
from functools import partial
from time import monotonic
from typing import Any, Protocol

from bridge.core.intake.ephemeral import Ephemeral
from bridge.core.intake.malformed import Malformed, fault_of
from bridge.core.intake.window import KeyWindow
from bridge.core.lanes.inflight import Left, consumer_number
from bridge.core.lanes.landing import Landing
from bridge.core.lanes.lane import LONGEST, Item, Lane
from bridge.core.lanes.patience import persistently
from bridge.core.lanes.progress import Marker, Row
from bridge.core.lanes.router import Router
from bridge.failpoint import failpoint
from bridge.jsontext import encode
from bridge.model import Clock, ItemId, Outcome, RowId, Source, Transaction
from bridge.sdk.errors import PermanentFailure, TemporaryFailure
from bridge.storage.items import Items
from bridge.storage.journal import Journal, JournalRow
from bridge.telemetry import Telemetry

log = logging.getLogger(__name__)


class Route(Protocol):
    """Knows the lanes."""

    def __call__(self, event: dict[str, Any]) -> Sequence[Lane]:
        """Which lanes an event belongs to; none if nobody wants it."""
        ...

    def hear(self, event: dict[str, Any]) -> None:
        """Take note of what counts at once, wherever the event waits; once that is safe.

        Call it before the event is put into its lanes; what waits for long is heard twice.
        """
        ...

    def early(self, event: dict[str, Any]) -> Lane | None:
        """Which lane may begin with an event before it is safe; none if it has to wait."""
        ...


_EVENT_TYPES = {
    "m.room.message": "message",
    "m.sticker": "message",
    "m.room.encrypted": "encrypted",
    "m.room.member": "member",
    "m.room.redaction": "redaction",
    "m.reaction": "reaction",
}


class Intake:
    """Takes transactions, one at a time, in the order in which they came."""

    def __init__(
        self,
        journal: Journal,
        parking: Items,
        router: Router,
        marker: Marker,
        telemetry: Telemetry,
        clock: Clock,
        *,
        keys_of: Callable[[Sequence[str]], list[bytes]],
        route: Route,
        parse: Callable[[bytes], Transaction],
        memory: int = 50_000,
    ) -> None:
        self._journal = journal
        self._parking = parking
        self._malformed = Malformed(parking)
        self._router = router
        self._marker = marker
        self._telemetry = telemetry
        self._clock = clock
        self._keys_of = keys_of
        self._route = route
        self._parse = parse
        self.memory = memory
        self._window = KeyWindow()
        self.is_open = False
        self._one_at_a_time = asyncio.Lock()
        self._last_id = ""
        self._doubtful = True
        """Just started: ids may repeat from before."""
        self._seen_ids: set[str] = set()
        self.on_restart: Callable[[], None] = lambda: None
        """Called when the homeserver shows that it was started again."""
        self.ephemeral = Ephemeral()
        self._spilled: dict[RowId, int] = {}
        """Rows that wait in the journal, in order, and how many events each has at most."""
        self._accepted = telemetry.transactions.labels(outcome="accepted")
        self._counts = {
            (source, kind): telemetry.events.labels(type=kind, source=source.value)
            for source in Source
            for kind in (*set(_EVENT_TYPES.values()), "state", "other")
        }

    @property
    def waiting(self) -> int:
        """Items that are not finished: in lanes, behind them, and in rows that wait."""
        return self._router.waiting + self._router.beyond + sum(self._spilled.values())

    def rows_in_hand(self) -> set[RowId]:
        """The journal's rows that are in lanes, or known to wait for room in memory."""
        rows = {row.id for lane in self._router.lanes.values() for row, _ in lane.places()}
        return rows.union(self._spilled, self._marker.touched())

    def open(self) -> None:
        """Take transactions from now on."""
        self.is_open = True

    async def take_again(self, consumer: str, event: dict[str, Any], name: str, day: date) -> None:
        """Store the event anew, for one consumer only, and hand it on; once for each ``name``.

        It is kept no longer than what came with it on ``day``. Raises ``PermanentFailure`` if
        the consumer is not there any more or that day is over, ``TemporaryFailure`` when the
        database is away.
        """
        lanes = self._route(event)
        if all(lane.consumer.name != consumer for lane in lanes):
            raise PermanentFailure("nobody listens for it any more; drop it")
        sketch = Row(RowId(date.min, 0), 1, landed_at=monotonic())
        for other in (lane for lane in lanes if lane.consumer.name != consumer):
            sketch.note_done(0, other.number)
        keys = self._keys_of([event["event_id"], f"\0again {name}"])
        async with self._one_at_a_time:
            if await self._journal.has_retry(day, keys[1]):
                return  # Stored when this was last asked for, and cut off before it was let go.
            row_id = await self._journal.land(
                source=Source.RETRY, body=encode({"events": [event]}),
                event_keys=b"".join(keys), progress=sketch.packed(), done=False, day=day,
            )  # fmt: skip
            if self._spilled:
                # It would overtake what waits in the journal.
                self._spilled[row_id] = 1
                return
            row = Row(row_id, 1, sketch.packed(), landed_at=monotonic())

            def skip(index: int, other: int) -> Outcome | None:
                return Outcome.DROPPED if row.has_done(index, other) else None

            self._dispatch(row, [event], Source.RETRY, skip)

    def known(self, keys: Sequence[bytes]) -> set[bytes]:
        """Those of the keys that are among the newest landed."""
        return self._window.known(keys)

    async def refill(self) -> None:
        """Load the newest keys of the journal into the window. Call once before opening."""
        newest = [key async for key in self._journal.recent_keys(200_000)]
        self._window.add(reversed(newest))

    async def accept(self, transaction: Transaction) -> None:
        """Store the transaction and hand its events on.

        Returns after the commit. Raises ``TemporaryFailure`` when the database is away; then
        nothing is stored and the homeserver repeats it.
        """
        if not self.is_open:
            raise TemporaryFailure("Trestle is starting")
        async with self._one_at_a_time:
            await self._accept(transaction)

    async def _accept(self, transaction: Transaction) -> None:
        events = transaction.events
        keys = self._keys(events)
        doubles = await self._doubles(transaction, keys)
        bits = bytearray((len(events) + 7) // 8)
        for index in doubles:
            bits[index >> 3] |= 1 << (index & 7)
        for edu in transaction.ephemeral:
            self.ephemeral.hear(edu)
        news = bool(transaction.to_device) or transaction.has_device_news
        done = len(doubles) == len(events)
        if done and not news:
            # Nothing new that must be kept: typing and receipts alone are not worth a commit.
            self._telemetry.transactions.labels(outcome="repeated" if events else "accepted").inc()
            return
        failpoint("received")
        row_id, is_begun = await self._land(transaction, keys, bytes(bits), done=done)
        failpoint("landed")
        if is_begun:
            # First of all its lane goes on with it.
            await asyncio.sleep(0)
        self._accepted.inc()
        if done:
            return
        if is_begun:
            self._counts[transaction.source, _EVENT_TYPES[events[0]["type"]]].inc()
            failpoint("dispatched")
            return
        row = Row(row_id, len(events), bytes(bits), landed_at=monotonic())
        if self._spilled or self._router.waiting + len(events) > self.memory:
            self._spilled[row_id] = len(events) - len(doubles)
            self._hear(row, events)
            return
        if len(events) > 1:
            # The answer goes out first: the row is safe, and the homeserver has others waiting.
            loop = asyncio.get_running_loop()
            loop.call_soon(self._dispatch, row, events, transaction.source)
            return
        # To wake whoever waits for the answer takes longer than to bring one event on its way.
        self._dispatch(row, events, transaction.source)
        self._router.set_going()
        await asyncio.sleep(0)

    async def _land(
        self, transaction: Transaction, keys: list[bytes], bits: bytes, *, done: bool
    ) -> tuple[RowId, bool]:
        """Store it; and whether a lone event in it was begun with meanwhile."""
        landing, is_stored = Landing(), False

        def begun(row_id: RowId) -> None:
            if len(transaction.events) == 1 and not done:
                # As soon as the statement is written.
                loop = asyncio.get_running_loop()
                loop.call_soon(self._begin, row_id, transaction.events[0], landing)

        try:
            row_id = await self._journal.land(
                source=transaction.source, body=transaction.body, event_keys=b"".join(keys),
                progress=bits, repeated=int.from_bytes(bits, "little").bit_count(), done=done,
                begun=begun,
            )  # fmt: skip
            self._window.add(keys)
            is_stored = True
        finally:
            landing.end(is_stored=is_stored)
        return row_id, landing.is_awaited

    def _begin(self, row_id: RowId, event: Any, landing: Landing) -> None:
        """Have the event's lane begin with it before it is safe, if that may be."""
        if landing.is_over or self._spilled or self._router.waiting >= self.memory:
            return
        lane: Lane | None = None
        # What cannot be routed is told of once it is safe.
        with contextlib.suppress(Exception):
            lane = None if fault_of(event) else self._route.early(event)
        if lane is not None:
            landing.is_awaited = True
            row = Row(row_id, 1, landed_at=monotonic())
            self._router.begin(lane, row, event, landing)

    def _keys(self, events: list[Any]) -> list[bytes]:
        try:
            return self._keys_of([event["event_id"] for event in events])
        except (TypeError, KeyError, AttributeError, IndexError):
            pass  # One of them is malformed; it is parked under its row and index.
        texts = []
        for index, event in enumerate(events):
            event_id = event.get("event_id") if isinstance(event, dict) else None
            texts.append(event_id if isinstance(event_id, str) else f"\0{index}")
        return self._keys_of(texts)

    async def _doubles(self, transaction: Transaction, keys: list[bytes]) -> list[int]:
        """Indexes of events that were landed before, or twice in this transaction."""
        if not keys:
            return []
        known = self._window.known(keys)
        repeated = transaction.source is Source.RECONCILE or self._note_id(transaction.id)
        if self._doubtful or repeated or known:
            unknown = [key for key in keys if key not in known]
            if unknown:
                known |= await self._journal.known_keys(unknown)
            self._doubtful = False
        if not known and len(set(keys)) == len(keys):
            return []
        doubles = []
        for index, key in enumerate(keys):
            if key in known:
                doubles.append(index)
            known.add(key)
        return doubles

    def _note_id(self, transaction_id: str) -> bool:
        """Whether the id is a sign of repetition: seen before, or not rising."""
        last, self._last_id = self._last_id, transaction_id
        if transaction_id in self._seen_ids:
            return True
        if len(self._seen_ids) > 10_000:
            self._seen_ids.clear()
        self._seen_ids.add(transaction_id)
        if transaction_id.isascii() and transaction_id.isdigit() and last.isdigit():
            this, before = (len(transaction_id), transaction_id), (len(last), last)
            if this < before:
                self.on_restart()  # Synapse counts anew after a restart, on SQLite.
            return this <= before
        return False

    def _hear(self, row: Row, events: list[Any]) -> None:
        """Have heard at once what is to wait in the journal.

        It is heard again when it is loaded: only then may it be behind what it is about.
        """
        for index, event in enumerate(events):
            # What is wrong with it is told of then, too.
            with contextlib.suppress(Exception):
                if not row.is_done(index) and fault_of(event) is None:
                    self._route.hear(event)

    def _dispatch(
        self, row: Row, events: list[Any], source: Source,
        skip: Callable[[int, int], Outcome | None] | None = None,
    ) -> None:  # fmt: skip
        """Put each event into its lanes.

        ``skip(index, consumer)`` says what came of what was done before.
        """
        route, push = self._route, self._router.push
        # What is tried again was heard when it came, and may not be so any more.
        is_news = source is not Source.RETRY
        kinds: dict[str, int] = {}
        untouched = row.open == row.count
        for index, event in enumerate(events):
            if not untouched and row.is_done(index):
                continue
            outcome = Outcome.DROPPED
            try:
                fault = fault_of(event)
                lanes = wanted = () if fault else route(event)
                if skip is not None and lanes:
                    lanes, outcome = _left_to_do(row, index, lanes, skip)
                if is_news and not fault and (lanes or not wanted):
                    route.hear(event)
            except Exception:
                log.exception("an event could not be routed", extra={"event": "routing_failed"})
                fault = "it could not be routed"
            if fault is not None:
                push(self._router.lane(self._malformed), row, index, event)
                continue
            kind = _EVENT_TYPES.get(event["type"]) or (
                "state" if "state_key" in event else "other"
            )
            kinds[kind] = kinds.get(kind, 0) + 1
            if not lanes:
                row.finish_event(index, outcome)
                continue
            if len(lanes) > 1:
                row.share(index, len(lanes))
            for lane in lanes:
                push(lane, row, index, event)
        for kind, number in kinds.items():
            self._counts[source, kind].inc(number)
        if row.open < row.count or row.partly:
            self._marker.touch(row)
        failpoint("dispatched")

    async def recover(self, left: Left, group: asyncio.TaskGroup, *, alone: float) -> None:
        """Take up what the last process left: suspects first and alone, then the rest."""
        guilty = {(share.item, share.consumer) for share in left.suspects}
        rows = 0
        held: list[Item] = []
        aside = {
            (item, consumer_number(name))
            for item, name in await self._parking.parked_of_open_rows()
        }
        # What may have begun must be in its lane now, while it is known how far it came.
        begun = max((item.seq for item, _ in left.newest.values()), default=0)
        async for landed in self._journal.unfinished():
            rows += 1
            if landed.id.seq > begun and (self._spilled or self._router.waiting > self.memory):
                self._spilled[landed.id] = landed.number
                if landed.source is not Source.RETRY:
                    events = self._parse(landed.body).events
                    row = Row(landed.id, len(events), landed.progress, landed_at=0.0)
                    self._hear(row, events)
                continue
            self._load(landed, left, aside)
        for lane in list(self._router.lanes.values()):
            if lane.queue and (lane.queue[0].id, lane.number) in guilty:
                held.append(lane.queue[0])
        held.sort(key=lambda item: item.id)
        for item in held:
            if await self._router.run_alone(item, alone, group):
                self._router.take_out(item)
        if rows:
            log.info(
                "took up %d unfinished rows", rows, extra={"event": "recovered", "rows": rows}
            )

    def _load(
        self, landed: JournalRow, left: Left | None = None,
        aside: Collection[tuple[ItemId, int]] = (),
    ) -> None:  # fmt: skip
        transaction = self._parse(landed.body)
        # Its age counts from when it came, over restarts too.
        age = max(0.0, (self._clock.now() - landed.received_at).total_seconds())
        now = monotonic()
        row = Row(
            landed.id, len(transaction.events), landed.progress, landed_at=now - age,
            counts=landed.counts,
        )  # fmt: skip
        if row.open == 0:
            self._marker.touch(row)
            return

        def skip(index: int, consumer: int) -> Outcome | None:
            item = ItemId(row.id.day, row.id.seq, index)
            if (item, consumer) in aside:
                return Outcome.PARKED
            if row.has_done(index, consumer) or (
                left is not None and left.has_done(item, consumer)
            ):
                return Outcome.DELIVERED
            return None

        self._dispatch(row, transaction.events, landed.source, skip)

    async def feed(self) -> None:
        """Bring back from the journal what memory had no room for. Runs until cancelled."""
        while True:
            lanes: list[Lane] = []
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.2):
                    lanes = await self._router.wait_for_hunger()
            for lane in lanes:
                while lane.beyond and len(lane.queue) < LONGEST:
                    row = lane.beyond[0][0]
                    landed = await self._read(row.id)
                    events = () if landed is None else self._parse(landed.body).events
                    self._router.feed(lane, row, events)
            while self._spilled and self._router.waiting < self.memory // 2:
                spilled = next(iter(self._spilled))
                landed = await self._read(spilled)
                async with self._one_at_a_time:
                    del self._spilled[spilled]
                    if landed is not None:
                        self._load(landed)

    async def _read(self, row: RowId) -> JournalRow | None:
        """Read the row however long the database is away. None if it is lost for good."""
        try:
            return await persistently(partial(self._journal.read, row))
        except PermanentFailure as error:
            log.error(
                "transaction %s of %s cannot be read: %s", row.seq, row.day, error,
                extra={"event": "journal_unreadable"},
            )  # fmt: skip
            return None


def _left_to_do(
    row: Row, index: int, lanes: Sequence[Lane], skip: Callable[[int, int], Outcome | None]
) -> tuple[Sequence[Lane], Outcome]:
    """The lanes that have not done their share before, and what became of it in the others."""
    before = [(lane, skip(index, lane.number)) for lane in lanes]
    for lane, done in before:
        if done is not None:
            row.note_done(index, lane.number)
    left = [lane for lane, done in before if done is None]
    outcome = min((done for _, done in before if done is not None), default=Outcome.DROPPED)
    if left and outcome is not Outcome.DROPPED:
        row.note_worst(index, outcome)
        row.share(index, len(left))
    return left, outcome
