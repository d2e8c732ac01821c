"""Timers on a real Postgres: kept, sealed, bounded, forgotten."""

from datetime import datetime, timedelta
from pathlib import Path

import pytest

from bridge.model import ParkReason
from bridge.sdk.errors import PermanentFailure, TemporaryFailure
from bridge.sdk.ids import InstanceId, RoomId, UserId
from bridge.sdk.timers import LONGEST_NOTE, LONGEST_WAIT
from bridge.storage.keys import DayKeys
from bridge.storage.pool import Database
from bridge.storage.retention import Retention
from bridge.storage.timers import InstanceTimers
from tests.storage.conftest import TurnedClock

ROOM, OTHER = RoomId("!r"), RoomId("!other")
ALICE, BEA = UserId("@alice:hs"), UserId("@bea:hs")
MINUTE = timedelta(minutes=1)


def timers_of(database: Database, folder: Path, name: str = "bot", **more: int) -> InstanceTimers:
    return InstanceTimers(database, DayKeys(folder, database.clock), InstanceId(name), **more)


async def test_a_timer_is_taken_when_its_time_has_come_and_not_before(
    database: Database, folder: Path, clock: TurnedClock
) -> None:
    timers = timers_of(database, folder)
    assert await timers.next_due() is None
    second = await timers.set("b", after=2 * MINUTE)
    first = await timers.set("a", after=MINUTE, note=b"\0tea", room=ROOM, subject=ALICE)
    assert await timers.next_due() == first.at
    assert await timers.take() is None
    clock.ahead += MINUTE
    taken = await timers.take()
    assert taken is not None
    assert taken.timer == first
    assert (taken.timer.note, taken.timer.room, taken.timer.subject) == (b"\0tea", ROOM, ALICE)
    await timers.finish(taken.id)
    assert await timers.list() == [second]


async def test_the_same_key_again_is_another_moment_of_the_same_timer(
    database: Database, folder: Path, clock: TurnedClock
) -> None:
    timers = timers_of(database, folder)
    await timers.set("a", after=MINUTE, note=b"old")
    clock.ahead += MINUTE
    taken = await timers.take()
    assert taken is not None
    again = await timers.set("a", after=MINUTE, note=b"new")
    await timers.finish(taken.id)
    assert await timers.list() == [again]
    clock.ahead += MINUTE
    next_taken = await timers.take()
    assert next_taken is not None
    assert (next_taken.tries, next_taken.timer.note) == (1, b"new")
    assert next_taken.id != taken.id


async def test_tries_are_counted_before_and_taken_back_if_they_do_not_count(
    database: Database, folder: Path, clock: TurnedClock
) -> None:
    timers = timers_of(database, folder)
    await timers.set("a", at=clock.now() - MINUTE)
    for counts, tries in ((True, 1), (False, 2), (True, 2), (True, 3)):
        taken = await timers_of(database, folder).take()
        assert taken is not None
        assert taken.tries == tries
        await timers.put_off(taken.id, clock.now(), counts=counts)
    taken = await timers.take()
    assert taken is not None
    await timers.park(taken.id, taken.timer.at, ParkReason.FAILED, "it failed")
    assert await timers.take() is None
    assert await timers.list() == []
    assert await timers.next_due() is None
    await timers.set("a", after=MINUTE)
    assert await timers.next_due() is not None


async def test_one_sees_its_own_by_room_and_person(database: Database, folder: Path) -> None:
    timers, others = timers_of(database, folder), timers_of(database, folder, "other")
    for number, (room, person) in enumerate([(ROOM, ALICE), (ROOM, BEA), (OTHER, ALICE)]):
        await timers.set(str(number), after=(3 - number) * MINUTE, room=room, subject=person)
    await others.set("0", after=MINUTE, room=ROOM, subject=ALICE)
    assert [t.key for t in await timers.list()] == ["2", "1", "0"]
    assert [t.key for t in await timers.list(room=ROOM)] == ["1", "0"]
    assert [t.key for t in await timers.list(room=ROOM, subject=ALICE)] == ["0"]
    assert await timers.cancel("0")
    assert not await timers.cancel("0")
    assert [t.key for t in await others.list()] == ["0"]
    assert not await others.cancel("1")


async def test_there_is_an_end_to_how_many_how_long_and_how_far(
    database: Database, folder: Path, clock: TurnedClock
) -> None:
    timers = timers_of(database, folder, most=2)
    await timers.set("a", after=LONGEST_WAIT)
    await timers.set("b", after=MINUTE)
    with pytest.raises(PermanentFailure, match="no room for more"):
        await timers.set("c", after=MINUTE)
    await timers.set("b", after=2 * MINUTE)
    await timers_of(database, folder, "other").set("c", after=MINUTE)
    for key, note, after, reason in (
        ("a", b"", LONGEST_WAIT + MINUTE, "at most 30 days"),
        ("a", b"x" * (LONGEST_NOTE + 1), MINUTE, "bytes"),
        ("", b"", MINUTE, "characters"),
        ("a" * 256, b"", MINUTE, "characters"),
        ("a\0", b"", MINUTE, "cannot be stored"),
        ("\ud800", b"", MINUTE, "cannot be stored"),
    ):
        with pytest.raises(PermanentFailure, match=reason):
            await timers.set(key, after=after, note=note)
    for at, wait in ((None, None), (clock.now(), MINUTE), (datetime(2030, 1, 1), None)):  # noqa: DTZ001
        with pytest.raises(ValueError, match="timer"):
            await timers.set("a", at=at, after=wait)
    assert len(await timers.list()) == 2


async def test_what_a_predecessor_writes_late_has_no_effect(
    database: Database, folder: Path, clock: TurnedClock
) -> None:
    timers = timers_of(database, folder)
    await timers.set("a", at=clock.now())
    await database.core.execute("UPDATE lease SET epoch = epoch + 1")
    assert await timers.take() is None
    assert not await timers.cancel("a")
    with pytest.raises(TemporaryFailure, match="took over"):
        await timers.set("b", after=MINUTE)
    assert len(await timers.list()) == 1


async def test_the_note_dies_with_the_key_of_the_day_it_was_due(
    database: Database, folder: Path, clock: TurnedClock
) -> None:
    keys = DayKeys(folder, clock)
    timers = InstanceTimers(database, keys, InstanceId("bot"))
    clock.ahead = timedelta(days=-15)
    for days in (1, 2, 20):
        await timers.set(f"in {days} days", after=timedelta(days=days), note=b"CANARY")
    rows = await database.core.fetch("SELECT * FROM timer")
    assert not [row for row in rows if b"CANARY" in row["note"]]
    clock.ahead = timedelta()
    await Retention(database, keys).run_once()
    assert [(t.key, t.note) for t in await timers.list()] == [
        ("in 2 days", b"CANARY"), ("in 20 days", b"CANARY"),
    ]  # fmt: skip
    assert await database.core.fetchval("SELECT count(*) FROM timer") == 2
    assert clock.today() - timedelta(days=14) not in keys.days()


async def test_a_timer_that_nobody_can_read_is_let_go_and_told(
    database: Database, folder: Path, clock: TurnedClock, caplog: pytest.LogCaptureFixture
) -> None:
    keys = DayKeys(folder, clock)
    timers = InstanceTimers(database, keys, InstanceId("bot"))
    lost = await timers.set("lost", after=timedelta(days=5))
    kept = await timers.set("kept", after=timedelta(days=6))
    keys.destroy(lost.at.date())
    assert await timers.list() == [kept]
    clock.ahead += timedelta(days=7)
    taken = await timers.take()
    assert taken is not None
    assert taken.timer == kept
    assert "timer_unreadable" in {getattr(record, "event", "") for record in caplog.records}


async def test_a_person_sees_no_timers_but_their_own(database: Database, folder: Path) -> None:
    timers = timers_of(database, folder)
    for person in (ALICE, BEA, None):
        await timers.set(str(person), after=MINUTE, subject=person)
    async with database.as_subject(ALICE) as connection:
        rows = await connection.fetch("SELECT subject FROM timer")
    assert [row["subject"] for row in rows] == [ALICE]
