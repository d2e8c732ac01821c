"""Rooms that lack something of their chats, since the homeserver did not answer, catch up."""

import asyncio
import logging
import random
from typing import Protocol
from weakref import WeakSet

from bridge.core.lanes.patience import asked_for
from bridge.sdk.errors import TrestleError

log = logging.getLogger(__name__)

FIRST_SECONDS, LONGEST_SECONDS = 0.5, 20.0
"""From one try for a room to the next: doubled with each that fails."""
_AT_ONCE = 10
"""Tries side by side: one that hangs holds up no other."""


class Behind(Protocol):
    """Something of a room that waits for the homeserver's word."""

    async def catch_up(self) -> None:
        """Bring into the room all that it lacks. Nothing more is known to lack after that.

        Raises a ``TrestleError`` when it cannot be just now.
        """
        ...


class CatchingUp:
    """All of them, each by itself: a room that always fails holds up no other.

    Kept in memory: what a chat is, and who is there, is told anew by the network after a restart.
    """

    def __init__(self, first: float = FIRST_SECONDS, longest: float = LONGEST_SECONDS) -> None:
        """``first``, ``longest``: seconds between two tries."""
        self._first = first
        self._longest = longest
        self._behind: set[Behind] = set()
        self._tries: dict[Behind, asyncio.Task[None]] = {}
        self._gone: WeakSet[Behind] = WeakSet()
        self._slots = asyncio.Semaphore(_AT_ONCE)
        self._group: asyncio.TaskGroup | None = None

    def want(self, one: Behind) -> None:
        """A room lacks something: try until it does not, or is forgotten."""
        if one not in self._behind and one not in self._gone:
            self._behind.add(one)
            self._start(one)

    def forget(self, *gone: Behind) -> None:
        """Stop trying, and break off any try under way: the room is the chat's no longer."""
        self._behind.difference_update(gone)
        self._gone.update(gone)
        for one in gone:
            if (task := self._tries.pop(one, None)) is not None:
                task.cancel()

    async def run(self) -> None:
        """Make good until cancelled."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            try:
                for one in self._behind:
                    self._start(one)
                await asyncio.Event().wait()
            finally:
                self._group = None
                self._tries.clear()

    def _start(self, one: Behind) -> None:
        if self._group is not None:
            self._tries[one] = self._group.create_task(self._try(one), name="catching up")

    async def _try(self, one: Behind) -> None:
        pause = self._first
        while True:
            await asyncio.sleep(pause * random.uniform(0.8, 1.2))  # noqa: S311 - jitter
            pause = min(2 * pause, self._longest)
            try:
                async with self._slots:
                    await one.catch_up()
            except TrestleError as error:
                # Whoever wanted it has said so in the log, once.
                pause = max(pause, asked_for(error))
            except Exception:
                # What nobody foresaw is this room's trouble, and no other's.
                log.exception("a room does not catch up", extra={"event": "room_behind"})
                pause = self._longest
            else:
                self._behind.discard(one)
                self._tries.pop(one, None)
                return
