"""Whom those who run a chat put out of it, or let in again: so it is in the room."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator

from bridge.core.outbox.outgoing import once
from bridge.core.rooms.house import House
from bridge.core.rooms.ranks import POWERS
from bridge.matrix.client import MatrixError
from bridge.model import Follow, Outgoing, Portal, SendKind
from bridge.sdk.events import Rank, RemoteRemoval, Removal
from bridge.sdk.ids import UserId

_KINDS = {Removal.KICK: SendKind.KICK, Removal.BAN: SendKind.BAN, Removal.UNBAN: SendKind.UNBAN}


class Removals:
    """One portal's."""

    def __init__(self, house: House, ask: Callable[[Awaitable[bool]], Awaitable[bool]]) -> None:
        """``ask``: how long the homeserver's word is waited for."""
        self._house = house
        self._ask = ask
        self._undone: dict[UserId, RemoteRemoval] = {}
        """Of each person the last ban that was set or lifted, and is not done in the room yet. A
        kick is over at once, and not made up for later, unless it is the homeserver's fault."""
        self._missed: dict[UserId, RemoteRemoval] = {}
        """The kicks that are not done since the homeserver did not answer."""
        self._in_turn = asyncio.Lock()

    def note(self, event: RemoteRemoval) -> None:
        """Know it, to be done later."""
        if event.how is not Removal.KICK:
            self._undone[event.user] = event

    def miss(self, portal: Portal, event: RemoteRemoval) -> None:
        """Know it, to be done when the homeserver answers."""
        self.note(event)
        if event.how is Removal.KICK and portal.follow is Follow.ALL:
            self._missed[event.user] = event

    def undone(self) -> Iterator[RemoteRemoval]:
        """What was noted and is neither done nor followed by another meanwhile."""
        # Kicks first: whoever was let in again after a ban is not in the room yet.
        noted = [*self._missed.values(), *self._undone.values()]
        return (one for one in noted if self._is_noted(one))

    def _of(self, event: RemoteRemoval) -> dict[UserId, RemoteRemoval]:
        return self._missed if event.how is Removal.KICK else self._undone

    async def follow(self, portal: Portal, event: RemoteRemoval) -> None:
        """Do it if the room follows its chat; else, or if it fails, it is noted."""
        self.note(event)
        if portal.follow is not Follow.ALL:
            return
        is_noted = self._is_noted(event)
        async with self._in_turn:
            if is_noted and not self._is_noted(event):
                return  # Another follows, or it is done.
            try:
                await self._put(portal, event)
            except MatrixError as error:
                # That it does not know us just now says nothing of the room.
                if event.how is not Removal.KICK or error.is_of_token:
                    raise
                self._drop(event)
                raise
            self._drop(event)

    def _is_noted(self, event: RemoteRemoval) -> bool:
        return self._of(event).get(event.user) is event

    def _drop(self, event: RemoteRemoval) -> None:
        if self._is_noted(event):
            del self._of(event)[event.user]

    def let_kicks_go(self) -> None:
        """Do none of those that were missed: by then whoever was kicked may be back."""
        self._missed.clear()

    async def _put(self, portal: Portal, event: RemoteRemoval) -> None:
        """Do it as the ghost of who did it, if the room gives the ghost that right.

        Where it is not known who did, the bot does it, with no more right than they have.
        """
        house = self._house
        by, most = house.namespaces.bot, POWERS[Rank.OWNER]
        if event.by is not None:
            by = house.namespaces.ghost(portal.instance, event.by.id)
        if not await self._ask(house.intents.may_remove(
            portal.room, by, event.user, event.how.value, most=most
        )):  # fmt: skip
            return
        await house.sender.put([
            Outgoing(
                room=portal.room, user=by, kind=_KINDS[event.how], target=event.user,
                content={"reason": event.reason} if event.reason else {},
                transaction_id=once(), portal=portal.id,
                name="" if event.by is None else event.by.name,
            )
        ])  # fmt: skip
