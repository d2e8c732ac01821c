"""For people who write to a bot where it cannot read: an unencrypted direct chat."""

import asyncio
import logging
from collections.abc import Callable
from time import monotonic
from weakref import WeakValueDictionary

from bridge.core.outbox.outgoing import KeyOf, notice
from bridge.core.outbox.sender import Sender
from bridge.core.permissions.permissions import Permissions
from bridge.matrix.cache import Recent
from bridge.matrix.client import MatrixError, failure_of, heed_token
from bridge.matrix.intents import Intents
from bridge.model import Permission
from bridge.sdk.ids import RoomId, UserId
from bridge.storage.portals import BotRooms

log = logging.getLogger(__name__)

_SENTENCE = (
    "I cannot read encrypted messages yet, so let us talk in this chat, which is not encrypted. "
    "Write help here to see what I can do."
)

_NOT_THERE = (
    "I cannot read what is said in {room}: it is encrypted, so nothing crosses between it and any "
    "network, and I hear no commands there. No room can be made unencrypted again: make another "
    "without encryption and invite me there. This chat is not encrypted: write help here to see "
    "what I can do."
)

_GREETING = (
    "I bridge rooms to other networks and host bots. Write help here to see what I can do; to "
    "bridge a room, invite me there."
)

_SEEN_SECONDS, _SEEN_MOST = 600.0, 1000

_PRIVATELY = "I wrote to you in our direct chat."


class PrivateChats:
    """Opens direct chats of bots, one a person and bot."""

    def __init__(
        self, told: BotRooms, intents: Intents, sender: Sender, permissions: Permissions,
        key_of: KeyOf,
    ) -> None:  # fmt: skip
        self._told = told
        self._intents = intents
        self._sender = sender
        self._permissions = permissions
        self._key_of = key_of
        self._making: WeakValueDictionary[tuple[UserId, UserId], asyncio.Lock] = (
            WeakValueDictionary()
        )
        self._seen: Recent[tuple[UserId, UserId, RoomId], float] = Recent(_SEEN_MOST)
        """When it was found that a person knows the way out of a room: every message asks."""
        self.on_room: Callable[[UserId, RoomId, UserId | None], None] | None = None
        """Where a bot's new room is made known to the routes."""

    async def offer(self, bot: UserId, person: UserId, room: RoomId, *, direct: bool) -> None:
        """Tell the person of an unencrypted chat with the bot, made if need be: once for each
        encrypted room, so that whoever declines is not asked again and again.

        ``direct``: the room is the bot's chat with that person; if they have another, they are
        told nothing.
        Raises a ``DeliveryError`` with the reason.
        """
        if self._permissions.highest(person) < Permission.USER:
            return
        what = f"private chat with {bot}"
        here = f"{what}, {self._key_of(room).hex()}"
        seen = (bot, person, room)
        if (at := self._seen.get(seen)) is not None and monotonic() - at < _SEEN_SECONDS:
            return
        if await self._told.was_told(person, here):
            self._seen.put(seen, monotonic())
            return
        async with self._one_at_a_time(bot, person):
            chat = await self._find(bot, person)
            if direct and chat is not None and await self._told.was_told(person, what):
                self._seen.put(seen, monotonic())
                return
            if chat is None:
                chat = await self._make(bot, person)
        text = _SENTENCE if direct else _NOT_THERE.format(room=room)
        source = ("private chat", bot, person, room)
        await self._sender.put([
            notice(self._key_of, room=chat, user=bot, text=text, source=source),
        ])  # fmt: skip
        await self._told.note_told(person, what)
        await self._told.note_told(person, here)
        log.info("told of an unencrypted direct chat", extra={"event": "private_chat"})

    async def greet(self, bot: UserId, person: UserId, room: RoomId) -> None:
        """Tell whoever invited the bot to a direct chat what to do next, if nobody else is there:
        once, however often they invite it.

        Raises ``TemporaryFailure``.
        """
        what = f"greeting of {bot}"
        if await self._told.was_told(person, what):
            return
        try:
            if not await self._are_alone(bot, person, room):
                return
        except MatrixError as error:
            heed_token(error)  # Else they ask for help unbidden.
            return
        source = ("greeting", bot, person, room)
        await self._sender.put([
            notice(self._key_of, room=room, user=bot, text=_GREETING, source=source),
        ])  # fmt: skip
        await self._told.note_told(person, what)

    async def open(self, bot: UserId, person: UserId) -> RoomId:
        """A direct chat in which the bot may say what is for that person only, made if need be.

        Raises a ``DeliveryError`` with the reason.
        """
        async with self._one_at_a_time(bot, person):
            return await self._find(bot, person) or await self._make(bot, person)

    def _one_at_a_time(self, bot: UserId, person: UserId) -> asyncio.Lock:
        """Held by whoever looks whether there is a chat, until there is one."""
        return self._making.setdefault((bot, person), asyncio.Lock())

    async def _find(self, bot: UserId, person: UserId) -> RoomId | None:
        """The chat that the person is in, or invited to."""
        for user, room, direct_with in reversed(await self._told.bot_rooms()):
            if (user, direct_with) == (bot, person) and await self.is_private(bot, person, room):
                return room
        return None

    async def room_for(
        self, bot: UserId, person: UserId, room: RoomId, *, direct: bool
    ) -> tuple[RoomId, str]:
        """Where only that person reads the answer, and what to say where it was asked.

        ``direct``: the room is the bot's chat with that person. Raises a ``DeliveryError``.
        """
        if direct and await self.is_private(bot, person, room):
            return room, ""
        return await self.open(bot, person), _PRIVATELY

    async def is_private(self, bot: UserId, person: UserId, room: RoomId) -> bool:
        """Whether nobody else reads there or is invited, and the bot can remove what is said.

        The person may be invited and not in there yet. Raises a ``DeliveryError``.
        """
        try:
            return (
                await self._are_alone(bot, person, room)
                and not await self._intents.is_encrypted(room)
                and await self._intents.can(room, bot, "redact")
            )
        except MatrixError as error:
            raise failure_of(error) from error

    async def _are_alone(self, bot: UserId, person: UserId, room: RoomId) -> bool:
        there: set[str] = set(await self._intents.joined_members(room))
        if bot not in there or there - {bot, person}:
            return False
        try:
            states = await self._intents.states(room, {"m.room.member"})
        except MatrixError as error:
            heed_token(error)
            return False
        # Whoever was invited a moment ago may be in there by now.
        there |= {
            user for (_, user), content in states.items()
            if content.get("membership") in {"join", "invite"}
        }  # fmt: skip
        return there == {bot, person}

    async def _make(self, bot: UserId, person: UserId) -> RoomId:
        chat = await self._intents.create_room(
            bot,
            invite=[person],
            is_direct=True,
            preset="trusted_private_chat",
            name="",
        )
        await self._told.add_bot_room(bot, chat, person)
        if self.on_room is not None:
            self.on_room(bot, chat, person)
        return chat
