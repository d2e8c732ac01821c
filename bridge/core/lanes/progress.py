"""How far a journal row has come, and the batched writing of it.

Progress of a row is packed as a bitmap of its events, followed by one ``(index, consumer)``
pair for each event of which some consumers are done and others are not.
"""

import asyncio
import logging
import struct
from collections.abc import Sequence

from bridge.core.lanes.crossings import Crossings
from bridge.failpoint import failpoint
from bridge.model import ItemId, Mark, MessageLink, RowId
from bridge.sdk.errors import TemporaryFailure
from bridge.storage.journal import Journal

log = logging.getLogger(__name__)

_GATHER_SECONDS = 0.1
"""Progress of that time is one statement."""
_PAIR = struct.Struct("<IQ")
# Most rows have none of these, and a million may wait for a network: nobody writes into them.
_NO_NUMBERS: dict[int, int] = {}
_NOBODY: dict[int, list[int]] = {}


class Row:
    """A landed journal row in memory: which of its events are done."""

    __slots__ = (
        "bits",
        "count",
        "counts",
        "id",
        "landed_at",
        "open",
        "ordinal",
        "partly",
        "shares",
        "touched",
        "worst",
    )

    def __init__(
        self,
        row_id: RowId,
        count: int,
        progress: bytes = b"",
        *,
        landed_at: float,
        counts: Sequence[int] = (0, 0, 0),
    ) -> None:
        self.id = row_id
        self.ordinal = row_id.day.toordinal()
        self.count = count
        self.landed_at = landed_at
        self.counts = list(counts)
        """How many of its events were parked, delivered, dropped: by ``Outcome``."""
        width = (count + 7) // 8
        self.bits = bytearray(progress[:width].ljust(width, b"\0"))
        self.partly = _NOBODY
        """Of events that are not done: the consumers whose shares are."""
        for index, consumer in _PAIR.iter_unpack(progress[width:]):
            if index < count and not self.is_done(index):
                self.note_done(index, consumer)
        # For events with several consumers: how many are not done yet.
        self.shares = _NO_NUMBERS
        self.worst = _NO_NUMBERS
        """And what became of the others, by ``Outcome``."""
        self.open = count - int.from_bytes(self.bits, "little").bit_count()
        self.touched = False
        """It has moved since it was written."""

    def is_done(self, index: int) -> bool:
        """Whether every consumer of the event is done."""
        return bool(self.bits[index >> 3] & (1 << (index & 7)))

    def share(self, index: int, number: int) -> None:
        """Have the event be finished by so many consumers."""
        if self.shares is _NO_NUMBERS:
            self.shares = {}
        self.shares[index] = number

    def note_worst(self, index: int, outcome: int) -> None:
        """Keep what became of the event with those of its consumers that are done."""
        if self.worst is _NO_NUMBERS:
            self.worst = {}
        self.worst[index] = outcome

    def finish_event(self, index: int, outcome: int) -> None:
        """Mark the event as done for all, and count what became of it."""
        bits, place, bit = self.bits, index >> 3, 1 << (index & 7)
        if not bits[place] & bit:
            bits[place] |= bit
            self.open -= 1
            self.counts[outcome] += 1

    def finish_share(self, index: int, consumer: int, outcome: int) -> None:
        """Mark one consumer's share; the last one finishes the event."""
        shares = self.shares
        if shares and index in shares:
            shares[index] -= 1
            outcome = min(outcome, self.worst.get(index, outcome))
            if shares[index] > 0:
                self.note_worst(index, outcome)
                self.note_done(index, consumer)
                return
            del shares[index]
            self.worst.pop(index, None)
            self.partly.pop(index, None)
        self.finish_event(index, outcome)

    def has_done(self, index: int, consumer: int) -> bool:
        """Whether this consumer's share was done before."""
        return consumer in self.partly.get(index, ())

    def note_done(self, index: int, consumer: int) -> None:
        """Keep in the progress that this consumer's share was done before, others' are not."""
        if self.partly is _NOBODY:
            self.partly = {}
        done = self.partly.setdefault(index, [])
        if consumer not in done:
            done.append(consumer)

    def mark(self) -> Mark:
        """What is stored of it now."""
        parked, delivered, dropped = self.counts
        return Mark(self.id, self.packed(), self.open == 0, (parked, delivered, dropped))

    def packed(self) -> bytes:
        """The progress as stored."""
        pairs = [
            _PAIR.pack(index, consumer)
            for index, done in self.partly.items()
            if not self.is_done(index)
            for consumer in done
        ]
        return bytes(self.bits) + b"".join(pairs)


class Marker:
    """Writes progress in batches; one statement for all rows that moved."""

    def __init__(self, marks: Journal, links: Crossings) -> None:
        self._marks = marks
        self._links = links
        self._touched: list[Row] = []
        self._wanted = asyncio.Event()
        self._hurry = asyncio.Event()
        self._settling: list[asyncio.Future[None]] = []
        """Those who wait until the next batch is written."""
        self._writing: list[Row] = []
        self._settling_now: list[asyncio.Future[None]] = []
        """Those who wait for the batch that is being written."""

    def touch(self, row: Row) -> None:
        """Have the row's progress written soon."""
        if not row.touched:
            row.touched = True
            self._touched.append(row)
            if len(self._touched) == 1:
                self._wanted.set()

    def touched(self) -> list[RowId]:
        """The rows whose progress is about to be written."""
        return [row.id for row in self._touched]

    def unwritten(self) -> set[RowId]:
        """The rows of which something is not durable yet."""
        return {row.id for row in (*self._touched, *self._writing)}

    async def settle(self, row: Row | None = None) -> None:
        """Return when all that is marked now is durable; or what is marked of one row."""
        if not self._touched and not self._writing:
            return
        is_next = bool(self._touched) if row is None else row.touched
        if row is not None and not is_next and row not in self._writing:
            return
        self._hurry.set()
        # A future for each: woken by a condition they would all queue for its lock.
        settled = asyncio.get_running_loop().create_future()
        (self._settling if is_next else self._settling_now).append(settled)
        await settled

    async def run(self) -> None:
        """Write marks until cancelled; what is left is written on the way out."""
        try:
            while True:
                await self._wanted.wait()
                await self._linger()
                await self._write()
        finally:
            await self._write_last()

    async def _linger(self) -> None:
        try:
            async with asyncio.timeout(_GATHER_SECONDS):
                await self._hurry.wait()
        except TimeoutError:
            pass  # Nobody is in a hurry: the batch has had its time to grow.
        self._hurry.clear()

    async def _write(self) -> None:
        batch, self._touched = self._touched, []
        self._wanted.clear()
        if not batch:
            return
        for row in batch:
            row.touched = False
        self._writing = batch
        self._settling_now, self._settling = self._settling, []
        # Taken at one moment: what is done meanwhile may have links that are not among these.
        marks, links = [row.mark() for row in batch], self._links.noted()
        try:
            await self._store(marks, links)
        except BaseException as error:
            for row in batch:
                self.touch(row)
            self._settling[:0], self._settling_now = self._settling_now, []
            if not isinstance(error, TemporaryFailure):
                raise
            log.warning("progress is not written yet: %s", error, extra={"event": "marks_waiting"})
            await asyncio.sleep(0.5)
            return
        finally:
            self._writing = []
        failpoint("marked")
        waiting, self._settling_now = self._settling_now, []
        for settled in waiting:
            if not settled.done():
                settled.set_result(None)

    async def _store(self, marks: Sequence[Mark], links: Sequence[MessageLink]) -> None:
        try:
            await self._marks.mark(marks, links)
        except TemporaryFailure:
            raise
        except Exception:
            if not links:
                raise
        else:
            self._links.written(len(links))
            return
        # A module may say of a message what cannot be stored; that costs no other anything. No
        # row has the number 0: what is marked comes behind all the links.
        nothing = marks[0]._replace(row=RowId(marks[0].row.day, 0))
        for link in links:
            try:
                await self._marks.mark([nothing], [link])
            except TemporaryFailure:
                raise
            except Exception as error:  # noqa: BLE001 - Named by its kind: its words have the values.
                log.error(
                    "what a message is on the network of portal %d cannot be stored (%s): nothing "
                    "can be about that message later", link.portal, type(error).__name__,
                    extra={"event": "link_lost"},
                )  # fmt: skip
            self._links.written(1)
        await self._marks.mark(marks)

    async def _write_last(self) -> None:
        try:
            async with asyncio.timeout(5):
                await self._write()
        except TimeoutError:
            log.warning("the last progress was not written in 5 s", extra={"event": "marks_lost"})


def item_of(row: Row, index: int) -> ItemId:
    """The id of one event of the row."""
    return ItemId(row.id.day, row.id.seq, index)
