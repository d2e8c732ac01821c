"""What was put aside, in the hands of people: seen, tried again, let go."""

import contextlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import date, datetime
from typing import Any, Protocol, TypeVar
from uuid import UUID

from bridge.core.audit import Audit
from bridge.core.sender import Sender
from bridge.jsontext import decode
from bridge.model import AuditAction, ParkReason, QueuedOutgoing
from bridge.sdk.errors import PermanentFailure, TemporaryFailure
from bridge.sdk.ids import InstanceId, RoomId, UserId

HERE = UserId("the command line")
"""Who acts through it: whoever may, on this machine."""


class Parked(Protocol):
    """One thing put aside."""

    @property
    def kind(self) -> str: ...
    @property
    def key(self) -> tuple[Any, ...]: ...
    @property
    def name(self) -> str: ...
    @property
    def consumer(self) -> str: ...
    @property
    def reason(self) -> ParkReason: ...
    @property
    def detail(self) -> str: ...
    @property
    def since(self) -> datetime: ...
    @property
    def event(self) -> bytes: ...


P = TypeVar("P", bound=Parked)


class Shelf(Protocol[P]):
    """Where it is kept."""

    async def all(self, room: RoomId | None = None) -> Sequence[P]: ...
    async def get(self, name: str, room: RoomId | None = None) -> P: ...
    async def drop(self, parked: P) -> None: ...


class Timers(Protocol):
    """A bot's timers."""

    async def take_back(self, ring: UUID) -> bool: ...


class Aside:
    """What people can do with it; a room's admins with what is of their room."""

    def __init__(
        self,
        shelf: Shelf[Any],
        sender: Sender,
        timers: Mapping[InstanceId, Timers],
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
        self.on_change: Callable[[], Awaitable[None]] = _nothing
        """Called when one was let go, or runs again."""

    async def all(self, room: RoomId | None = None) -> Sequence[Parked]:
        """What is parked, the oldest first."""
        return await self._shelf.all(room)

    async def get(self, name: str, room: RoomId | None = None) -> Parked:
        """The one of that name. Raises ``PermanentFailure`` if there is none."""
        parked: Parked = await self._shelf.get(name, room)
        return parked

    async def drop(self, name: str, room: RoomId | None = None, *, by: UserId = HERE) -> Parked:
        """Let it go for good. Raises ``PermanentFailure`` if there is none."""
        parked = await self.get(name, room)
        await self._audit.record(actor=by, action=AuditAction.DROP, target=parked.name)
        await self._shelf.drop(parked)
        await self._count()
        return parked

    async def retry(self, name: str, room: RoomId | None = None, *, by: UserId = HERE) -> Parked:
        """Have it run again. Raises ``PermanentFailure`` if that cannot be."""
        parked = await self.get(name, room)
        await self._audit.record(actor=by, action=AuditAction.RETRY, target=parked.name)
        if parked.kind == "outgoing":
            queued = await self._take_back(*parked.key)
            if queued is not None:
                self._sender.take_up(queued)
        elif parked.kind == "timer":
            timers = self._timers.get(InstanceId(parked.consumer.removeprefix("bot:")))
            if timers is None:
                raise PermanentFailure("its bot is not switched on in the settings")
            await timers.take_back(*parked.key)
        else:
            await self._retry_item(parked)
        await self._count()
        return parked

    def standing(self) -> Sequence[dict[str, Any]]:
        """The rooms for which something waits to be put into Matrix, the longest first."""
        return [
            {"room": lane.room, "waiting": len(lane), "because": lane.trouble,
             "since": lane.queue[0].received_at.isoformat()}
            for lane in self._sender.standing()
        ]  # fmt: skip

    async def set_aside(self, room: RoomId, *, by: UserId = HERE) -> bool:
        """Park what a room waits for first; False if that is done when its try has failed.

        Raises ``PermanentFailure`` if nothing waits.
        """
        await self._audit.record(actor=by, action=AuditAction.PARK, target=room)
        return await self._sender.set_aside(room)

    # --- inside ---

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
