"""The small file that tells, after a crash, what was being done and what was just done.

A ring of fixed records in a memory-mapped file of the state directory: a write to it is a
store to memory, needs no system call, and survives ``kill -9``. (It does not survive a power
cut; then the journal's marks are the truth, and what they lack runs again.)
"""

import mmap
import os
import struct
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import NamedTuple
from zlib import crc32

from bridge.model import ItemId

_HEADER = struct.Struct("<8sQ")  # magic, tail: how many records are forgotten
_RECORD = struct.Struct(
    "<QQIIIB"
)  # number from 1 on, sequence, consumer, day ordinal, place, kind
_MAGIC = b"trestle2"
STARTED = _STARTED = 1
DONE = _DONE = 2
_START = _HEADER.size
_SIZE = _RECORD.size
_PACK = _RECORD.pack_into


class Share(NamedTuple):
    """One consumer's share in one item."""

    item: ItemId
    consumer: int


def consumer_number(name: str) -> int:
    """Give the stable number by which a consumer is known in the file and in progress marks."""
    return crc32(name.encode())


class InFlight:
    """Records of what started and what was done since the last durable mark."""

    def __init__(self, path: Path, *, records: int = 65_536) -> None:
        self._records = records
        size = _START + records * _SIZE
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            if os.fstat(descriptor).st_size != size:
                os.ftruncate(descriptor, 0)
                os.ftruncate(descriptor, size)
            self._map = mmap.mmap(descriptor, size)
        finally:
            os.close(descriptor)
        magic, self._tail = _HEADER.unpack_from(self._map)
        if magic != _MAGIC:
            self._tail = 0
            self._write_tail()
        self._head = max((number for number, *_ in self._records_kept()), default=self._tail)

    @property
    def position(self) -> int:
        """How many records were written; hand it to :meth:`forget` once marks are durable."""
        return int(self._head)

    @property
    def nearly_full(self) -> bool:
        """A flush of the marks is due at once."""
        return bool(self._head - self._tail > self._records // 2)

    def started(self, item: ItemId, consumer: int) -> None:
        """Note that the consumer is about to act on the item."""
        self.append(_STARTED, item[0].toordinal(), item[1], item[2], consumer)

    def done(self, item: ItemId, consumer: int) -> None:
        """Note that the consumer's effect is out in the world."""
        self.append(_DONE, item[0].toordinal(), item[1], item[2], consumer)

    def append(self, kind: int, day: int, seq: int, place: int, consumer: int) -> None:
        """Write a record: ``STARTED`` or ``DONE``, the day as an ordinal."""
        head = self._head = self._head + 1
        offset = _START + (head % self._records) * _SIZE
        _PACK(self._map, offset, head, seq, consumer, day, place, kind)

    def forget(self, position: int, running: Iterator[tuple[Share, bool]]) -> None:
        """Drop the records before ``position``, but those still ``running``: (share, is done)."""
        for share, done in running:
            (self.done if done else self.started)(share.item, share.consumer)
        self._tail = max(self._tail, position)
        self._write_tail()

    def recover(self) -> tuple[set[Share], set[Share]]:
        """Read what the last process left: (suspects, done)."""
        suspects: set[Share] = set()
        done: set[Share] = set()
        for _, seq, consumer, day, place, kind in sorted(self._records_kept()):
            share = Share(ItemId(date.fromordinal(day), seq, place), consumer)
            if kind == _STARTED:
                suspects.add(share)
            else:
                done.add(share)
        return suspects - done, done

    def clear(self) -> None:
        """Start anew; what was recovered has been taken care of."""
        self._tail = self._head
        self._write_tail()

    def close(self) -> None:
        """Let go of the file."""
        self._map.close()

    def _records_kept(self) -> Iterator[tuple[int, int, int, int, int, int]]:
        for place in range(self._records):
            record = _RECORD.unpack_from(self._map, _START + place * _SIZE)
            # A record that was being written at the kill has no number that fits its place.
            if record[0] > self._tail and record[0] % self._records == place and record[3]:
                yield record

    def _write_tail(self) -> None:
        _HEADER.pack_into(self._map, 0, _MAGIC, self._tail)
