"""What waits for a network that is away for long costs little memory."""

import tracemalloc
from collections import deque
from datetime import date

import pytest

from bridge.core.lanes.progress import Row
from bridge.model import Outcome, RowId

DAY = date(2026, 11, 27)


@pytest.mark.parametrize(("together", "most"), [(1, 500), (10, 120), (100, 80)])
def test_a_line_that_waits_behind_a_queue_costs_few_bytes(together: int, most: int) -> None:
    """``together``: so many came in one transaction."""
    number, beyond = 10_000, deque[tuple[Row, int]]()
    tracemalloc.start()
    try:
        for seq in range(number // together):
            row = Row(RowId(DAY, 1_000_000 + seq), together, landed_at=float(seq))
            beyond.extend((row, index) for index in range(together))
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held / number < most


def test_what_is_noted_of_a_row_with_several_consumers_is_noted_of_no_other() -> None:
    one, other = (Row(RowId(DAY, seq), 2, landed_at=0.0) for seq in (1, 2))
    one.share(0, 2)
    one.note_worst(0, Outcome.DELIVERED)
    one.finish_share(0, 7, Outcome.DROPPED)
    assert (one.shares, one.worst, one.partly) == ({0: 1}, {0: Outcome.DELIVERED}, {0: [7]})
    assert (other.shares, other.worst, other.partly) == ({}, {}, {})
    other.finish_share(0, 7, Outcome.DROPPED)
    assert other.is_done(0)
    one.finish_share(0, 8, Outcome.DROPPED)
    assert one.is_done(0)
    assert one.counts[Outcome.DELIVERED] == 1
    assert (one.shares, one.worst, one.partly) == ({}, {}, {})
