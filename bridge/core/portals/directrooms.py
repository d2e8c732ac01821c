"""The rooms of direct chats: one for each, however often it is tried."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from bridge.core.outbox.outgoing import once
from bridge.core.rooms.house import House
from bridge.matrix.client import MatrixError, failure_of
from bridge.matrix.intents import MARK
from bridge.model import Outgoing, SendKind
from bridge.sdk.ids import LoginId, RemoteChatId, RoomId, UserId

Key = tuple[LoginId, RemoteChatId]
"""Whose chat it is, and with whom."""


@dataclass(slots=True)
class _Half:
    """A room that is being made: tried before, or just now."""

    ghost: UserId
    mark: str
    """Stands in the room for good: by it a room is found whose making had no answer."""
    room: RoomId | None = None


class DirectRooms:
    """Makes them. What one try leaves half made, the next one goes on with."""

    def __init__(self, house: House, move_in: Callable[[UserId, RoomId], Awaitable[None]]) -> None:
        """``move_in`` notes that a bot of ours is in a room."""
        self._house = house
        self._move_in = move_in
        self._half: dict[Key, _Half] = {}

    def is_begun(self, key: Key) -> bool:
        """Whether a room has been begun, and is neither tied nor given up yet."""
        return key in self._half

    async def make(self, key: Key, ghost: UserId, owner: UserId, name: str) -> RoomId:
        """Have a room with a ghost called ``name`` and the bot, to which the owner is invited.

        It is remembered until it is settled or given up. One at a time for each key. Raises
        ``PermanentFailure``, and ``TemporaryFailure``, after which it may be tried again.
        """
        intents, bot = self._house.intents, self._house.namespaces.bot
        half = self._half.get(key)
        was_tried = half is not None
        if half is None:
            half = self._half[key] = _Half(ghost, once())
        try:
            await intents.ensure_registered(ghost, name)
            if half.room is None and was_tried:
                half.room = await self._find(half, owner)
            if half.room is None:
                half.room = await intents.create_room(
                    ghost, invite=[owner, bot], is_direct=True, preset="trusted_private_chat",
                    name=name, mark=half.mark,
                )  # fmt: skip
            await intents.ensure_joined(half.room, bot)
        except MatrixError as error:
            raise failure_of(error, f"the homeserver refuses it: {error.message}") from error
        await self._move_in(bot, half.room)
        return half.room

    async def _find(self, half: _Half, owner: UserId) -> RoomId | None:
        """The room of an earlier try of which no answer came; nobody may be invited to it yet."""
        intents, bot = self._house.intents, self._house.namespaces.bot
        for room in await intents.rooms_of(half.ghost) - await intents.rooms_of(bot):
            made = await intents.state(room, "m.room.create", user=half.ghost) or {}
            if made.get(MARK) != half.mark:
                continue
            for user in (bot, owner):
                member = await intents.state(room, "m.room.member", user, user=half.ghost) or {}
                if member.get("membership") not in {"join", "invite"}:
                    await intents.invite(room, half.ghost, user)
            return room
        return None

    def settle(self, key: Key) -> None:
        """Note that the room is tied: it is not half made any more."""
        self._half.pop(key, None)

    async def give_up(self, key: Key) -> None:
        """Leave what was half made, if anything was. Raises ``TemporaryFailure``."""
        half = self._half.get(key)
        if half is not None and half.room is not None:
            await self._house.sender.put([
                Outgoing(room=half.room, user=one, kind=SendKind.LEAVE, content={},
                         transaction_id=once())
                for one in (half.ghost, self._house.namespaces.bot)
            ])  # fmt: skip
        self._half.pop(key, None)

    async def give_up_all(self, login: LoginId) -> None:
        """Leave what was half made for a login. Raises ``TemporaryFailure``."""
        for key in [key for key in self._half if key[0] == login]:
            await self.give_up(key)
