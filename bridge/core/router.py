"""Lanes: strictly one item after another inside a lane, lanes side by side.

A slow, hanging or crashing consumer delays its own lanes only. What happens to a failing item
is said by the class of its error (DESIGN 5).
"""

import asyncio
import logging
import random
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from time import monotonic
from typing import Any, Protocol, TypeVar

from bridge.core.inflight import InFlight, consumer_number
from bridge.core.lane import LONGEST, Consumer, Item, Lane
from bridge.core.progress import Marker, Row
from bridge.failpoint import failpoint
from bridge.model import ItemId, Outcome, ParkReason
from bridge.sdk.errors import (
    DeliveryUncertain,
    LoginRequired,
    ModuleNotReady,
    PermanentFailure,
    TemporaryFailure,
    Unsupported,
)
from bridge.telemetry import Telemetry

log = logging.getLogger(__name__)

_T = TypeVar("_T")

_IDLE = 2.0
"""Seconds after which a lane with nothing to do gives up its task."""

_STUBBORN = 2.0
"""Seconds that a suspect has to end when it is told to."""

_BURST = 10
"""Items that all lanes together handle before the loop looks after the homeserver again."""


class _TooLong(Exception):
    """Handling was cancelled at the consumer's deadline."""


class Failures(Protocol):
    """Where tries and parked items are kept (the journal's items)."""

    async def note_try(self, item: ItemId, consumer: str) -> int: ...
    async def clear_try(self, item: ItemId, consumer: str) -> None: ...
    async def park(
        self, item: ItemId, consumer: str, reason: ParkReason, detail: str, event: bytes
    ) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long and how often."""

    tries: int = 3
    first_delay: float = 0.2
    longest_delay: float = 60.0


class Router:
    """Runs the lanes. Give it items by :meth:`push`; run it in a task of its own."""

    def __init__(
        self,
        inflight: InFlight,
        failures: Failures,
        telemetry: Telemetry,
        *,
        encode: Callable[[Any], bytes],
        patience: Patience | None = None,
    ) -> None:
        self._inflight = inflight
        self._failures = failures
        self._telemetry = telemetry
        self._encode = encode
        self._patience = patience or Patience()
        self._lanes: dict[str, Lane] = {}
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

    def set_tries(self, tries: int) -> None:
        """Park from now on what failed so often."""
        self._patience = replace(self._patience, tries=tries)

    def close_lane(self, name: str) -> None:
        """Let the lane end; what is still in it counts as done."""
        lane = self._lanes.pop(name, None)
        if lane is None:
            return
        for item in lane.queue:
            self.waiting -= 1
            if item is not lane.current:
                self._settle(lane, item.row, item.index, Outcome.DROPPED)
        lane.queue.clear()
        for row, index in lane.beyond:
            self._settle(lane, row, index, Outcome.DROPPED)
        lane.beyond.clear()
        lane.wake()

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
        """Remove the head of a lane that was run alone."""
        if item.lane.queue[0] is not item:
            raise ValueError("only the head of a lane can be taken out")
        item.lane.queue.popleft()
        self.waiting -= 1

    def suspects(self) -> set[int]:
        """The consumers of whose first item nobody knows how far it came."""
        lanes = self._lanes.values()
        return {lane.number for lane in lanes if lane.queue and lane.queue[0].again}

    def oldest(self) -> float | None:
        """When the oldest unfinished item landed (loop time), None if there is none."""
        heads = [lane.queue[0].row.landed_at for lane in self._lanes.values() if lane.queue]
        return min(heads, default=None)

    def oldest_of_each(self) -> dict[str, float]:
        """For how many seconds the first item of each lane has been with us."""
        now = asyncio.get_running_loop().time()
        return {
            name: now - lane.queue[0].row.landed_at
            for name, lane in self._lanes.items()
            if lane.queue
        }

    async def run(self) -> None:
        """Handle items until cancelled."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            try:
                self._turn()
                await self._sweep()
            finally:
                self._group = None
                for lane in self._lanes.values():
                    if lane.task is not None:
                        lane.task.cancel()

    async def drain(self, limit: float) -> None:
        """Start nothing more, and give what is running ``limit`` seconds to end."""
        self._stopping = True
        for lane in self._lanes.values():
            lane.wake()
        try:
            async with asyncio.timeout(limit):
                while any(lane.current is not None for lane in self._lanes.values()):
                    await asyncio.sleep(0.01)
        except TimeoutError:
            log.warning("items are cut off by the stop", extra={"event": "drain_timeout"})

    async def run_alone(self, item: Item, limit: float, group: asyncio.TaskGroup) -> bool:
        """Run a suspect with nothing beside it. True if it is finished (done or parked).

        ``group`` owns it, also if it will not be stopped: then it is left behind.
        """
        lane = item.lane
        tries = await self._failures.note_try(item.id, lane.consumer.name)
        if tries > self._patience.tries:
            await self._park(lane, item, ParkReason.CRASHED, "handling it ended the whole program")
            return True
        item.again = True
        task = group.create_task(self._attempt(lane, item), name=lane.consumer.name)
        done, _ = await asyncio.wait({task}, timeout=min(limit, lane.consumer.deadline))
        if not done:
            task.cancel()
            done, _ = await asyncio.wait({task}, timeout=_STUBBORN)
        if not done:
            log.error(
                "a %s cannot be stopped", lane.consumer.name.partition(":")[0],
                extra={"event": "item_abandoned"},
            )  # fmt: skip
            lane.generation += 1
            lane.current = None
            return False
        delay = 0.0 if task.cancelled() else task.result()
        await self._failures.clear_try(item.id, lane.consumer.name)
        return delay is None

    # --- inside ---

    def _append(self, lane: Lane, item: Item) -> None:
        lane.queue.append(item)
        self.waiting += 1
        if not lane.ready and (lane.waiter is not None or not lane.running):
            lane.ready = True
            self._ready.append(lane)
            if not self._turning and self._group is not None:
                self._turning = True
                asyncio.get_running_loop().call_soon(self._turn)

    def _turn(self) -> None:
        """Set lanes going, but no more than a burst: then the loop looks after the homeserver."""
        ready, burst = self._ready, 0
        if self._group is None:
            return
        while ready and burst < _BURST:
            lane = ready.popleft()
            lane.ready = False
            burst += len(lane.queue)
            if lane.waiter is not None:
                lane.wake()
            elif not lane.running:
                lane.running = True
                self._start(lane)
        self._turning = bool(ready)
        if ready:
            asyncio.get_running_loop().call_soon(self._turn)

    def _start(self, lane: Lane) -> None:
        assert self._group is not None  # noqa: S101 - only called while running
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

    async def _linger(self, lane: Lane) -> bool:
        """Wait for more: going on is cheaper than beginning anew. False once it is idle."""
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
                if lane.beyond and len(queue) <= LONGEST // 2:
                    self._hungry[lane.consumer.name] = lane
                    self._hunger.set()
                handled += 1
                if handled % _BURST == 0:
                    await asyncio.sleep(0)
            elif not queue or queue[0] is not item:
                # The lane was closed meanwhile: this is not tried again.
                self._settle(lane, item.row, item.index, Outcome.DROPPED)
            elif delay > 0:
                await asyncio.sleep(delay)

    async def _attempt(self, lane: Lane, item: Item) -> float | None:
        """Handle once. None: finished (done or parked); else seconds until the next try."""
        row, index, generation = item.row, item.index, lane.generation
        lane.slot.start(row.ordinal, row.id[1], index)
        lane.current = item
        lane.since = monotonic()
        lane.expired = False
        failure: Exception
        failpoint("started")
        try:
            await lane.consumer.handle(item)
        except asyncio.CancelledError:
            if not lane.expired:
                raise
            task = asyncio.current_task()
            if task is not None:
                task.uncancel()
            failure = _TooLong("it took too long")
        except Exception as error:  # noqa: BLE001 - A module is a stranger; told apart below.
            failure = error
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
        lane.current = None
        return await self._after(lane, item, failure)

    async def _after(self, lane: Lane, item: Item, failure: Exception) -> float | None:
        """Do what the failure's class says."""
        match failure:
            case TemporaryFailure() | ModuleNotReady():
                if not item.again:  # Of an earlier try nobody knows how far it came.
                    lane.slot.withdraw()
                return self._later(item, failure)
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
        row.finish_share(index, lane.number, outcome)
        self.marker.touch(row)

    def _later(self, item: Item, failure: Exception) -> float:
        advice = getattr(failure, "retry_after", None)
        if advice is not None:
            return float(advice)
        # Without advice from the network: the older the item, the longer the next wait.
        age = asyncio.get_running_loop().time() - item.row.landed_at
        wait = min(max(0.5, age / 2), self._patience.longest_delay)
        return wait * random.uniform(0.8, 1.2)  # noqa: S311 - jitter, not a secret

    async def _failed(
        self, lane: Lane, item: Item, reason: ParkReason, detail: str
    ) -> float | None:
        tries = await self._persistently(
            lambda: self._failures.note_try(item.id, lane.consumer.name)
        )
        failpoint("tried")
        if tries >= self._patience.tries:
            await self._park(lane, item, reason, f"{detail}, {tries} times")
            return None
        return self._patience.first_delay * float(4 ** (tries - 1))

    async def _park(self, lane: Lane, item: Item, reason: ParkReason, detail: str) -> None:
        name = lane.consumer.name
        event = self._encode(item.event)
        await self._persistently(lambda: self._failures.park(item.id, name, reason, detail, event))
        failpoint("parked")
        self._telemetry.parked.labels(reason=reason.value).inc()
        log.warning(
            "an item of a %s is parked: %s",
            name.partition(":")[0],
            reason.value,
            extra={"event": "item_parked"},
        )
        lane.slot.finish()
        self._settle(lane, item.row, item.index, Outcome.PARKED)
        try:
            async with asyncio.timeout(10):
                await lane.consumer.parked(item, reason, detail)
        except (TimeoutError, TemporaryFailure, PermanentFailure) as error:
            log.warning("the sender was not told: %s", error, extra={"event": "sender_not_told"})

    async def _persistently(self, action: Callable[[], Awaitable[_T]]) -> _T:
        while True:
            try:
                return await action()
            except TemporaryFailure:  # The database is away; the lane can only wait for it.
                await asyncio.sleep(1)

    async def _sweep(self) -> None:
        """Cancel what is past its deadline; leave behind what will not be cancelled."""
        while True:
            await asyncio.sleep(min(1.0, self._patience.first_delay))
            now = monotonic()
            for lane in list(self._lanes.values()):
                if lane.current is None:
                    if lane.waiter is not None and now - lane.idle_since > _IDLE:
                        lane.wake()
                    continue
                late = now - lane.since - lane.consumer.deadline
                if late > 0 and not lane.expired and lane.task is not None:
                    lane.expired = True
                    lane.task.cancel()
                elif late > 5 and lane.expired:
                    self._abandon(lane)

    def _abandon(self, lane: Lane) -> None:
        """Its task swallows the cancellation: the lane goes on without it."""
        item = lane.current
        log.error(
            "a %s cannot be stopped", lane.consumer.name.partition(":")[0],
            extra={"event": "item_abandoned"},
        )  # fmt: skip
        lane.generation += 1
        lane.current = None
        if item is not None and self._group is not None:
            lane.task = self._group.create_task(self._give_up(lane, item, lane.generation))

    async def _give_up(self, lane: Lane, item: Item, generation: int) -> None:
        delay = await self._failed(lane, item, ParkReason.HUNG, "it would not stop")
        if delay is None:
            if lane.queue and lane.queue[0] is item:
                lane.queue.popleft()
                self.waiting -= 1
        else:
            await asyncio.sleep(delay)
        await self._run_lane(lane, generation)
