"""What counts as a trouble, from a look at the status."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from bridge.core.oversight.conditions import Conditions
from bridge.sdk.errors import TemporaryFailure

BEGAN = datetime(2026, 3, 1, 12, tzinfo=UTC)


def look(**changes: Any) -> dict[str, Any]:
    """A status in which all is well, but for the changes."""
    lanes = {"oldest_seconds": 0.0, "longest": []}
    return {
        "homeserver": "answers", "database": "answers", "instances": [], "parked": {},
        "unaccounted": {}, "lanes": lanes, **changes,
    }  # fmt: skip


def instance(**changes: Any) -> dict[str, Any]:
    return {
        "name": "near", "state": "running", "reason": "", "logins": {}, "chats_in_trouble": {},
        **changes,
    }  # fmt: skip


class Day:
    """A machine that is looked at now and then."""

    def __init__(self, state_dir: Path) -> None:
        self.now = BEGAN
        self.last_backup: datetime | None = None
        self.disk = (100 << 30, 0, 50 << 30)
        self._conditions = Conditions(
            state_dir, now=lambda: self.now, last_backup=lambda: self.last_backup, began=BEGAN,
            usage=lambda _: self.disk,
        )  # fmt: skip

    def after(self, seen: Mapping[str, Any], **span: float) -> dict[str, str]:
        """What is wrong a while later, if this is seen then."""
        self.now += timedelta(**span)
        return self._conditions.find(seen)


@pytest.fixture
def day(folder: Path) -> Day:
    return Day(folder)


@pytest.mark.parametrize(
    ("key", "seen", "words"),
    [
        ("homeserver", look(homeserver="no answer"), "The homeserver: no answer."),
        (
            "logins near",
            look(instances=[instance(logins={"connected": 1, "sign-in needed": 2})]),
            "2 logins on near need their owners to sign in again.",
        ),
        (
            "instance near",
            look(instances=[instance(state="reconnecting", reason="banned")]),
            "near is reconnecting: banned.",
        ),
        (
            "chat near #tea",
            look(instances=[instance(chats_in_trouble={"#tea": "it is full"})]),
            "#tea on near: it is full.",
        ),
    ],
)
def test_what_may_pass_is_a_trouble_after_a_minute(
    day: Day, key: str, seen: dict[str, Any], words: str
) -> None:
    assert day.after(seen) == {}
    assert day.after(seen, seconds=59) == {}
    assert day.after(seen, seconds=1) == {key: words}
    assert day.after(look()) == {}


@pytest.mark.parametrize(
    ("key", "seen", "words"),
    [
        ("parked", look(parked={"refused": 2, "hung": 1}), "3 put aside (1 hung, 2 refused): "),
        ("encrypted !a 1", look(encrypted={"encrypted !a 1": "!a was made"}), "!a was made."),
        ("books", look(unaccounted={"to_matrix": 4}), "4 events are unaccounted for"),
        (
            "oldest",
            look(lanes={
                "oldest_seconds": 601.0, "longest": [{"lane": "#tea", "because": "it is away"}],
            }),
            "For #tea something waits for long: it is away.",
        ),
    ],
)  # fmt: skip
def test_what_does_not_pass_is_a_trouble_at_once(
    day: Day, key: str, seen: dict[str, Any], words: str
) -> None:
    found = day.after(seen)
    assert [*found] == [key]
    assert found[key].startswith(words)


def test_that_the_database_was_away_is_told_when_it_is_back(day: Day) -> None:
    away = look(database="away: Connection refused", parked=None)
    for _ in range(3):
        with pytest.raises(TemporaryFailure, match=r"^the database is away: Connection refused$"):
            day.after(away, minutes=5)
    found = day.after(look(), minutes=5)
    assert found == {
        "database": "The database was away from 2026-03-01 12:05 to 12:20 UTC: nothing was "
        "bridged, and what waited goes on now."
    }
    assert day.after(look(), seconds=60) == found
    assert day.after(look(), seconds=1) == {}
    with pytest.raises(TemporaryFailure):
        day.after(away, minutes=1)
    assert day.after(look(), seconds=59) == {}  # A moment is nothing to be told of.


def test_a_backup_that_is_old_or_was_never_made_is_a_trouble(day: Day) -> None:
    assert day.after(look(), days=8) == {}
    assert day.after(look(), hours=1) == {
        "backup": "No backup was made yet; `trestle backup` makes one."
    }
    day.last_backup = day.now
    assert day.after(look(), days=8) == {}
    assert day.after(look(), hours=1) == {
        "backup": "The last backup is of 2026-03-09; `trestle backup` makes a new one."
    }


@pytest.mark.parametrize(
    ("total", "free", "is_wrong"),
    [(100, 1 << 10, False), (100, (1 << 10) - 1, True), (4, 205, False), (4, 204, True)],
)
def test_a_disk_is_full_below_a_gibibyte_or_a_twentieth(
    day: Day, total: int, free: int, is_wrong: bool
) -> None:
    day.disk = (total << 30, 0, free << 20)
    found = day.after(look())
    assert ("disk" in found) is is_wrong
    if is_wrong:
        assert f"has {free} MiB left; make room" in found["disk"]


def test_a_trouble_from_while_the_clock_was_ahead_is_one_still_once_it_is_right(day: Day) -> None:
    away = look(homeserver="no answer")
    day.now += timedelta(days=30)
    day.after(away)
    assert "homeserver" in day.after(away, minutes=2)
    assert "homeserver" in day.after(away, days=-30)
    assert "homeserver" in day.after(away, seconds=1)
