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

_HEADER = struct.Struct("<8sQQ")  # magic, head, tail: record counts since the file was made
_RECORD = struct.Struct("<BxxxIIIQ")  # kind, consumer, day ordinal, index, sequence number
_MAGIC = b"trestle1"
_STARTED, _DONE = 1, 2


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
        size = _HEADER.size + records * _RECORD.size
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            if os.fstat(descriptor).st_size != size:
                os.ftruncate(descriptor, 0)
                os.ftruncate(descriptor, size)
            self._map = mmap.mmap(descriptor, size)
        finally:
            os.close(descriptor)
        magic, self._head, self._tail = _HEADER.unpack_from(self._map)
        if magic != _MAGIC:
            self._head = self._tail = 0
            self._write_header()

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
        self._append(_STARTED, item, consumer)

    def done(self, item: ItemId, consumer: int) -> None:
        """Note that the consumer's effect is out in the world."""
        self._append(_DONE, item, consumer)

    def forget(self, position: int, running: Iterator[tuple[Share, bool]]) -> None:
        """Drop the records before ``position``, but those still ``running``: (share, is done)."""
        for share, done in running:
            self._append(_DONE if done else _STARTED, share.item, share.consumer)
        self._tail = max(self._tail, position)
        self._write_header()

    def recover(self) -> tuple[set[Share], set[Share]]:
        """Read what the last process left: (suspects, done)."""
        suspects: set[Share] = set()
        done: set[Share] = set()
        first = max(self._tail, self._head - self._records)
        for number in range(first, self._head):
            offset = _HEADER.size + (number % self._records) * _RECORD.size
            kind, consumer, day, index, seq = _RECORD.unpack_from(self._map, offset)
            if kind not in {_STARTED, _DONE} or day == 0:
                continue
            share = Share(ItemId(date.fromordinal(day), seq, index), consumer)
            if kind == _STARTED:
                suspects.add(share)
            else:
                suspects.discard(share)
                done.add(share)
        return suspects - done, done

    def clear(self) -> None:
        """Start anew; what was recovered has been taken care of."""
        self._tail = self._head
        self._write_header()

    def close(self) -> None:
        """Let go of the file."""
        self._map.close()

    def _append(self, kind: int, item: ItemId, consumer: int) -> None:
        head = self._head
        offset = _HEADER.size + (head % self._records) * _RECORD.size
        _RECORD.pack_into(self._map, offset, kind, consumer, item[0].toordinal(), item[2], item[1])
        # The count is written after the record: a kill in between leaves the record out.
        self._head = head + 1
        self._write_header()

    def _write_header(self) -> None:
        _HEADER.pack_into(self._map, 0, _MAGIC, self._head, self._tail)
