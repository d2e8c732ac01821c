"""What happens to our own users in rooms: invitations, kicks, and rooms that become encrypted."""

import logging
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from bridge.core.directchats import DirectChats
from bridge.core.lane import Item, Lane
from bridge.core.permissions import Permissions
from bridge.core.privatechat import PrivateChats
from bridge.core.router import Router
from bridge.matrix.intents import Intents
from bridge.matrix.namespaces import Namespaces
from bridge.model import ParkReason, Permission
from bridge.sdk.errors import PermanentFailure
from bridge.sdk.ids import RoomId, UserId

log = logging.getLogger(__name__)

_LANES = 16
"""Rooms share this many lanes; each room stays in one, so its order holds."""


class BotRooms(Protocol):
    """The part of the storage that knows which rooms bots are in, and which are encrypted."""

    async def add_bot_room(
        self, user: UserId, room: RoomId, direct_with: UserId | None
    ) -> None: ...
    async def remove_bot_room(self, user: UserId, room: RoomId) -> None: ...
    async def mark_encrypted(self, room: RoomId) -> None: ...


class Watch:
    """One lane's worth of rooms."""

    deadline = 60.0
    holds = False

    def __init__(self, number: int, door: "Watcher") -> None:
        self.name = f"watch:{number}"
        self._door = door

    async def handle(self, item: Item) -> None:
        """Act on a membership or encryption event."""
        await self._door.handle(item.event)

    async def parked(self, item: Item, reason: ParkReason, detail: str) -> None:
        """Nobody to tell: the log has it."""


class Watcher:
    """Answers invitations and keeps track of where our bots are."""

    def __init__(
        self,
        bot_rooms: BotRooms,
        intents: Intents,
        namespaces: Namespaces,
        permissions: Permissions,
        private_chats: PrivateChats,
        *,
        is_bot: Callable[[str], bool],
        on_join: Callable[[UserId, RoomId, UserId | None], None],
        on_leave: Callable[[UserId, RoomId], None],
        encrypted: set[RoomId],
    ) -> None:
        self._bot_rooms = bot_rooms
        self._intents = intents
        self._namespaces = namespaces
        self._permissions = permissions
        self._private_chats = private_chats
        self._is_bot = is_bot
        self._on_join = on_join
        self._on_leave = on_leave
        self._encrypted = encrypted
        self.direct_chats: DirectChats
        self._watches = [Watch(number, self) for number in range(_LANES)]

    def lanes(self, router: Router, event: dict[str, Any]) -> Sequence[Lane]:
        """The lane of a membership or encryption event."""
        number = sum(event["room_id"].encode()) % _LANES
        return [router.lane(self._watches[number])]

    def wants(self, event: dict[str, Any]) -> bool:
        """Whether the event is about one of our users or makes a room encrypted."""
        if event["type"] == "m.room.encryption":
            return event.get("state_key") == ""
        return self._namespaces.is_ours(str(event.get("state_key", "")))

    async def handle(self, event: dict[str, Any]) -> None:
        """Act on the event."""
        room = RoomId(event["room_id"])
        if event["type"] == "m.room.encryption":
            await self._note_encrypted(room)
            return
        user = UserId(event["state_key"])
        membership = event["content"].get("membership")
        if membership == "invite":
            await self._invited(user, room, event)
        elif membership in {"leave", "ban"} and self._is_bot(user):
            await self._bot_rooms.remove_bot_room(user, room)
            self._on_leave(user, room)

    async def _invited(self, user: UserId, room: RoomId, event: dict[str, Any]) -> None:
        inviter = UserId(event["sender"])
        if self._namespaces.is_ours(inviter):
            return  # We invited our own; whoever did it sees to the rest.
        encrypted = _invited_into_encrypted(event)
        direct = event["content"].get("is_direct") is True
        if not self._is_bot(user):
            await self.direct_chats.invited(
                user, inviter, room, direct=direct, encrypted=encrypted
            )
            return
        if self._permissions.highest(inviter) < Permission.USER:
            await self._intents.leave(
                room, user, reason="The settings of this bridge do not let you invite its bots."
            )
            return
        if encrypted:
            await self._note_encrypted(room)
        try:
            await self._intents.ensure_joined(room, user)
        except PermanentFailure as error:
            log.info("an invitation is void: %s", error, extra={"event": "invitation_void"})
            return
        direct_with = inviter if direct else None
        await self._bot_rooms.add_bot_room(user, room, direct_with)
        self._on_join(user, room, direct_with)
        if not encrypted and await self._intents.is_encrypted(room):
            encrypted = True
            await self._note_encrypted(room)
        if encrypted:
            await self._private_chats.offer(user, inviter, room)

    async def _note_encrypted(self, room: RoomId) -> None:
        if room not in self._encrypted:
            self._encrypted.add(room)
            await self._bot_rooms.mark_encrypted(room)


def _invited_into_encrypted(event: dict[str, Any]) -> bool:
    unsigned = event.get("unsigned")
    sources = [event, unsigned if isinstance(unsigned, dict) else {}]
    for source in sources:
        state = source.get("invite_room_state")
        for stripped in state if isinstance(state, list) else []:
            if isinstance(stripped, dict) and stripped.get("type") == "m.room.encryption":
                return True
    return False
