"""Rooms on their way into, or out of, the lists of their networks: beside what is said in them."""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from datetime import timedelta

from bridge.core.roomlane import Pause
from bridge.model import Clock, QueuedOutgoing
from bridge.sdk.errors import TemporaryFailure
from bridge.sdk.ids import RoomId

log = logging.getLogger(__name__)


class Listings:
    """One lane a room, in which only the newest entry counts.

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
        """After which an entry is given up: of the room's next change another comes."""
        self.waiting: dict[RoomId, deque[QueuedOutgoing]] = {}
        self.on_given_up: Callable[[RoomId], None] = lambda room: None

    def take(self, queued: QueuedOutgoing, group: asyncio.TaskGroup) -> None:
        """Have it done by a task of the group."""
        room = queued.outgoing.room
        if room in self.waiting:
            self.waiting[room].append(queued)
        else:
            self.waiting[room] = deque([queued])
            group.create_task(self._run(room), name="listing")

    async def _run(self, room: RoomId) -> None:
        queue, tries = self.waiting[room], 0
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
        del self.waiting[room]

    async def _drop(self, queued: QueuedOutgoing) -> Pause | None:
        try:
            await self._leave_out(queued)
        except TemporaryFailure:
            return Pause(1)
        return None
