"""One lane: what is waiting for one consumer, in order."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Iterator
from datetime import date
from time import monotonic
from typing import Any, Protocol

from bridge.core.lanes.inflight import Slot, consumer_number
from bridge.core.lanes.landing import Landing
from bridge.core.lanes.progress import Row, item_of
from bridge.failpoint import failpoint
from bridge.model import ItemId, Outcome, ParkReason

_DELIVERED = Outcome.DELIVERED
LONGEST = 1000
"""Items that a lane holds in memory; of what comes after them it knows only the places."""


class Item:
    """One event in one lane."""

    __slots__ = ("again", "event", "index", "landing", "lane", "laned_at", "outcome", "row")

    def __init__(
        self, row: Row, index: int, event: dict[str, Any], lane: "Lane",
        landing: Landing | None = None,
    ) -> None:  # fmt: skip
        self.row = row
        self.index = index
        self.event = event
        self.lane = lane
        self.again = False
        """It ran before, and how far it came is not known."""
        self.landing = landing
        """Its row is not known to be safe yet: see :meth:`stored`."""
        self.laned_at = monotonic()
        self.outcome = _DELIVERED

    @property
    def id(self) -> ItemId:
        """The item's id, as in the journal."""
        return item_of(self.row, self.index)

    @property
    def age(self) -> float:
        """For how many seconds it has been with us."""
        return monotonic() - self.row.landed_at

    def start(self) -> None:
        """Note that the lane is about to act on it."""
        self.lane.slot.start(self.row.ordinal, self.row.id[1], self.index)
        failpoint("started")

    @property
    def is_landing(self) -> bool:
        """Whether its row is just being stored."""
        return self.landing is not None and not self.landing.is_over

    async def stored(self) -> None:
        """Return once its row is safe: nothing that shows may be done for it before.

        Raises ``NeverStored`` if it is never to be.
        """
        if self.landing is not None:
            await self.landing.wait()
            self.row.landed_at = self.laned_at = self.landing.ended_at
            self.landing = None
            # Its time to be handled in begins only now.
            self.lane.since = monotonic()
            self.start()

    def drop(self) -> None:
        """Note that a rule leaves it out."""
        self.outcome = Outcome.DROPPED

    def delivered(self) -> None:
        """Note at once that the effect is out, before anything else is awaited."""
        if self.lane.current is self:
            self.lane.slot.finish()


class Consumer(Protocol):
    """Who handles the items of one lane."""

    name: str
    """Stable over restarts: ``portal:12``, ``bot:dice``."""
    deadline: float
    """Seconds after which handling one item is cancelled."""

    @property
    def holds(self) -> bool:
        """Whether what may have been sent is put aside rather than sent again."""
        ...

    def handle(self, item: Item) -> Awaitable[None]: ...
    async def parked(self, item: Item, reason: ParkReason, detail: str) -> None: ...


class Lane:
    """A queue of items for one consumer, and the task that works on it."""

    __slots__ = (
        "beyond", "cancels", "closed", "consumer", "current", "expired", "generation", "held",
        "idle_since", "number", "passes", "queue", "ready", "running", "since", "slot", "task",
        "waiter",
    )  # fmt: skip

    def __init__(self, consumer: Consumer, slot: Slot) -> None:
        self.consumer = consumer
        self.slot = slot
        self.number = consumer_number(consumer.name)
        self.queue: deque[Item] = deque()
        self.beyond: deque[tuple[Row, int]] = deque()
        """What waits behind the queue: (row, place), read from the journal when its turn nears.

        It has no bound. A place costs 64 bytes, and the row of its transaction, which all of its
        places share, some 420.
        """
        self.ready = False
        """It waits for its turn to be set going."""
        self.running = False
        self.current: Item | None = None
        """The item that its consumer has now."""
        self.held: Item | None = None
        """The item that failed, while it is noted what becomes of it."""
        self.since = 0.0
        self.expired = False
        self.cancels = 0
        """How often its task was cancelled for a deadline and does not know yet."""
        self.closed = False
        """Nothing comes into it any more, and what fails in it is not tried again."""
        self.passes = False
        """It is let go once nothing has been in it for a while."""
        self.generation = 0
        self.task: asyncio.Task[None] | None = None
        self.waiter: asyncio.Future[None] | None = None
        self.idle_since = 0.0

    def __len__(self) -> int:
        """How many items wait in it, the current one included."""
        return len(self.queue) + len(self.beyond)

    def __bool__(self) -> bool:
        return True

    @property
    def is_at_rest(self) -> bool:
        """Whether nothing is in it, and its consumer has nothing in hand."""
        return not (self.queue or self.beyond or self.current or self.held or self.closed)

    def places(self) -> Iterator[tuple[Row, int]]:
        """What waits in it, in order: rows and places in them."""
        for item in self.queue:
            yield item.row, item.index
        yield from self.beyond

    def take(self, day: date | None = None) -> list[tuple[Row, int]]:
        """Take out what waits, of one day or all, except what is in hand; give the places."""
        in_hand = self.current or self.held
        taken: list[tuple[Row, int]] = []
        kept: list[Item] = []
        beyond: list[tuple[Row, int]] = []
        for item in self.queue:
            if item is in_hand or day not in {None, item.row.id.day}:
                kept.append(item)
                continue
            taken.append((item.row, item.index))
            if item.again:  # However far it came, nobody looks after it any more.
                self.slot.finish()
        for place in self.beyond:
            (taken if day in {None, place[0].id.day} else beyond).append(place)
        # The deques stay the same: a task works on them.
        self.queue.clear()
        self.queue.extend(kept)
        self.beyond.clear()
        self.beyond.extend(beyond)
        return taken

    def wake(self) -> None:
        """Let a task that waits for more go on."""
        waiter, self.waiter = self.waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def is_stopped(self) -> bool:
        """Whether it is the whole task that was cancelled just now, and not the item in it.

        Call once where a cancellation comes out of an item; what the sweep did is undone then.
        """
        task = asyncio.current_task()
        # A task that was left behind, or that runs a suspect, is nobody's but its own.
        if task is None or task is not self.task or task.cancelling() > self.cancels:
            return True
        if self.expired:
            task.uncancel()
            self.cancels -= 1
        return False
