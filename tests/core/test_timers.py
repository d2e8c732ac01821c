"""The keeper of timers with bots that fail in every way, on a real database."""

import asyncio
import logging
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest
import pytest_asyncio

from bridge.core.host.timers import TimerKeeper
from bridge.core.lanes.patience import Patience
from bridge.demo.matrix_user import PATIENCE
from bridge.model import ParkReason, SystemClock
from bridge.sdk import (
    InstanceId,
    MessageKind,
    PermanentFailure,
    RoomId,
    TemporaryFailure,
    Timer,
    TimerCall,
    UserId,
)
from bridge.settings.records import DatabaseSettings
from bridge.storage.keys import DayKeys
from bridge.storage.shelf import Shelf
from bridge.storage.timers import InstanceTimers, Ringing
from tests.conformance.stage import DICE, ROOM, Play, play
from tests.rigs.program import TrestleProgram
from tests.rigs.trestle import wait_until
from tests.storage.conftest import TurnedClock

OnTimer = Callable[[Timer, TimerCall], Awaitable[None]]
SOON = timedelta(milliseconds=50)
HERE = RoomId(ROOM)


class Scripted:
    """A bot that does with each ring what a test says; remembers the keys that rang."""

    def __init__(self, script: OnTimer) -> None:
        self._script = script
        self.rang: list[str] = []

    async def on_timer(self, timer: Timer, call: TimerCall) -> None:
        self.rang.append(timer.key)
        await self._script(timer, call)


class Watched(InstanceTimers):
    """Counts how often it is asked."""

    asked = 0

    async def take(self) -> Ringing | None:
        self.asked += 1
        return await super().take()

    async def next_due(self) -> datetime | None:
        self.asked += 1
        return await super().next_due()


class WatchedClock(TurnedClock):
    """Counts how often it is looked at."""

    looks = 0

    def now(self) -> datetime:
        self.looks += 1
        return super().now()


class Bench:
    """A Trestle, and an instance with timers beside it."""

    def __init__(self, stage: Play, clock: TurnedClock) -> None:
        self.stage = stage
        self.clock = clock
        self.database = stage.app.parts.database
        keys = DayKeys(stage.settings.state_dir, SystemClock())
        self.timers = Watched(self.database, keys, InstanceId("scripted"))

    @asynccontextmanager
    async def ringing(
        self, script: OnTimer, *, is_there: bool = True, deadline: float = 30.0,
        clock: TurnedClock | None = None,
    ) -> AsyncIterator[Scripted]:  # fmt: skip
        """Have a keeper ring for a bot with that script, until the block ends."""
        parts = self.stage.app.parts
        bot, stage = Scripted(script), replace(parts.stage, deadline=deadline)
        keeper = TimerKeeper(
            "bot:scripted", UserId(DICE), bot, self.timers, stage, clock or self.database.clock,
            parts.telemetry, is_there=lambda user, room: is_there,
            patience=Patience(tries=3, first_delay=0.01, longest_delay=0.05), longest_sleep=0.5,
        )  # fmt: skip
        async with asyncio.TaskGroup() as group:
            task = group.create_task(keeper.run())
            yield bot
            await wait_until(lambda: not keeper.is_ringing)  # It counts after the row is gone.
            task.cancel()

    def counted(self, outcome: str) -> float:
        """How many rings came to that."""
        registry = self.stage.app.parts.telemetry.registry
        return registry.get_sample_value("trestle_timers_total", {"outcome": outcome}) or 0

    async def reason(self) -> ParkReason | None:
        """Why the one timer was put aside."""
        found = await self.stage.app.parts.items.count_parked()
        return next(iter(found), None)

    async def wait_until_empty(self) -> None:
        """Return when no row is left."""
        async with asyncio.timeout(PATIENCE):
            while await self.database.core.fetchval("SELECT count(*) FROM timer"):
                await asyncio.sleep(0.01)

    async def wait_until_parked(self) -> None:
        """Return when a timer is put aside."""
        await wait_until(lambda: self.counted("parked") > 0)


@pytest_asyncio.fixture
async def bench(database_settings: DatabaseSettings, folder: Path) -> AsyncIterator[Bench]:
    clock = TurnedClock()
    async with play(database_settings, folder, clock=clock) as stage:
        yield Bench(stage, clock)


async def test_a_sleeper_asks_the_database_nothing_and_wakes_for_an_earlier_one(
    bench: Bench,
) -> None:
    async def quietly(timer: Timer, call: TimerCall) -> None:
        pass

    async with bench.ringing(quietly) as bot:
        await bench.timers.set("far", after=timedelta(days=1))
        await bench.timers.set("soon", after=SOON)
        await bench.timers.set("late", after=timedelta(seconds=1.5))
        await wait_until(lambda: len(bot.rang) == 2)
        assert bot.rang == ["soon", "late"]
        # At the start and after each of three changes two questions, for each ring three.
        assert bench.timers.asked <= 4 * 2 + 2 * 3
        await bench.timers.cancel("far")
        await bench.wait_until_empty()
    assert bench.counted("done") == 2


async def test_a_sleeper_notices_that_the_clock_was_set_ahead_or_back(bench: Bench) -> None:
    async def quietly(timer: Timer, call: TimerCall) -> None:
        pass

    keepers = WatchedClock()
    async with bench.ringing(quietly, clock=keepers) as bot:
        await bench.timers.set("far", after=timedelta(days=1))
        await bench.timers.set("next", after=timedelta(hours=1))
        for hours, heard in ((2, ["next"]), (-2, ["next"]), (30, ["next", "far"])):
            await wait_until(lambda: bool(bench.timers.changed._waiters))  # It sleeps.
            looks = keepers.looks
            bench.clock.ahead = keepers.ahead = timedelta(hours=hours)
            await wait_until(lambda looks=looks: keepers.looks > looks)  # type: ignore[misc]
            await wait_until(lambda heard=heard: bot.rang == heard)  # type: ignore[misc]
        await bench.wait_until_empty()


async def test_what_is_said_is_said_once_though_the_ring_fails_after_it(bench: Bench) -> None:
    async def fail_twice(timer: Timer, call: TimerCall) -> None:
        await call.reply(f"said {timer.note.decode()}", kind=MessageKind.TEXT)
        await call.reply("and more")
        if len(bot.rang) < 3:
            raise RuntimeError("as the test says")

    async with bench.ringing(fail_twice) as bot:
        await bench.timers.set("a", after=SOON, note=b"once", room=HERE)
        await bench.wait_until_empty()
    assert bot.rang == ["a"] * 3
    assert await bench.stage.heard() == ["said once", "and more"]
    kinds = [said.content["msgtype"] for said in bench.stage.homeserver.said[:2]]
    assert kinds == ["m.text", "m.notice"]
    assert (bench.counted("retried"), bench.counted("done")) == (2, 1)


async def test_three_failures_put_it_aside_visibly_and_hold_up_no_other(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail(timer: Timer, call: TimerCall) -> None:
        if timer.key == "bad":
            raise RuntimeError("CANARY")

    caplog.set_level(logging.WARNING)
    async with bench.ringing(fail) as bot:
        await bench.timers.set("bad", after=SOON, room=HERE)
        await bench.timers.set("good", after=2 * SOON)
        await bench.wait_until_parked()
        await wait_until(lambda: bench.counted("done") == 1)
        await wait_until(lambda: len(bench.stage.homeserver.texts(ROOM)) > 0)
    assert bot.rang.count("bad") == 3
    assert await bench.reason() is ParkReason.FAILED
    gauge = bench.stage.app.parts.telemetry.registry.get_sample_value(
        "trestle_parked_items", {"reason": "failed"}
    )
    assert gauge == 1
    assert "timer_parked" in {getattr(record, "event", "") for record in caplog.records}
    (told,) = await bench.stage.heard()
    assert told.endswith("the module failed with RuntimeError, 3 times.")
    stored = await bench.database.core.fetchval("SELECT detail FROM timer")
    assert b"RuntimeError" not in stored
    keys = DayKeys(bench.stage.settings.state_dir, SystemClock())
    (listed,) = await Shelf(bench.database, keys).all()
    assert (listed.consumer, listed.reason) == ("bot:scripted", ParkReason.FAILED)
    assert listed.detail == "the module failed with RuntimeError, 3 times"


async def test_what_can_work_later_is_tried_until_it_does(bench: Bench) -> None:
    async def not_yet(timer: Timer, call: TimerCall) -> None:
        if len(bot.rang) < 8:
            raise TemporaryFailure("not yet", retry_after=0.01 if len(bot.rang) % 2 else None)

    async with bench.ringing(not_yet) as bot:
        await bench.timers.set("a", after=SOON)
        await bench.wait_until_empty()
    assert len(bot.rang) == 8
    assert bench.counted("parked") == 0


async def test_what_can_never_work_is_tried_once(bench: Bench) -> None:
    async def never(timer: Timer, call: TimerCall) -> None:
        raise PermanentFailure("never")

    async with bench.ringing(never) as bot:
        await bench.timers.set("a", after=SOON)
        await bench.wait_until_parked()
    assert bot.rang == ["a"]
    assert await bench.reason() is ParkReason.REFUSED


async def test_a_timer_of_a_room_that_the_bot_has_left_is_forgotten(bench: Bench) -> None:
    async def reply(timer: Timer, call: TimerCall) -> None:
        await call.reply("hello")

    async with bench.ringing(reply, is_there=False) as bot:
        await bench.timers.set("a", after=SOON, room=HERE)
        await bench.wait_until_empty()
    assert bot.rang == []
    assert (bench.counted("void"), bench.counted("parked")) == (1, 0)
    assert await bench.stage.heard() == []


async def test_a_timer_without_a_room_rings_but_cannot_answer(bench: Bench) -> None:
    async def reply(timer: Timer, call: TimerCall) -> None:
        await call.reply("hello")

    async with bench.ringing(reply):
        await bench.timers.set("a", after=SOON)
        await bench.wait_until_parked()
    assert await bench.reason() is ParkReason.REFUSED


async def test_a_bot_that_hangs_is_cut_off_three_times(bench: Bench) -> None:
    async def hang(timer: Timer, call: TimerCall) -> None:
        await asyncio.Event().wait()

    async with bench.ringing(hang, deadline=0.2) as bot:
        await bench.timers.set("a", after=SOON)
        await bench.wait_until_parked()
    assert len(bot.rang) == 3
    assert await bench.reason() is ParkReason.HUNG


async def test_a_ring_that_ended_the_program_three_times_is_not_tried_again(
    bench: Bench,
) -> None:
    async def unexpected(timer: Timer, call: TimerCall) -> None:
        raise AssertionError("it must not be called")

    await bench.timers.set("a", after=timedelta())
    for _ in range(3):  # A kill between this and the end of the ring leaves no more behind.
        assert await bench.timers.take() is not None
    async with bench.ringing(unexpected) as bot:
        await bench.wait_until_parked()
    assert bot.rang == []
    assert await bench.reason() is ParkReason.CRASHED


async def test_what_comes_back_regularly_is_set_again_while_it_rings(bench: Bench) -> None:
    async def again(timer: Timer, call: TimerCall) -> None:
        await call.reply(f"round {len(bot.rang)}")
        if len(bot.rang) < 3:
            await bench.timers.set(timer.key, after=SOON, room=timer.room)

    async with bench.ringing(again) as bot:
        await bench.timers.set("a", after=SOON, room=HERE)
        await bench.wait_until_empty()
    assert await bench.stage.heard() == ["round 1", "round 2", "round 3"]


async def test_a_bot_that_could_not_hear_its_timers_may_set_none(bench: Bench) -> None:
    bench.timers.are_heard = False
    with pytest.raises(PermanentFailure, match="on_timer"):
        await bench.timers.set("a", after=SOON)


async def test_the_operator_sees_what_was_put_aside(
    database_settings: DatabaseSettings, folder: Path
) -> None:
    async def never(timer: Timer, call: TimerCall) -> None:
        raise PermanentFailure("the moon is full")

    async with play(database_settings, folder) as stage:
        bench = Bench(stage, TurnedClock())
        async with bench.ringing(never):
            await bench.timers.set("a", after=SOON)
            await bench.wait_until_parked()
        TrestleProgram(stage.settings, folder, {})  # It writes the settings to a file.
    command = [sys.executable, "-m", "bridge", "parked", "list", "-c", str(folder / "config.yaml")]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    shown, _ = await process.communicate()
    assert b"bot:scripted  refused: the moon is full  since" in shown
