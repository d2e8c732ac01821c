"""The small file that tells, after a crash, what was being done and what was just done.

A memory-mapped file of the state directory with one slot for each lane: a write to it is a store
to memory, needs no system call, and survives ``kill -9``. (It does not survive a power cut; then
the journal's marks are the truth, and what they lack runs again.)

A slot holds the newest item of its lane and whether that one's effect is out. A lane works
strictly in order, so every item before it is done too. Of the two halves of a slot the one with
the higher number counts; it is written last, so that a record cut short by a kill is the other.
"""

import mmap
import os
import struct
from collections.abc import Collection, Iterator
from datetime import date
from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple

from bridge.model import ItemId

_MAGIC = b"trestle3"
_CONSUMER = struct.Struct("<Q")
_HALF = struct.Struct("<IIQB3xQ")  # place, day ordinal, sequence, state, number from 1 on
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


class InFlight:
    """The slots of all lanes."""

    def __init__(self, path: Path) -> None:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            size = os.fstat(descriptor).st_size
            if size < 2 * _SLOT or size % _SLOT:
                os.ftruncate(descriptor, 0)
                os.ftruncate(descriptor, 64 * _SLOT)
            self._map = mmap.mmap(descriptor, 0)
        finally:
            os.close(descriptor)
        if self._map[: len(_MAGIC)] != _MAGIC:
            self._map[:] = _MAGIC.ljust(len(self._map), b"\0")
        self._slots: dict[int, Slot] = {}
        self._end = _SLOT  # The first slot's place is the header's.
        for offset, consumer, halves in self._kept():
            number = max(half[-1] for half in halves)
            self._slots[consumer] = Slot(self._map, offset, number)
            self._end = offset + _SLOT

    def slot(self, consumer: int) -> Slot:
        """Give the consumer's slot, made on first use; the file grows as it must."""
        slot = self._slots.get(consumer)
        if slot is None:
            if self._end == len(self._map):
                self._map.resize(2 * len(self._map))
            _CONSUMER.pack_into(self._map, self._end, consumer)
            slot = self._slots[consumer] = Slot(self._map, self._end, 0)
            self._end += _SLOT
        return slot

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

    def _kept(self) -> Iterator[tuple[int, int, list[tuple[int, ...]]]]:
        """Each slot in use: where it is, whose, and its halves."""
        for offset in range(_SLOT, len(self._map), _SLOT):
            (consumer,) = _CONSUMER.unpack_from(self._map, offset)
            if not consumer:
                return
            first = offset + _CONSUMER.size
            yield offset, consumer, list(_HALF.iter_unpack(self._map[first : offset + _SLOT]))
