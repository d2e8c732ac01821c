"""Rooms on their way into, or out of, the lists of their networks: beside what is said in them."""

import asyncio
import logging
from collections import Counter, deque
from collections.abc import Awaitable, Callable
from datetime import timedelta

from bridge.core.outbox.roomlane import Pause
from bridge.model import Clock, QueuedOutgoing
from bridge.sdk.errors import TemporaryFailure
from bridge.sdk.ids import InstanceId, RoomId

log = logging.getLogger(__name__)


class Listings:
    """One lane a room and network, in which only the newest entry counts.

    A list that the homeserver does not keep must hold up no message.
    """

    def __init__(
        self,
        attempt: Callable[[QueuedOutgoing, int], Awaitable[Pause | None]],
        leave_out: Callable[[QueuedOutgoing], Awaitable[None]],
        clock: Clock,
    ) -> None:
        """``attempt`` gives None when it is settled, else how long until the next try;
        ``leave_out`` raises ``TemporaryFailure``."""
        self._attempt = attempt
        self._leave_out = leave_out
        self._clock = clock
        self.patience = timedelta(hours=1)
        """After which an entry is given up: the room's next change brings another."""
        self._waiting: dict[tuple[RoomId, InstanceId], deque[QueuedOutgoing]] = {}
        self.on_given_up: Callable[[RoomId], None] = lambda room: None

    def waiting(self) -> Counter[RoomId]:
        """By room, how many entries wait."""
        found = Counter[RoomId]()
        for (room, _), queue in self._waiting.items():
            found[room] += len(queue)
        return found

    def take(self, queued: QueuedOutgoing, group: asyncio.TaskGroup) -> None:
        """Have it done by a task of the group."""
        outgoing = queued.outgoing
        place = outgoing.room, InstanceId(outgoing.content["instance"])
        if place in self._waiting:
            self._waiting[place].append(queued)
        else:
            self._waiting[place] = deque([queued])
            group.create_task(self._run(place), name="listing")

    async def _run(self, place: tuple[RoomId, InstanceId]) -> None:
        queue, tries, room = self._waiting[place], 0, place[0]
        while queue:
            queued = queue[0]
            if len(queue) > 1:
                pause, tries = await self._drop(queued), 0
            else:
                pause = await self._attempt(queued, tries)
                tries += 1
                if pause is not None and self._clock.now() - queued.received_at > self.patience:
                    log.warning(
                        "%s is not put into, or taken out of, its network's list: "
                        "the homeserver fails at it", room,
                        extra={"event": "listing_given_up"},
                    )  # fmt: skip
                    pause = await self._drop(queued)
                    self.on_given_up(room)
            if pause is None:
                queue.popleft()
            else:
                await asyncio.sleep(pause.seconds)
        del self._waiting[place]

    async def _drop(self, queued: QueuedOutgoing) -> Pause | None:
        try:
            await self._leave_out(queued)
        except TemporaryFailure:
            return Pause(1)
        return None
