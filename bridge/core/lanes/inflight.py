"""The small file that tells, after a crash, what was being done and what was just done.

A memory-mapped file of the state directory with one slot for each lane: a write to it is a store
to memory, needs no system call, and survives ``kill -9``. (It does not survive a power cut; then
the journal's marks are the truth, and what they lack runs again. The same goes for lanes for whose
slots a full disk has no room.)

A slot holds the newest item of its lane and whether that one's effect is out. A lane works
strictly in order, so every item before it is done too. Of the two halves of a slot the one with
the higher number counts; it is written last, so that a record cut short by a kill is the other.
"""

import logging
import mmap
import os
import struct
from collections.abc import Collection, Iterator, Set
from datetime import date
from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple

from bridge.model import ItemId, RowId

log = logging.getLogger(__name__)

_MAGIC = b"trestle3"
_CONSUMER = struct.Struct("<Q")
_HALF = struct.Struct("<IIQB3xQ")  # place, day ordinal, sequence, state, number from 1 on
_NUMBER = struct.Struct("<Q")
_PACK = _HALF.pack_into
_STATE = 16
"""Where in a half its state is: one byte, so that changing it is one store."""
_SLOT = _CONSUMER.size + 2 * _HALF.size
_STARTED, _DONE, _WAITING = 1, 2, 3


class Share(NamedTuple):
    """One consumer's share in one item."""

    item: ItemId
    consumer: int


class Left(NamedTuple):
    """What the last process left: how far each consumer had come."""

    newest: dict[int, tuple[ItemId, bool]]
    """By consumer: its newest item, and whether the effect of that one is out."""
    waiting: frozenset[int] = frozenset()
    """The consumers whose newest item surely had no effect yet: it is to be tried again."""

    @property
    def suspects(self) -> set[Share]:
        """What had begun, and nobody knows how far it came."""
        return {
            Share(item, who)
            for who, (item, done) in self.newest.items()
            if not done and who not in self.waiting
        }

    def has_done(self, item: ItemId, consumer: int) -> bool:
        """Whether the item's effect was out for this consumer."""
        newest, done = self.newest.get(consumer, (item, False))
        # Not by the day: a clock may go back, the numbers never do.
        at, last = item[1:], newest[1:]
        return at < last or (done and at == last)


def consumer_number(name: str) -> int:
    """Give the stable number by which a consumer is known in the file and in progress marks."""
    return int.from_bytes(blake2b(name.encode(), digest_size=8).digest(), "little")


class Slot:
    """A lane's place in the file."""

    __slots__ = ("_half", "_halves", "_map", "_number")

    def __init__(self, memory: mmap.mmap, offset: int, number: int) -> None:
        first = offset + _CONSUMER.size
        self._map = memory
        self._halves = (first, first + _HALF.size)
        self._number = number
        self._half = self._halves[number & 1]

    def start(self, day: int, seq: int, place: int) -> None:
        """Note that the lane is about to act on an item. The day is an ordinal."""
        number = self._number = self._number + 1
        half = self._half = self._halves[number & 1]
        _PACK(self._map, half, place, day, seq, _STARTED, number)

    def finish(self) -> None:
        """Note that the effect of the item started last is out in the world."""
        self._map[self._half + _STATE] = _DONE

    def withdraw(self) -> None:
        """Note that the item started last had no effect, and waits to be tried again."""
        self._map[self._half + _STATE] = _WAITING

    @property
    def newest(self) -> ItemId | None:
        """The item started last; None if there was none."""
        place, day, seq, _, number = _HALF.unpack_from(self._map, self._half)
        return ItemId(date.fromordinal(day), seq, place) if number else None

    def clear(self) -> int:
        """Tell of nothing any more; give the slot's place in the file."""
        # The newer half last: cut short by a kill, it is still what counts.
        for half in (sum(self._halves) - self._half, self._half):
            _NUMBER.pack_into(self._map, half + _HALF.size - _NUMBER.size, 0)
        return self._halves[0] - _CONSUMER.size


class InFlight:
    """The slots of all lanes."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._is_told = False
        self._is_copy = False
        """Whether the map is one in memory: none of its pages is the file's."""
        self._map = self._open()
        if self._map[: len(_MAGIC)] != _MAGIC:
            self._map[:] = _MAGIC.ljust(len(self._map), b"\0")
        self._slots: dict[int, Slot] = {}
        self.vacated: set[int] = set()
        """The consumers whose lanes are over, and whose slots may still tell of something."""
        self._free: list[int] = []
        """Places in the file of slots that tell of nothing."""
        self._end = _SLOT  # The first slot's place is the header's.
        for offset, consumer, halves in self._kept():
            number = max(half[-1] for half in halves)
            if number:
                self._slots[consumer] = Slot(self._map, offset, number)
            else:
                self._free.append(offset)
            self._end = offset + _SLOT
        self.nowhere = Slot(mmap.mmap(-1, _SLOT), 0, 0)
        """For lanes of which nothing needs to be known after a crash."""

    def slot(self, consumer: int) -> Slot:
        """Give the consumer's slot, made on first use; the file grows as it must."""
        slot = self._slots.get(consumer)
        self.vacated.discard(consumer)
        if slot is None:
            offset = self._free.pop() if self._free else self._take()
            if offset:
                _CONSUMER.pack_into(self._map, offset, consumer)
                slot = Slot(self._map, offset, 0)
            else:
                slot = Slot(mmap.mmap(-1, _SLOT), 0, 0)
            self._slots[consumer] = slot
        return slot

    def vacate(self, consumer: int) -> None:
        """Have the consumer's slot be another's at the next :meth:`release`; its lane is over."""
        self.vacated.add(consumer)

    def release(self, unwritten: Set[RowId], busy: Set[int]) -> None:
        """Let others have the vacated slots, once what they tell is in the journal's marks.

        Those of the rows that are ``unwritten`` are not, and no consumer is that is ``busy`` yet.
        """
        for consumer in self.vacated - busy:
            newest = self._slots[consumer].newest
            if newest is None or RowId(newest.day, newest.seq) not in unwritten:
                self.vacated.remove(consumer)
                if place := self._slots.pop(consumer).clear():
                    self._free.append(place)  # Else the file had no room for it.

    def recover(self) -> Left:
        """Read what the last process left."""
        newest, waiting = {}, set()
        for _, consumer, halves in self._kept():
            place, day, seq, state, number = max(halves, key=lambda half: half[-1])
            if number:
                newest[consumer] = (ItemId(date.fromordinal(day), seq, place), state == _DONE)
                if state == _WAITING:
                    waiting.add(consumer)
        return Left(newest, frozenset(waiting))

    def clear(self, suspects: Collection[int] = ()) -> None:
        """Start anew: what was recovered is in the journal's marks. No lane may be running.

        ``suspects`` are the consumers of whose newest item nobody knows yet how far it came.
        """
        for offset, consumer, _ in list(self._kept()):
            if consumer not in suspects:
                first = offset + _CONSUMER.size
                self._map[first : offset + _SLOT] = bytes(2 * _HALF.size)

    def close(self) -> None:
        """Let go of the file."""
        self._map.close()

    def _open(self) -> mmap.mmap:
        """Map the file; where there is no room for it, a copy of it in memory."""
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            size = os.fstat(descriptor).st_size
            if size < 2 * _SLOT or size % _SLOT:
                os.ftruncate(descriptor, 0)
                size = 64 * _SLOT
            try:
                # A store to a page that the disk has no room for would end the program.
                os.posix_fallocate(descriptor, 0, size)
            except OSError as error:
                self._tell_of(error)
                self._is_copy = True
                memory = mmap.mmap(-1, size)
                found = os.read(descriptor, size)
                memory[: len(found)] = found
                return memory
            return mmap.mmap(descriptor, size)
        finally:
            os.close(descriptor)

    def _take(self) -> int:
        """A place after all others in the file; 0 if the disk has no room for it."""
        offset = self._end
        if offset == len(self._map) and not self._grow():
            return 0
        self._end += _SLOT
        return offset

    def _grow(self) -> bool:
        """Have room for as many slots again. False if the disk has none."""
        if self._is_copy:
            # It could be made longer, but a store beyond its old end would end the program.
            return False
        size = 2 * len(self._map)
        try:
            descriptor = os.open(self._path, os.O_RDWR)
            try:
                os.posix_fallocate(descriptor, 0, size)
            finally:
                os.close(descriptor)
            self._map.resize(size)
        except OSError as error:
            self._tell_of(error)
            return False
        return True

    def _tell_of(self, error: OSError) -> None:
        if not self._is_told:
            log.error(
                "there is no room for %s (%s): until the next start a crash may have events "
                "handled twice", self._path, error.strerror, extra={"event": "inflight_full"},
            )  # fmt: skip
        self._is_told = True

    def _kept(self) -> Iterator[tuple[int, int, list[tuple[int, ...]]]]:
        """Each slot in use: where it is, whose, and its halves."""
        for offset in range(_SLOT, len(self._map), _SLOT):
            (consumer,) = _CONSUMER.unpack_from(self._map, offset)
            if not consumer:
                return
            first = offset + _CONSUMER.size
            yield offset, consumer, list(_HALF.iter_unpack(self._map[first : offset + _SLOT]))
