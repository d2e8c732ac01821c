"""From the outbox into Matrix: one lane a room, in order, each entry until it is there."""

import asyncio
import logging
import random
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Protocol

from bridge.failpoint import failpoint
from bridge.model import Clock, Outgoing, ParkReason, QueuedOutgoing, SendKind
from bridge.sdk.errors import PermanentFailure, TemporaryFailure
from bridge.sdk.ids import EventId, RoomId
from bridge.telemetry import Telemetry

log = logging.getLogger(__name__)

_AT_ONCE = 32
"""Requests to the homeserver side by side."""


class Outbox(Protocol):
    """The part of the storage that keeps what must go out."""

    async def add(self, outgoing: Sequence[Outgoing]) -> list[QueuedOutgoing]: ...
    async def finish(self, done: Sequence[tuple[QueuedOutgoing, EventId | None]]) -> None: ...
    async def park(self, queued: QueuedOutgoing, reason: ParkReason, detail: str) -> None: ...
    def unfinished(self) -> AsyncIterator[QueuedOutgoing]: ...


class Intents(Protocol):
    """The part of the homeserver side that acts as one of our users."""

    async def send(self, outgoing: Outgoing) -> EventId | None: ...


class Sender:
    """Stores what must go out, and sends it."""

    def __init__(
        self,
        outbox: Outbox,
        intents: Intents,
        telemetry: Telemetry,
        clock: Clock,
        *,
        is_encrypted: Callable[[RoomId], bool],
    ) -> None:
        self._outbox = outbox
        self._intents = intents
        self._telemetry = telemetry
        self._clock = clock
        self._is_encrypted = is_encrypted
        self._lanes: dict[RoomId, deque[QueuedOutgoing]] = {}
        self._group: asyncio.TaskGroup | None = None
        self._slots = asyncio.Semaphore(_AT_ONCE)
        self._finished: list[tuple[QueuedOutgoing, EventId | None]] = []
        self._finish_wanted = asyncio.Event()
        self._away = False

    @property
    def waiting(self) -> int:
        """Entries not sent yet."""
        return sum(map(len, self._lanes.values()))

    async def put(self, outgoing: Sequence[Outgoing]) -> None:
        """Store the entries; they go out from now on and cannot be lost.

        Raises ``TemporaryFailure`` when the database is away; then nothing is stored.
        """
        if not outgoing:
            return
        stored = await self._outbox.add(outgoing)
        failpoint("queued")
        for queued in stored:
            self._push(queued)

    def take_up(self, queued: QueuedOutgoing) -> None:
        """Send an entry that was parked."""
        self._push(queued)

    async def load(self) -> None:
        """Take up what the last process left. Call once, before anything is put."""
        async for queued in self._outbox.unfinished():
            self._push(queued)

    async def run(self) -> None:
        """Send until cancelled."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            try:
                for room in self._lanes:
                    group.create_task(self._run_lane(room), name="sender")
                await self._keep_finishing()
            finally:
                self._group = None

    def _push(self, queued: QueuedOutgoing) -> None:
        room = queued.outgoing.room
        lane = self._lanes.get(room)
        if lane is not None:
            lane.append(queued)
            return
        self._lanes[room] = deque([queued])
        if self._group is not None:
            self._group.create_task(self._run_lane(room), name="sender")

    async def _run_lane(self, room: RoomId) -> None:
        lane = self._lanes[room]
        tries = 0
        while lane:
            delay = await self._attempt(lane[0], tries)
            if delay is None:
                lane.popleft()
                tries = 0
            else:
                tries += 1
                await asyncio.sleep(delay)
        del self._lanes[room]

    async def _attempt(self, queued: QueuedOutgoing, tries: int) -> float | None:
        outgoing = queued.outgoing
        sends = self._telemetry.sends
        if self._must_not_be_clear(outgoing):
            await self._park(queued, ParkReason.NO_KEY, "the room is encrypted")
            return None
        try:
            async with self._slots:
                failpoint("sending")
                event_id = await self._intents.send(outgoing)
        except TemporaryFailure as error:
            sends.labels(direction="to_matrix", outcome="retried").inc()
            self._note_up(False, error)
            if error.retry_after is not None:
                return error.retry_after
            return float(min(0.5 * 2**tries, 60) * random.uniform(0.8, 1.2))  # noqa: S311
        except PermanentFailure as error:
            await self._park(queued, ParkReason.REFUSED, str(error))
            return None
        failpoint("sent")
        self._note_up(True, None)
        sends.labels(direction="to_matrix", outcome="sent").inc()
        if outgoing.kind is SendKind.EVENT and outgoing.portal is not None:
            seconds = (self._clock.now() - queued.received_at).total_seconds()
            self._telemetry.end_to_end_seconds.labels(direction="to_matrix").observe(seconds)
        self._finished.append((queued, event_id))
        self._finish_wanted.set()
        return None

    def _must_not_be_clear(self, outgoing: Outgoing) -> bool:
        return outgoing.kind is SendKind.EVENT and self._is_encrypted(outgoing.room)

    async def _park(self, queued: QueuedOutgoing, reason: ParkReason, detail: str) -> None:
        log.warning("not sent into Matrix: %s", detail, extra={"event": "send_parked"})
        self._telemetry.sends.labels(direction="to_matrix", outcome="parked").inc()
        self._telemetry.parked.labels(reason=reason.value).inc()
        while True:
            try:
                return await self._outbox.park(queued, reason, detail)
            except TemporaryFailure:
                await asyncio.sleep(1)

    def _note_up(self, up: bool, error: Exception | None) -> None:
        self._telemetry.homeserver_up.set(up)
        if error is not None and not self._away:
            log.warning("the homeserver does not take it: %s", error, extra={"event": "hs_away"})
        if up and self._away:
            log.info("the homeserver takes events again", extra={"event": "hs_back"})
        self._away = not up

    async def _keep_finishing(self) -> None:
        try:
            while True:
                await self._finish_wanted.wait()
                await self._finish()
        finally:
            async with asyncio.timeout(5):
                await self._finish()

    async def _finish(self) -> None:
        self._finish_wanted.clear()
        batch, self._finished = self._finished, []
        if not batch:
            return
        try:
            await self._outbox.finish(batch)
            failpoint("settled")
        except TemporaryFailure:
            self._finished = batch + self._finished
            self._finish_wanted.set()
            await asyncio.sleep(0.5)
