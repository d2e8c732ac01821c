"""Lanes: strictly one item after another inside a lane, lanes side by side.

A slow, hanging or crashing consumer delays its own lanes only. What happens to a failing item
is said by the class of its error (DESIGN 5).
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import date
from time import monotonic
from typing import Any

from bridge.core.lanes.inflight import InFlight, consumer_number
from bridge.core.lanes.landing import Landing, NeverStored
from bridge.core.lanes.lane import LONGEST, Consumer, Item, Lane
from bridge.core.lanes.patience import LEAST_PAUSE, Patience, meant_by, persistently
from bridge.core.lanes.progress import Marker, Row
from bridge.core.lanes.putaside import park, tell, tell_abandoned, tell_forgotten
from bridge.failpoint import failpoint
from bridge.model import Forgotten, Outcome, ParkReason
from bridge.sdk.errors import (
    DeliveryUncertain,
    LoginRequired,
    ModuleNotReady,
    PermanentFailure,
    TemporaryFailure,
    Unsupported,
)
from bridge.storage.items import Items
from bridge.telemetry import Telemetry

log = logging.getLogger(__name__)

_IDLE = 2.0
"""Seconds after which a lane with nothing to do gives up its task."""

_STUBBORN = 2.0
"""Seconds that a suspect has to end when it is told to."""

_BURST = 10
"""Items that all lanes together handle before the loop looks after the homeserver again."""


class _TooLong(Exception):
    """Handling was cancelled at the consumer's deadline."""


class Router:
    """Runs the lanes. Give it items by :meth:`push`; run it in a task of its own."""

    def __init__(
        self, inflight: InFlight, failures: Items, telemetry: Telemetry, *,
        encode: Callable[[Any], bytes], patience: Patience | None = None,
    ) -> None:  # fmt: skip
        self._inflight = inflight
        self._failures = failures
        self._telemetry = telemetry
        self._encode = encode
        self._patience = patience or Patience()
        self._lanes: dict[str, Lane] = {}
        self._closing: set[Lane] = set()
        """Lanes that are closed, and whose tasks have not ended."""
        self._ready: deque[Lane] = deque()
        self._hungry: dict[str, Lane] = {}
        self._hunger = asyncio.Event()
        self._group: asyncio.TaskGroup | None = None
        self._stopping = False
        self.marker: Marker
        self._turning = False
        self.waiting = 0
        """Items of all lanes that are in memory."""

    @property
    def lanes(self) -> Mapping[str, Lane]:
        """The lanes by the name of their consumer."""
        return self._lanes

    def lane(self, consumer: Consumer) -> Lane:
        """Give the consumer's lane, made on first use."""
        lane = self._lanes.get(consumer.name)
        if lane is None:
            slot = self._inflight.slot(consumer_number(consumer.name))
            lane = self._lanes[consumer.name] = Lane(consumer, slot)
        return lane

    def passing_lane(self, consumer: Consumer) -> Lane:
        """Give the consumer's lane; it is let go again once nothing has been in it for a while."""
        lane = self.lane(consumer)
        lane.passes = True
        return lane

    def set_tries(self, tries: int) -> None:
        """From now on park what has failed so often."""
        self._patience = replace(self._patience, tries=tries)

    def close_lane(self, name: str) -> None:
        """Let the lane end; what waits in it counts as done, what runs is settled by its end."""
        lane = self._lanes.pop(name, None)
        if lane is None:
            return
        lane.closed = True
        if lane.running:
            self._closing.add(lane)
        # A later lane of that name has the slot for itself.
        lane.slot = self._inflight.nowhere
        self._inflight.vacate(lane.number)
        self.leave_out(lane)
        self.waiting -= len(lane.queue)
        lane.queue.clear()
        lane.wake()

    def leave_out(self, lane: Lane, day: date | None = None) -> int:
        """Have what waits in the lane, of one day or all, count as done; how much that was."""
        before = len(lane.queue)
        places = lane.take(day)
        self.waiting -= before - len(lane.queue)
        for row, index in places:
            self._settle(lane, row, index, Outcome.DROPPED)
        self._ask_for_more(lane)
        return len(places)

    def begin(self, lane: Lane, row: Row, event: dict[str, Any], landing: Landing) -> None:
        """Have a lane at rest begin with a row's only event before the row is safe."""
        self._append(lane, Item(row, 0, event, lane, landing))
        self.set_going()

    def push(self, lane: Lane, row: Row, index: int, event: dict[str, Any]) -> None:
        """Append the event to the lane; of a long lane's end only the place is kept."""
        if lane.beyond or len(lane.queue) >= LONGEST:
            lane.beyond.append((row, index))
        else:
            self._append(lane, Item(row, index, event, lane))

    async def wait_for_hunger(self) -> list[Lane]:
        """Return the lanes that want what lies beyond their queue, once there are some."""
        await self._hunger.wait()
        self._hunger.clear()
        lanes, self._hungry = list(self._hungry.values()), {}
        return lanes

    def feed(self, lane: Lane, row: Row, events: Sequence[Any]) -> None:
        """Move the row's places from beyond the lane's queue into it.

        ``events`` are the row's; a place that is not among them is lost, and counts as done.
        """
        while lane.beyond and lane.beyond[0][0] is row:
            _, index = lane.beyond.popleft()
            if index < len(events):
                self._append(lane, Item(row, index, events[index], lane))
            else:
                self._settle(lane, row, index, Outcome.DROPPED)

    def take_out(self, item: Item) -> None:
        """Remove the head of a lane that was run alone, unless it ended the lane."""
        if item.lane.closed:
            return
        if item.lane.queue[0] is not item:
            raise ValueError("only the head of a lane can be taken out")
        item.lane.queue.popleft()
        self.waiting -= 1

    @property
    def heads(self) -> list[Item]:
        """The first item of each lane that has one."""
        return [lane.queue[0] for lane in self._lanes.values() if lane.queue]

    def suspects(self) -> set[int]:
        """The consumers of whose first item nobody knows how far it came."""
        return {item.lane.number for item in self.heads if item.again}

    @property
    def beyond(self) -> int:
        """Items of all lanes of which only the place is known."""
        return sum(len(lane.beyond) for lane in self._lanes.values())

    async def run(self) -> None:
        """Handle items until cancelled."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            try:
                self._turn()
                await self._sweep()
            finally:
                self._group = None
                for lane in self._all:
                    if lane.task is not None:
                        lane.task.cancel()

    async def drain(self, limit: float) -> None:
        """Start nothing more, and give what is running ``limit`` seconds to end."""
        self._stopping = True
        for lane in self._all:
            lane.wake()
        try:
            async with asyncio.timeout(limit):
                while any(lane.current is not None for lane in self._all):
                    await asyncio.sleep(0.01)
        except TimeoutError:
            log.warning("items are cut off by the stop", extra={"event": "drain_timeout"})

    async def run_alone(self, item: Item, limit: float, group: asyncio.TaskGroup) -> bool:
        """Run a suspect with nothing beside it. True if it is finished (done or parked).

        ``group`` owns it, also if it will not be stopped: then it is left behind.
        """
        lane = item.lane
        if lane.closed:
            return True  # By what was run before it.
        lane.held = item
        try:
            tries = await self._failures.note_try(item.id, lane.consumer.name)
        except Forgotten as error:
            self._forget(lane, item, error)
            lane.held = None
            return True
        if tries > self._patience.tries:
            await self._park(lane, item, ParkReason.CRASHED, "handling it ended the whole program")
            lane.held = None
            return True
        item.again = True
        task = group.create_task(self._attempt(lane, item), name=lane.consumer.name)
        done, _ = await asyncio.wait({task}, timeout=min(limit, lane.consumer.deadline))
        if not done:
            task.cancel()
            done, _ = await asyncio.wait({task}, timeout=_STUBBORN)
        lane.held = None
        delay: float | None = 0.0
        if not done:
            tell_abandoned(lane.consumer.name)
            lane.generation += 1
            lane.current = None
        elif not task.cancelled():
            delay = task.result()
        if delay is not None and lane.closed:
            self._settle(lane, item.row, item.index, Outcome.DROPPED)
        if done:
            await self._failures.clear_try(item.id, lane.consumer.name)
        return delay is None or lane.closed

    # --- inside ---

    @property
    def _all(self) -> Sequence[Lane]:
        return (*self._lanes.values(), *self._closing)

    def _append(self, lane: Lane, item: Item) -> None:
        lane.queue.append(item)
        self.waiting += 1
        if not lane.ready and (lane.waiter is not None or not lane.running):
            lane.ready = True
            self._ready.append(lane)
            if not self._turning and self._group is not None:
                self._turning = True
                asyncio.get_running_loop().call_soon(self._turn)

    def set_going(self) -> None:
        """Set lanes going, but no more than a burst: then the loop looks after the homeserver.

        The loop's next turn does so anyway; this is for those who cannot wait for it.
        """
        ready, burst = self._ready, 0
        while ready and burst < _BURST and self._group is not None:
            lane = ready.popleft()
            lane.ready = False
            burst += len(lane.queue)
            if lane.waiter is not None:
                lane.wake()
            elif not lane.running:
                lane.running = True
                self._start(lane)

    def _turn(self) -> None:
        self.set_going()
        self._turning = bool(self._ready) and self._group is not None
        if self._turning:
            asyncio.get_running_loop().call_soon(self._turn)

    def _start(self, lane: Lane) -> None:
        assert self._group is not None  # noqa: S101 - only called while running
        lane.cancels = 0
        lane.task = self._group.create_task(
            self._run_lane(lane, lane.generation), name=lane.consumer.name
        )

    async def _run_lane(self, lane: Lane, generation: int) -> None:
        while lane.generation == generation and not self._stopping:
            if not lane.queue and not await self._linger(lane):
                break
            await self._run_queue(lane, generation)
        if lane.generation == generation:
            lane.running = False
            self._closing.discard(lane)

    async def _linger(self, lane: Lane) -> bool:
        """Wait for more: going on is cheaper than beginning anew. False once it is idle."""
        if lane.closed:
            return False
        lane.idle_since = monotonic()
        waiter = lane.waiter = asyncio.get_running_loop().create_future()
        try:
            await waiter
        finally:
            lane.waiter = None
        return bool(lane.queue)

    async def _run_queue(self, lane: Lane, generation: int) -> None:
        queue, popleft, handled = lane.queue, lane.queue.popleft, 0
        while queue and lane.generation == generation and not self._stopping:
            item = queue[0]
            delay = await self._attempt(lane, item)
            if lane.generation != generation:
                return  # It was given up while it ran; another task has the lane now.
            if delay is None:
                if queue and queue[0] is item:
                    popleft()
                    self.waiting -= 1
                self._ask_for_more(lane)
                handled += 1
                if handled % _BURST == 0:
                    await asyncio.sleep(0)
            elif lane.closed:
                self._settle(lane, item.row, item.index, Outcome.DROPPED)
            else:
                await asyncio.sleep(max(delay, LEAST_PAUSE))

    def _ask_for_more(self, lane: Lane) -> None:
        if lane.beyond and len(lane.queue) <= LONGEST // 2:
            self._hungry[lane.consumer.name] = lane
            self._hunger.set()

    async def _attempt(self, lane: Lane, item: Item) -> float | None:
        """Handle once. None: finished (done or parked); else seconds until the next try."""
        row, index, generation = item.row, item.index, lane.generation
        if item.landing is None:
            item.start()
        lane.current = item
        lane.since = monotonic()
        lane.expired = False
        failure: BaseException
        try:
            await lane.consumer.handle(item)
            await item.stored()
        except asyncio.CancelledError as error:
            if lane.is_stopped():
                raise
            failure = _TooLong("it took too long") if lane.expired else error
        except Exception as error:  # noqa: BLE001 - A module is a stranger; told apart below.
            failure = meant_by(error)
        else:
            failpoint("handled")
            if lane.generation == generation:
                lane.current = None
                lane.slot.finish()
                failpoint("finished")
                if row.shares:
                    row.finish_share(index, lane.number, item.outcome)
                else:
                    row.finish_event(index, item.outcome)
                if not row.touched:
                    self.marker.touch(row)
            return None
        if lane.generation != generation:
            return None  # It was given up long ago; what became of it is settled.
        lane.current, lane.held = None, item
        try:
            await item.stored()
            return await self._after(lane, item, failure)
        except NeverStored:
            return None
        finally:
            lane.held = None

    async def _after(self, lane: Lane, item: Item, failure: BaseException) -> float | None:
        """Do what the failure's class says."""
        match failure:
            case TemporaryFailure() | ModuleNotReady():
                if (over := self._failures.find_over(item.id)) is not None:
                    self._forget(lane, item, over)
                    return None
                if not item.again:  # Of an earlier try nobody knows how far it came.
                    lane.slot.withdraw()
                return self._patience.wait(failure, item.age)
            case Unsupported():
                await self._park(lane, item, ParkReason.UNSUPPORTED, str(failure))
                return None
            case PermanentFailure() | LoginRequired():
                await self._park(lane, item, ParkReason.REFUSED, str(failure))
                return None
            case DeliveryUncertain() if lane.consumer.holds:
                await self._park(lane, item, ParkReason.UNCERTAIN, str(failure))
                return None
            case DeliveryUncertain():
                item.again = True
                return await self._failed(lane, item, ParkReason.UNCERTAIN, str(failure))
            case _TooLong():
                item.again = True
                return await self._failed(lane, item, ParkReason.HUNG, str(failure))
        item.again = True
        log.error(
            "%s failed on an item", lane.consumer.name.partition(":")[0],
            exc_info=failure, extra={"event": "item_failed"},
        )  # fmt: skip
        detail = f"the module failed with {type(failure).__name__}"
        return await self._failed(lane, item, ParkReason.FAILED, detail)

    def _settle(self, lane: Lane, row: Row, index: int, outcome: Outcome) -> None:
        if not row.has_done(index, lane.number):  # Closed while it was settled, it is so already.
            row.finish_share(index, lane.number, outcome)
            self.marker.touch(row)

    async def _failed(
        self, lane: Lane, item: Item, reason: ParkReason, detail: str
    ) -> float | None:
        name = lane.consumer.name
        try:
            tries = await persistently(lambda: self._failures.note_try(item.id, name))
        except Forgotten as error:
            self._forget(lane, item, error)
            return None
        failpoint("tried")
        if tries >= self._patience.tries:
            await self._park(lane, item, reason, f"{detail}, {tries} times")
            return None
        return self._patience.first_delay * float(4 ** (tries - 1))

    async def _park(self, lane: Lane, item: Item, reason: ParkReason, detail: str) -> None:
        name = lane.consumer.name
        outcome = await park(item, name, reason, detail, self._failures, self._encode)
        if outcome is Outcome.PARKED:
            self._telemetry.parked.labels(reason=reason.value).inc()
        lane.slot.finish()
        self._settle(lane, item.row, item.index, outcome)
        if outcome is Outcome.PARKED:
            await tell(lane.consumer, item, reason, detail)

    def _forget(self, lane: Lane, item: Item, error: Forgotten) -> None:
        """Go on without an item that waited here for longer than anything is kept."""
        tell_forgotten(lane.consumer.name, error)
        lane.slot.finish()
        self._settle(lane, item.row, item.index, Outcome.DROPPED)

    async def _sweep(self) -> None:
        """Cancel what is past its deadline; leave behind what will not be cancelled."""
        while True:
            await asyncio.sleep(min(1.0, self._patience.first_delay))
            now = monotonic()
            passing = []
            for lane in self._all:
                if (item := lane.current) is None or item.is_landing:
                    if lane.waiter is not None and now - lane.idle_since > _IDLE:
                        lane.wake()
                    elif lane.passes and not lane.running and not lane.queue and not lane.beyond:
                        passing.append(lane)
                    continue
                late = now - lane.since - lane.consumer.deadline
                if late > 0 and not lane.expired and lane.task is not None:
                    lane.expired = True
                    lane.cancels += 1
                    lane.task.cancel()
                elif late > 5 and lane.expired:
                    self._abandon(lane)
            self._let_go(passing)

    def _let_go(self, lanes: Sequence[Lane]) -> None:
        """Forget lanes with nothing in them, and the slots of those that are over."""
        for lane in lanes:
            del self._lanes[lane.consumer.name]
            self._inflight.vacate(lane.number)
        if self._inflight.vacated:
            busy = {lane.number for lane in self._closing}
            self._inflight.release(self.marker.unwritten(), busy)

    def _abandon(self, lane: Lane) -> None:
        """Its task swallows the cancellation: the lane goes on without it."""
        item = lane.current
        tell_abandoned(lane.consumer.name)
        lane.generation += 1
        lane.current = None
        lane.cancels = 0
        if item is not None and self._group is not None:
            lane.task = self._group.create_task(self._give_up(lane, item, lane.generation))

    async def _give_up(self, lane: Lane, item: Item, generation: int) -> None:
        lane.held = item
        try:
            delay = await self._failed(lane, item, ParkReason.HUNG, "it would not stop")
        finally:
            lane.held = None
        if delay is None:
            if lane.queue and lane.queue[0] is item:
                lane.queue.popleft()
                self.waiting -= 1
        elif lane.closed:
            self._settle(lane, item.row, item.index, Outcome.DROPPED)
        else:
            await asyncio.sleep(delay)
        await self._run_lane(lane, generation)
