"""Invitations of our own users, accepted or declined; hopeless ones are given up."""

import asyncio
import logging
from collections.abc import Awaitable

from bridge.matrix.cache import Recent
from bridge.matrix.client import HomeserverAway, MatrixError, failure_of, heed_token
from bridge.matrix.intents import Intents
from bridge.sdk.errors import PermanentFailure, TemporaryFailure, TrestleError
from bridge.sdk.ids import RoomId, UserId

log = logging.getLogger(__name__)

_REMEMBERED = 10_000
"""Invitations of which it is known since when they fail."""
_NOT_OURS = "M_EXCLUSIVE"
"""What our homeserver answers whose registration does not hold our namespaces."""
_NOT_VERIFIED = "M_UNAUTHORIZED"
"""What another server answers, through ours, that could not verify who asks: it does so as well
when it cannot fetch our homeserver's keys just now."""


class Invitations:
    """Answers them as whoever is invited.

    A room that lies on another server may never be reached. While the homeserver is away itself,
    or asks for patience, nothing is given up.
    """

    def __init__(self, intents: Intents) -> None:
        self._intents = intents
        self.give_up_after = 600.0
        """Seconds for which one fails before it is void."""
        self._failing: Recent[tuple[RoomId, UserId], float] = Recent(_REMEMBERED)

    async def accept(self, room: RoomId, user: UserId, name: str = "") -> None:
        """Have the user, called ``name``, in the room.

        Raises ``PermanentFailure`` with the reason when the room stays closed,
        ``TemporaryFailure`` when it may open yet.
        """
        await self._try(room, user, self._intents.ensure_joined(room, user, name))

    async def decline(self, room: RoomId, user: UserId, reason: str) -> None:
        """Have the user out of the room; raises ``TemporaryFailure`` when that can work later.

        Of an id that the homeserver lets nobody have, nobody can: the log has it. Where it lets
        *us* have none, the registration is to be mended: raises ``PermanentFailure``.
        """
        try:
            await self._try(room, user, self._leave(room, user, reason))
        except PermanentFailure as error:
            refusal = error.__cause__
            if isinstance(refusal, MatrixError) and refusal.errcode == _NOT_OURS:
                raise
            log.info("an invitation is left open: %s", error, extra={"event": "invitation_void"})

    def forget(self, room: RoomId, user: UserId) -> None:
        """Call when all is done for an invitation: the next one is another."""
        self._failing.drop((room, user))

    async def _leave(self, room: RoomId, user: UserId, reason: str) -> None:
        await self._intents.ensure_registered(user)
        await self._intents.leave(room, user, reason=reason)

    async def _try(self, room: RoomId, user: UserId, answer: Awaitable[None]) -> None:
        try:
            await answer
        except TrestleError as error:
            failure = _meaning(error)
            if not isinstance(failure, TemporaryFailure) or failure.retry_after is not None:
                raise failure from error.__cause__
            if await self._is_hopeless(room, user):
                raise PermanentFailure(
                    f"the room could not be reached for too long: {failure}"
                ) from error
            raise failure from error.__cause__

    async def _is_hopeless(self, room: RoomId, user: UserId) -> bool:
        """Whether it failed for long while the homeserver was there.

        Raises ``TemporaryFailure`` if that is away: then it says nothing of the room.
        """
        try:
            await self._intents.rooms_of(user)
        except MatrixError as error:
            heed_token(error)
        now = asyncio.get_running_loop().time()
        since = self._failing.get((room, user))
        if since is None:
            self._failing.put((room, user), now)
            return False
        return now - since >= self.give_up_after


def _meaning(error: TrestleError) -> TrestleError:
    """What it means for an invitation that its answer failed so."""
    refusal = error if isinstance(error, MatrixError) else error.__cause__
    if isinstance(refusal, MatrixError) and refusal.errcode == _NOT_VERIFIED:
        return HomeserverAway(str(refusal))
    return failure_of(error) if isinstance(error, MatrixError) else error
