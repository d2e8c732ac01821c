"""Invitations of our bots of which the homeserver never told us."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Any

from bridge.jsontext import encode
from bridge.matrix.client import MatrixError
from bridge.model import Source, Transaction
from bridge.sdk.errors import TemporaryFailure
from bridge.sdk.ids import RoomId, UserId

log = logging.getLogger(__name__)


class Unanswered:
    """Asks for them; a room into which a bot has not come yet cannot be read for what is missing.

    Synapse keeps back an event that comes just as it finishes handing over what it had kept, and
    forgets, when it stops, what it has not handed over.
    """

    def __init__(
        self,
        *,
        ask: Callable[[UserId], Awaitable[Sequence[dict[str, Any]] | None]],
        accept: Callable[[Transaction], Awaitable[None]],
        bots: Callable[[], Collection[UserId]],
        is_known: Callable[[str], bool],
        is_at_work: Callable[[RoomId], bool],
        grace: float = 5.0,
    ) -> None:
        """``ask`` gives what is open, each with the same id each time, None if it cannot be
        asked; ``is_known`` tells the id of what was taken up before.

        ``is_at_work`` tells a room in which an invitation is being answered; one that is on its
        way to us has ``grace`` seconds.
        """
        self._ask = ask
        self._accept = accept
        self._bots = bots
        self._is_known = is_known
        self._is_at_work = is_at_work
        self._grace = grace
        self._has_said = False

    async def look(self) -> None:
        """Take up what is open and never came.

        Raises a ``TrestleError`` when the database is away.
        """
        before: dict[UserId, set[str]] = {}
        for bot in self._bots():
            if found := await self._open_of(bot):
                before[bot] = {one["event_id"] for one in found}
        if not before:
            return
        await asyncio.sleep(self._grace)
        for bot, seen in before.items():
            # What was not open then has had no grace: it may be on its way by itself.
            found = await self._open_of(bot)
            await self._take_up([one for one in found if one["event_id"] in seen])

    async def _open_of(self, bot: UserId) -> Sequence[dict[str, Any]]:
        try:
            found = await self._ask(bot)
        except (MatrixError, TemporaryFailure) as error:
            # Nobody is kept waiting for it: it has its turn when rooms are looked at next.
            log.info(
                "whether %s was invited is looked at later: %s", bot, error,
                extra={"event": "look_later"},
            )  # fmt: skip
            return []
        if found is None and not self._has_said:
            log.info(
                "this homeserver cannot be asked whether it lost an invitation (it lacks "
                "simplified sliding sync, MSC4186, or device_id masquerading, MSC4326)",
                extra={"event": "invitations_unasked"},
            )
            self._has_said = True
        return found or []

    async def _take_up(self, invitations: Sequence[dict[str, Any]]) -> None:
        # What is still open and not at work never came, or was answered in vain.
        events = [
            one for one in invitations
            if not self._is_at_work(RoomId(one["room_id"])) and not self._is_known(one["event_id"])
        ]  # fmt: skip
        if not events:
            return
        body = encode({"events": events})
        await self._accept(
            Transaction(id="", body=body, events=events, source=Source.RECONCILE)
        )  # fmt: skip
        log.warning(
            "%d invitations were open and nobody had answered; they are answered now",
            len(events), extra={"event": "invitation_found", "events": len(events)},
        )  # fmt: skip
