"""What was put aside, in the hands of people: seen, tried again, let go."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from datetime import date
from typing import Any

from bridge.core.outbox.sender import Sender
from bridge.core.oversight.byhand import HERE, Choice, Step, drop_each
from bridge.jsontext import decode
from bridge.model import AuditAction, QueuedOutgoing
from bridge.sdk.errors import PermanentFailure, TemporaryFailure
from bridge.sdk.ids import InstanceId, RoomId, UserId
from bridge.storage.audit import Audit
from bridge.storage.shelf import Parked, Shelf
from bridge.storage.timers import InstanceTimers


class Aside:
    """What people can do with what was put aside; a room's admins, with what is of their room."""

    def __init__(
        self,
        shelf: Shelf,
        sender: Sender,
        timers: Mapping[InstanceId, InstanceTimers],
        audit: Audit,
        *,
        take_again: Callable[[str, dict[str, Any], str, date], Awaitable[None]],
        take_back: Callable[[date, int], Awaitable[QueuedOutgoing | None]],
    ) -> None:
        self._shelf = shelf
        self._sender = sender
        self._timers = timers
        self._audit = audit
        self._take_again = take_again
        self._take_back = take_back
        self._one_at_a_time = asyncio.Lock()
        """Two who try the same one again at the same moment would have it run twice."""
        self.on_change: Callable[[], Awaitable[None]] = _nothing
        """Called when one was let go, or runs again."""

    async def all(self, room: RoomId | None = None) -> Sequence[Parked]:
        """What is parked, the oldest first."""
        return await self._shelf.all(room)

    async def get(self, name: str, room: RoomId | None = None) -> Parked:
        """The one of that name. Raises ``PermanentFailure`` if there is none."""
        return await self._shelf.get(name, room)

    async def drop(self, name: str, room: RoomId | None = None, *, by: UserId = HERE) -> Parked:
        """Let it go for good. Raises ``PermanentFailure`` if there is none."""
        parked = await self.get(name, room)
        async with self._one_at_a_time:
            if not await self._shelf.has(parked):
                raise PermanentFailure("it is not parked any more")
            await self._audit.record(actor=by, action=AuditAction.DROP, target=parked.name)
            await self._shelf.drop(parked)
        await self._count()
        return parked

    def drop_all(self, choice: Choice, *, by: UserId = HERE) -> AsyncGenerator[Step, None]:
        """Let all of a choice go for good. Whoever stops asking for steps stops it there."""
        return self._counted(drop_each(self._shelf, self._audit, choice, by=by))

    async def retry(self, name: str, room: RoomId | None = None, *, by: UserId = HERE) -> Parked:
        """Have it run again. Raises ``PermanentFailure`` if that cannot be."""
        parked = await self.get(name, room)
        await self._retry(parked, by)
        await self._count()
        return parked

    def retry_all(self, choice: Choice, *, by: UserId = HERE) -> AsyncGenerator[Step, None]:
        """Have all of a choice run again, the oldest first.

        What cannot is named, stays parked and does not hold up the rest. Whoever stops asking for
        steps stops it there.
        """
        return self._counted(self._retry_each(choice, by))

    def standing(self) -> Sequence[dict[str, Any]]:
        """The rooms for which something waits to be put into Matrix, the longest first."""
        return [lane.look() for lane in self._sender.standing()]

    async def set_aside(self, room: RoomId) -> bool:
        """Park what a room waits for first; False if it is parked once its present try has failed.

        Raises ``PermanentFailure`` if nothing waits.
        """
        await self._audit.record(actor=HERE, action=AuditAction.PARK, target=room)
        return await self._sender.set_aside(room)

    # --- inside ---

    async def _counted(self, steps: AsyncGenerator[Step, None]) -> AsyncGenerator[Step, None]:
        """The steps; what is left is counted when they end, however they do."""
        try:
            async with contextlib.aclosing(steps):
                async for step in steps:
                    yield step
        finally:
            await self._count()

    async def _retry_each(self, choice: Choice, by: UserId) -> AsyncGenerator[Step, None]:
        found = choice.among(await self._shelf.all(choice.room))
        for number, parked in enumerate(found, 1):
            faults: tuple[str, ...] = ()
            try:
                await self._retry(parked, by)
            except PermanentFailure as error:
                faults = (f"{parked.name}: {error}",)
            yield Step(done=number, total=len(found), name=parked.name, faults=faults)

    async def _retry(self, parked: Parked, by: UserId) -> None:
        async with self._one_at_a_time:
            if not await self._shelf.has(parked):
                raise PermanentFailure("it is not parked any more")
            await self._audit.record(actor=by, action=AuditAction.RETRY, target=parked.name)
            if parked.kind == "outgoing":
                queued = await self._take_back(*parked.key)
                if queued is not None:
                    self._sender.push(queued)
            elif parked.kind == "timer":
                timers = self._timers.get(InstanceId(parked.consumer.removeprefix("bot:")))
                if timers is None:
                    raise PermanentFailure("its bot is not switched on in the settings")
                await timers.take_back(*parked.key)
            else:
                await self._retry_item(parked)

    async def _count(self) -> None:
        with contextlib.suppress(TemporaryFailure):  # It is done; and soon counted again.
            await self.on_change()

    async def _retry_item(self, parked: Parked) -> None:
        try:
            event = decode(parked.event) if parked.event else None
        except ValueError:
            event = None
        if not isinstance(event, dict):
            raise PermanentFailure("it was no event, or cannot be read any more; drop it")
        # In this order: cut off in between, it is taken again once and can be let go later.
        await self._take_again(parked.consumer, event, parked.name, parked.key[0])
        await self._shelf.drop(parked)


async def _nothing() -> None:
    pass
