"""What is left out of what waited too long."""

from datetime import date

from bridge.core.lanes.late import Cut, Lateness, find_cut
from bridge.core.lanes.progress import Row
from bridge.model import ItemId, RowId

DAY = date(2026, 1, 2)
LATENESS = Lateness(after=100, keep=3)


def places(*ages: float) -> list[tuple[Row, int]]:
    """A lane's places: one event a row, which landed so many seconds before 1000."""
    return [(Row(RowId(DAY, seq), 1, landed_at=1000 - age), 0) for seq, age in enumerate(ages, 1)]


def cut(*ages: float) -> Cut | None:
    return find_cut(places(*ages), 1000, LATENESS)


def test_the_newest_are_kept_and_the_rest_of_the_late_ones_is_left_out() -> None:
    found = cut(*range(500, 490, -1))
    assert found == Cut(last=ItemId(DAY, 7, 0), number=7, seconds=(500, 494))


def test_what_is_not_late_is_sent_however_much_it_is() -> None:
    assert cut(*[99.0] * 50) is None
    found = cut(*[101.0] * 8, *[99.0] * 50)
    assert found is not None
    assert found.number == 8


def test_for_a_few_it_is_not_worth_it() -> None:
    assert cut(*[500.0] * 6) is None
    assert cut() is None
