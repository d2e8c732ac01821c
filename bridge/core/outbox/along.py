"""What a room refuses because another has taken its place goes into that one."""

from collections.abc import Awaitable, Callable
from dataclasses import replace

from bridge.matrix.intents import Intents
from bridge.model import Outgoing, SendKind
from bridge.sdk.errors import PermanentFailure
from bridge.sdk.ids import EventId, RoomId

Check = Callable[[Outgoing], Awaitable[None]]
"""Raises ``PermanentFailure`` for what must not be said in its room."""


async def _nowhere(outgoing: Outgoing) -> RoomId | None:
    return None


class Along:
    """Sends an entry into its room, or along with the bridge that has moved out of there."""

    def __init__(self, intents: Intents, check: Check) -> None:
        self._intents = intents
        self._check = check
        self.find_room: Callable[[Outgoing], Awaitable[RoomId | None]] = _nowhere
        """Gives the room that what was refused belongs into now, None if there is no other.

        Raises ``TemporaryFailure`` while that is not known yet.
        """

    async def send(self, outgoing: Outgoing) -> EventId | None:
        """Do one thing, as :meth:`Intents.send`; what is refused may go into another room."""
        try:
            return await self._intents.send(outgoing)
        except PermanentFailure:
            if outgoing.kind is not SendKind.EVENT:
                raise
            room = await self.find_room(outgoing)
            if room is None:
                raise
        moved = replace(outgoing, room=room)
        await self._check(moved)
        return await self._intents.send(moved)
