"""Rings the timers of bots when their time has come."""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta

from bridge.core.host.bots import Stage, say
from bridge.core.lanes.patience import LEAST_PAUSE, Patience, persistently
from bridge.model import Clock, ParkReason
from bridge.sdk.errors import (
    DeliveryUncertain,
    LoginRequired,
    ModuleNotReady,
    PermanentFailure,
    TemporaryFailure,
    Unsupported,
)
from bridge.sdk.events import MessageKind
from bridge.sdk.ids import RoomId, UserId
from bridge.sdk.rich import Rich
from bridge.sdk.timers import HearsTimers, Timer
from bridge.storage.timers import InstanceTimers, Ringing
from bridge.telemetry import Telemetry
from bridge.waits import is_set_within

log = logging.getLogger(__name__)

IsThere = Callable[[UserId, RoomId], bool]
"""Whether the bot is in the room."""

_LONGEST_SLEEP = 60.0
"""Seconds after which a sleeper looks at the clock again: it may have been set."""

_GRACE = 5.0
"""Seconds for a bot to end after it was cancelled; then it is left behind."""


class _TooLong(Exception):
    """The bot did not come to an end within the deadline."""


class RingCall:
    """What the bot may do while its timer rings (``sdk.TimerCall``)."""

    def __init__(
        self,
        stage: Stage,
        user: UserId,
        ringing: Ringing,
        is_there: IsThere,
    ) -> None:
        self._stage = stage
        self._user = user
        self._ringing = ringing
        self._is_there = is_there
        self._answers = 0

    async def reply(self, answer: str | Rich, *, kind: MessageKind = MessageKind.NOTICE) -> None:
        """Say it in the timer's room, once over all rings of this timer."""
        room = self._ringing.timer.room
        if room is None:
            raise PermanentFailure("the timer has no room")
        if not self._is_there(self._user, room):
            raise PermanentFailure("the bot is not in the room any more")
        self._answers += 1
        source = ("timer", self._ringing.id, self._answers)
        await say(self._stage, self._user, room, answer, kind, *source)


class TimerKeeper:
    """One bot's timers, rung one after another. Run it in a task of its own.

    It sleeps until the next one is due, or until the timers change; the database is asked
    nothing in between. A ring that fails is tried again later, so that it holds up no other.
    """

    def __init__(
        self,
        name: str,
        user: UserId,
        bot: HearsTimers,
        timers: InstanceTimers,
        stage: Stage,
        clock: Clock,
        telemetry: Telemetry,
        *,
        is_there: IsThere,
        patience: Patience,
        longest_sleep: float = _LONGEST_SLEEP,
    ) -> None:
        self.name = name
        self._user = user
        self._bot = bot
        self._timers = timers
        self._stage = stage
        self._clock = clock
        self._telemetry = telemetry
        self._is_there = is_there
        self._patience = patience
        self._longest_sleep = longest_sleep
        self.is_ringing = False

    def set_tries(self, tries: int) -> None:
        """From now on park what has failed so often."""
        self._patience = replace(self._patience, tries=tries)

    async def run(self) -> None:
        """Ring until cancelled."""
        async with asyncio.TaskGroup() as group:
            while True:
                self._timers.changed.clear()
                ringing = await persistently(self._timers.take)
                if ringing is None:
                    await self._sleep_until(await persistently(self._timers.next_due))
                    continue
                self.is_ringing = True
                try:
                    await self._ring(group, ringing)
                finally:
                    self.is_ringing = False

    async def _sleep_until(self, due: datetime | None) -> None:
        # One that is due and was not taken is a successor's: do not ask in a circle.
        left = self._left_until(due) or 0.05
        while left > 0:
            if await is_set_within(min(left, self._longest_sleep), self._timers.changed):
                return
            left = self._left_until(due)

    def _left_until(self, due: datetime | None) -> float:
        if due is None:
            return self._longest_sleep
        return max(0.0, (due - self._clock.now()).total_seconds())

    async def _ring(self, group: asyncio.TaskGroup, ringing: Ringing) -> None:
        if ringing.tries > self._patience.tries:
            await self._park(ringing, ParkReason.CRASHED, "handling it ended the whole program")
            return
        if self._is_void(ringing.timer):
            log.info("%s has left a timer's room", self.name, extra={"event": "timer_void"})
            await self._finish(ringing, "void")
            return
        failure = await self._within_deadline(group, ringing)
        match failure:
            case None:
                await self._finish(ringing, "done")
            case TemporaryFailure() | ModuleNotReady():
                late = (self._clock.now() - ringing.timer.at).total_seconds()
                wait = self._patience.wait(failure, late, self._patience.first_delay)
                await self._put_off(ringing, max(wait, LEAST_PAUSE), counts=False)
            case Unsupported():
                await self._park(ringing, ParkReason.UNSUPPORTED, str(failure))
            case PermanentFailure() | LoginRequired():
                await self._park(ringing, ParkReason.REFUSED, str(failure))
            case DeliveryUncertain():
                await self._failed(ringing, ParkReason.UNCERTAIN, str(failure))
            case _TooLong():
                await self._failed(ringing, ParkReason.HUNG, str(failure))
            case _:
                log.error(
                    "%s failed on a timer", self.name,
                    exc_info=failure, extra={"event": "timer_failed"},
                )  # fmt: skip
                detail = f"the module failed with {type(failure).__name__}"
                await self._failed(ringing, ParkReason.FAILED, detail)

    async def _within_deadline(
        self, group: asyncio.TaskGroup, ringing: Ringing
    ) -> Exception | None:
        """Let the bot hear it, in a task that can be left behind; give what went wrong."""
        call = RingCall(self._stage, self._user, ringing, self._is_there)

        async def hear() -> Exception | None:
            try:
                await self._bot.on_timer(ringing.timer, call)
            except Exception as error:  # noqa: BLE001 - A module is a stranger; told apart later.
                return error
            return None

        task = group.create_task(hear(), name=f"timer of {self.name}")
        await asyncio.wait({task}, timeout=self._stage.deadline)
        if not task.done():
            task.cancel()
            await asyncio.wait({task}, timeout=_GRACE)
            if not task.done():
                log.error("%s does not stop", self.name, extra={"event": "timer_stuck"})
            return _TooLong("it took too long")
        return _TooLong("it gave up") if task.cancelled() else task.result()

    def _is_void(self, timer: Timer) -> bool:
        return timer.room is not None and not self._is_there(self._user, timer.room)

    async def _finish(self, ringing: Ringing, outcome: str) -> None:
        await persistently(lambda: self._timers.finish(ringing.id))
        self._telemetry.timers.labels(outcome=outcome).inc()

    async def _failed(self, ringing: Ringing, reason: ParkReason, detail: str) -> None:
        if ringing.tries >= self._patience.tries:
            await self._park(ringing, reason, f"{detail}, {ringing.tries} times")
        else:
            wait = self._patience.first_delay * float(4 ** (ringing.tries - 1))
            await self._put_off(ringing, wait, counts=True)

    async def _put_off(self, ringing: Ringing, wait: float, *, counts: bool) -> None:
        due = self._clock.now() + timedelta(seconds=wait)
        await persistently(lambda: self._timers.put_off(ringing.id, due, counts=counts))
        self._telemetry.timers.labels(outcome="retried").inc()

    async def _park(self, ringing: Ringing, reason: ParkReason, detail: str) -> None:
        await persistently(lambda: self._timers.park(ringing.id, ringing.timer.at, reason, detail))
        self._telemetry.timers.labels(outcome="parked").inc()
        self._telemetry.parked.labels(reason=reason.value).inc()
        log.warning(
            "a timer of %s is parked: %s", self.name, reason.value, extra={"event": "timer_parked"}
        )
        room = ringing.timer.room
        if room is None or self._is_void(ringing.timer):
            return
        text = (
            f"I could not do what was set for {ringing.timer.at:%F %H:%M} UTC: "
            f"{detail.rstrip('.')}."
        )
        source = ("timer", ringing.id, "parked")
        try:
            await say(self._stage, self._user, room, text, MessageKind.NOTICE, *source)
        except (TemporaryFailure, PermanentFailure) as error:
            log.warning("nobody was told: %s", error, extra={"event": "sender_not_told"})
