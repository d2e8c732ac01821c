"""Whether a room is in its network's list, where people look for rooms."""

import asyncio
import logging
from collections.abc import Awaitable
from typing import TypeVar

from bridge.core.lanes.patience import promptly
from bridge.core.outbox.outgoing import once
from bridge.core.rooms.admission import Admission, read_admission
from bridge.core.rooms.house import House
from bridge.matrix.client import MatrixError
from bridge.model import Follow, Outgoing, Portal, SendKind
from bridge.sdk.errors import TemporaryFailure
from bridge.sdk.events import RemoteAccess
from bridge.sdk.ids import RoomId

log = logging.getLogger(__name__)

_T = TypeVar("_T")


class ShownRoom:
    """One portal's room."""

    def __init__(self, portal: Portal, house: House) -> None:
        self.portal = portal
        self._house = house
        self._access: RemoteAccess | None = None
        """What the chat is, as far as its network has told."""
        self._is_shown: bool | None = None
        """Whether the room is in its network's list; None if that was not looked at yet."""
        self._awaits_homeserver = False
        """It did not answer: till it does, what comes of the chat is only noted."""
        self._is_list_missed = False
        """Whether the room is to be listed could not be asked."""
        self._showing = asyncio.Lock()
        """Held for one look at a time: what an older one found is not put after a newer one."""

    async def ask(self, question: Awaitable[_T]) -> _T:
        """Ask the homeserver: for a moment, or with patience once nothing waits behind it.

        Raises ``HomeserverAway``, and :class:`MatrixError`.
        """
        return await (question if self._awaits_homeserver else promptly(question))

    async def show(self) -> None:
        """Have the room in its network's list while the chat is to be found and open to all.

        Where the homeserver cannot be asked it stays as it is until that answers. Raises
        ``TemporaryFailure`` when the database is away.
        """
        if (trouble := await self._try_to_show()) is not None:
            # What is said in the chat must not wait for this.
            log.info("a room is listed later: %s", trouble, extra={"event": "list_later"})
            self._house.catching_up.want(self)

    async def catch_up(self) -> None:
        """Have the room in the list or out of it, if that could not be asked.

        Raises ``TemporaryFailure`` while it cannot, or the database is away.
        """
        while self._is_list_missed:
            if (trouble := await self._try_to_show()) is not None:
                raise trouble

    async def _try_to_show(self) -> TemporaryFailure | None:
        """Give why it could not be asked. Raises ``TemporaryFailure`` for the database."""
        async with self._showing:
            while (access := self._access) is not None:
                is_wanted = access.listed and access.open
                if is_wanted:
                    try:
                        is_wanted = await self.ask(self._is_to_be_found())
                    except TemporaryFailure as error:
                        self._is_shown, self._is_list_missed = None, True
                        return error
                    except MatrixError:  # That is an answer.
                        self._is_list_missed = False
                        raise
                if access is self._access:  # Else the chat is another meanwhile.
                    await self._put_listing(is_wanted)
                    break
            # Only now: what could not be stored is not done.
            self._is_list_missed = False
            return None

    async def _put_listing(self, is_listed: bool) -> None:
        if is_listed is not self._may_be_shown:
            await self._house.sender.put([self._listing(self.portal.room, is_listed=is_listed)])
            self._is_shown = is_listed

    def forget_listing(self) -> None:
        """Have the next change put the room into its network's list, or take it out, anew."""
        self._is_shown = None

    def hide(self) -> list[Outgoing]:
        """What takes the room off its network's list, as it is the chat's no longer.

        The same again until :meth:`forget_listing`: it may not come to be stored.
        """
        return [self.unlist(self.portal.room)] if self._may_be_shown is not False else []

    def unlist(self, room: RoomId) -> Outgoing:
        """What takes a room off the network's list."""
        return self._listing(room, is_listed=False)

    def _listing(self, room: RoomId, *, is_listed: bool) -> Outgoing:
        portal = self.portal
        return Outgoing(
            room=room, user=self._house.namespaces.bot, kind=SendKind.LIST,
            content={"instance": portal.instance, "listed": is_listed}, transaction_id=once(),
        )  # fmt: skip

    async def _is_to_be_found(self) -> bool:
        """Whether those who are in the room want it to be found as the chat is."""
        intents, portal = self._house.intents, self.portal
        if portal.follow is not Follow.ALL:
            return await intents.is_listed(portal.room)
        if self.is_own_room:  # Its join rule follows, and may be on its way.
            return True
        return await read_admission(intents, portal.room) is not Admission.INVITE

    @property
    def _may_be_shown(self) -> bool | None:
        """Whether the room is in its network's list; None if it may be since an earlier run."""
        if self._is_shown is None and not (self.portal.listed and self.portal.open):
            return False
        return self._is_shown

    @property
    def is_own_room(self) -> bool:
        """Whether we made the room for the chat."""
        return self.portal.created_by == self._house.namespaces.bot
