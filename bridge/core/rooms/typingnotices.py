"""Who is writing, both ways: best effort, kept nowhere, and never in the way of messages."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

from bridge.core.lanes.cancellation import Work
from bridge.matrix.cache import Recent
from bridge.matrix.client import MatrixError
from bridge.sdk.errors import TrestleError
from bridge.sdk.ids import RoomId, UserId

log = logging.getLogger(__name__)

_AT_ONCE = 50
"""While so much is under way, what else comes is left out."""
_SECONDS = 5.0
_AGAIN = 2.0
"""Whoever is shown as writing is not shown again within so many seconds."""

SetTyping = Callable[[RoomId, UserId, float], Awaitable[None]]
"""Shows in a room that one of our users is writing, for so many seconds."""
OnTyping = Callable[[RoomId, UserId, bool], Sequence[Work]]
"""Gives what is to be done when somebody in a room begins to write, or ceases to."""


class TypingNotices:
    """Hands them on while :meth:`run` runs."""

    def __init__(self, set_typing: SetTyping) -> None:
        self._set_typing = set_typing
        self.on_typing: OnTyping = lambda room, user, is_typing: ()
        self._group: asyncio.TaskGroup | None = None
        self._under_way = 0
        self._in_room: Recent[RoomId, frozenset[UserId]] = Recent(5000)
        self._shown: Recent[tuple[RoomId, UserId], float] = Recent(5000)

    async def run(self) -> None:
        """Hand on until cancelled."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            try:
                await asyncio.Event().wait()
            finally:
                self._group = None

    def hear(self, room: RoomId, users: Sequence[UserId]) -> None:
        """Take note of all who are writing in a room, as the homeserver tells."""
        now, before = frozenset(users), self._in_room.get(room) or frozenset()
        self._in_room.put(room, now)
        for user in before ^ now:
            for work in self.on_typing(room, user, user in now):
                self._start(work)

    def show(self, room: RoomId, ghost: UserId, seconds: float) -> None:
        """Show in the room that a ghost is writing; with zero seconds that it ceased to."""
        now, shown = asyncio.get_running_loop().time(), self._shown.get((room, ghost))
        if shown is None and not seconds:
            return
        if shown is not None and seconds and now - shown < _AGAIN:
            return
        self._shown.drop((room, ghost))
        if seconds:
            self._shown.put((room, ghost), now)
        self._start(partial(self._set_typing, room, ghost, seconds))

    def _start(self, work: Work) -> None:
        if self._group is None or self._under_way >= _AT_ONCE:
            return
        self._under_way += 1
        self._group.create_task(self._do(work), name="typing")

    async def _do(self, work: Work) -> None:
        try:
            async with asyncio.timeout(_SECONDS):
                await work()
        except (TrestleError, MatrixError, TimeoutError) as error:
            log.debug("typing is not shown: %s", error, extra={"event": "typing_not_shown"})
        except Exception:  # A module is a stranger; its crash is ours to outlive.
            log.exception("typing is not shown", extra={"event": "typing_failed"})
        finally:
            self._under_way -= 1
