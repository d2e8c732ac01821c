"""Tying a Matrix room to a remote chat, and untying it without a trace."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any
from weakref import WeakValueDictionary

from bridge.core.host.finding import find_chat
from bridge.core.host.instances import Instance
from bridge.core.outbox.outgoing import notice, once
from bridge.core.permissions.peace import Peace
from bridge.core.portals.choices import Wish
from bridge.core.portals.ended import refuse_ended
from bridge.core.portals.portals import Portals
from bridge.core.portals.roomlimits import RoomLimits
from bridge.core.rooms.admission import Admission, read_admission
from bridge.core.rooms.house import House
from bridge.core.traffic.doorway import Doorway
from bridge.matrix.client import MatrixError, heed_token
from bridge.model import Outgoing, Portal, SendKind
from bridge.sdk.commands import as_typed
from bridge.sdk.errors import DeliveryError, PermanentFailure, TemporaryFailure
from bridge.sdk.events import RemoteChat
from bridge.sdk.ids import InstanceId, RemoteChatId, RoomId, UserId
from bridge.sdk.module import FindsChats, NeedsConsent
from bridge.sdk.secret import Secret

log = logging.getLogger(__name__)

BRIDGE_TYPES = ("m.bridge", "uk.half-shot.bridge")
"""State events that tell clients of a bridge (MSC2346), under both its names."""


class Plumbing:
    """Makes and removes portals, with everything that belongs to them."""

    def __init__(self, house: House, portals: Portals) -> None:
        self._house = house
        self._portals = portals
        self._limits = RoomLimits(house.rules, portals.chats, house.clock)
        self.before_unbridging: Callable[[Doorway, UserId], Awaitable[None]]
        """Takes back what was done to a chat for its room."""
        self.peace: Peace
        """Knows which chats' people have said no."""
        self.leave_behind: Callable[[Doorway], Awaitable[None]]
        """Has nothing of a bridge stay in rooms from which it is moving yet."""
        self._opening: WeakValueDictionary[object, asyncio.Lock] = WeakValueDictionary()

    @property
    def instances(self) -> Mapping[InstanceId, Instance]:
        """The networks that are switched on."""
        return self._house.instances

    def find_instance(self, name: str) -> Instance:
        """Give the instance of that name. Raises ``PermanentFailure`` naming those there are."""
        instance = self.instances.get(InstanceId(name))
        if instance is None:
            names = ", ".join(sorted(self.instances)) or "none is switched on"
            raise PermanentFailure(f"there is no network called {name!r} here; networks: {names}")
        return instance

    async def read_chat(self, instance: Instance, text: str, limit: float = 2) -> RemoteChat:
        """Read what somebody typed as a chat of the instance. Raises a ``DeliveryError``.

        Reading may need what only the network tells; it has ``limit`` seconds to be reached.
        """
        if not isinstance(instance.connector, FindsChats):
            raise PermanentFailure(f"{instance.name} has no chats to bridge by name")
        await instance.wait_until_connected(limit)
        return await find_chat(instance, text)

    async def bridge(self, instance: Instance, text: str, room: RoomId, by: UserId) -> Doorway:
        """Tie the room to the chat, where nobody else must agree; the relay is in the chat then.

        Raises a ``DeliveryError`` with the reason; then nothing has changed, or the same again
        does the rest.
        """
        chat = await self.read_chat(instance, text, 15)
        existing = await self.check(instance, chat, room)
        if existing is not None:
            await self.complete(existing)
            return existing
        return await self.tie_unasked(instance, chat, room, by)

    def find_door(self, instance: InstanceId, chat: RemoteChatId) -> Doorway | None:
        """The portal of a chat that all logins share."""
        return self._portals.find(instance, chat)

    async def check(self, instance: Instance, chat: RemoteChat, room: RoomId) -> Doorway | None:
        """Give the portal if the room is tied to the chat already.

        Raises ``PermanentFailure`` if it cannot be: it is encrypted, or has another chat of the
        network, or the chat is another's, or those who run the chat have ended its bridge, or the
        network has as many rooms as it may.
        """
        refuse_ended(self._portals.find(instance.name, chat.id))
        if await self._house.intents.is_encrypted(room):
            raise PermanentFailure(
                "this room is encrypted, and I cannot read encrypted messages yet; "
                "bridge a room that is not"
            )
        existing = self._find_tied(instance, chat, room)
        if existing is None:
            self._portals.refuse_second(room, instance.name, chat)
            self._limits.check(instance.name, chat.id)
        return existing

    def _find_tied(self, instance: Instance, chat: RemoteChat, room: RoomId) -> Doorway | None:
        existing = self._portals.find(instance.name, chat.id)
        refuse_ended(existing)
        if existing is not None and existing.portal.room != room:
            raise PermanentFailure(f"{chat.name} on {instance.name} is bridged to another room")
        return existing

    def needs_consent(self, instance: Instance, chat: RemoteChat) -> bool:
        """Whether those who run the chat must agree before it is bridged."""
        connector = instance.connector
        return isinstance(connector, NeedsConsent) and connector.needs_consent(chat)

    async def tie_unasked(
        self,
        instance: Instance,
        chat: RemoteChat,
        room: RoomId,
        by: UserId,
        key: Secret | None = None,
        *,
        lifts: bool = False,
    ) -> Doorway:
        """Tie the room to the chat as :meth:`tie` does, where nobody else must agree.

        ``lifts``: also where those who run the chat have ended its bridge not long ago.
        """
        await self._refuse_unasked(instance, chat, lifts=lifts)
        # Once it is paused, an answer of before would end this bridge at a start.
        await self.peace.end(instance.name, chat.id)
        return await self.tie(instance, chat, room, by, key)

    async def tie(
        self, instance: Instance, chat: RemoteChat, room: RoomId, by: UserId,
        key: Secret | None = None,
    ) -> Doorway:  # fmt: skip
        """Tie the room to the chat, everything being asked; the relay is in the chat then, let in
        with ``key`` if one was said.

        Raises a ``DeliveryError`` with the reason; then nothing has changed, or :meth:`complete`
        does the rest.
        """
        async with (
            self._one_at_a_time(instance.name, "room", room),
            self._one_at_a_time(instance.name, chat.id),
        ):
            # Somebody else may have tied it since it was asked for.
            existing = self._find_tied(instance, chat, room)
            if existing is not None:
                return existing
            self._portals.refuse_second(room, instance.name, chat)
            async with self._coming_into(instance, chat, limit=20, key=key):
                # Asked before it is tied: nothing of it must wait for the homeserver then.
                may_publish = await self._may_publish(room)
                door = await self._portals.add(
                    instance=instance.name, chat=chat, room=room, created_by=by
                )
        if may_publish:
            await self._put_states(door, by)
        log.info("a room is bridged", extra={"event": "bridged", "instance": instance.name})
        return door

    async def complete(self, door: Doorway) -> None:
        """Finish what was cut off when a room was tied: its state is put last.

        Raises :class:`MatrixError` and ``TemporaryFailure``.
        """
        house, portal = self._house, door.portal
        if await self.is_published(door, portal.room):
            return
        if door.facts.is_own_room:
            await self.announce(door)
        await self.publish(door, portal.created_by or house.namespaces.bot)

    async def come_back(self, door: Doorway, key: Secret | None = None) -> None:
        """Have the relay in a chat that it could not join, as somebody here wishes who needs it;
        with ``key``, which is kept from now on, also if it is there already.

        Raises a ``DeliveryError`` with the network's reason; what is refused for now is tried
        again.
        """
        instance, portal = self.instances.get(door.portal.instance), door.portal
        if instance is None or portal.receiver is not None:
            return
        await instance.try_now()
        if portal.chat in instance.trouble or key is not None:
            try:
                await instance.join(door.chat, key=key)
            except TemporaryFailure:
                instance.rejoining.want(door.chat, key)
                raise

    def wish(self, door: Doorway, person: UserId) -> Wish:
        """What somebody's choice for a room is judged by."""
        instance = door.portal.instance
        return Wish(
            portal=door.portal, person=person, instance=self.instances.get(instance),
            rules=self._house.rules(instance),
        )  # fmt: skip

    async def announce(self, door: Doorway) -> None:
        """Tell the people of a room what goes where, if none of them asked for the bridge.

        Raises ``TemporaryFailure`` when the database is away.
        """
        house = self._house
        await house.sender.put([
            notice(
                house.key_of, room=door.portal.room, user=house.namespaces.bot, text=door.terms,
                source=("terms", door.portal.id),
            )
        ])  # fmt: skip

    def paused(self) -> Sequence[Doorway]:
        """The portals that all logins share and through which nothing crosses."""
        return [
            door for door in self._portals.all
            if door.portal.paused and door.portal.receiver is None
        ]  # fmt: skip

    async def halt(self, door: Doorway, by: UserId) -> None:
        """Have nothing cross. Raises ``TemporaryFailure`` when the database is away."""
        # Also if it is so: somebody may be about to have it go on.
        await self._portals.halt(door, by)

    async def leave(self, door: Doorway, reason: str) -> None:
        """Have every login out of the chat."""
        instance = self.instances.get(door.portal.instance)
        if instance is not None:
            await instance.leave(door.chat, reason)

    async def unbridge(
        self, door: Doorway, by: UserId, reason: str = "this room is no longer bridged",
        room: RoomId | None = None,
    ) -> None:  # fmt: skip
        """Untie the room: ghosts leave, the alias and the bridge's state events go.

        ``room``: leave a bridge alone that has moved out of that one meanwhile. Raises
        ``TemporaryFailure`` when the homeserver or the database is away; then the room is still
        tied, and all of it can be done again.
        """
        portal = door.portal
        if portal.receiver is not None:
            await self._portals.direct_chats.end(door)
            return
        async with self._one_at_a_time(portal.instance, portal.chat):
            # Somebody else may have untied it, and the chat be bridged anew.
            is_there = self._portals.find(portal.instance, portal.chat) is door
            if is_there and room in {None, door.portal.room}:
                await self._untie(door, by, reason)

    async def _untie(self, door: Doorway, by: UserId, reason: str) -> None:
        house, portal = self._house, door.portal
        await self.before_unbridging(door, by)
        for alias in await self._aliases_of(portal):
            await house.intents.delete_alias(alias)
        await door.arrivals.attendance.empty()
        await self.leave_behind(door)
        # Where the bot may not, nothing was put that is to go.
        may_publish = await self._may_publish(portal.room)
        states = self._states(door, portal.room, {}) if may_publish else []
        async with door.facts.leaving() as unlimited:
            await house.sender.put([
                *states, *door.facts.hide(), *unlimited,
            ])  # fmt: skip
            door.facts.forget_listing()
            await self._portals.remove(door, by)
        await self.leave(door, reason)
        # Whoever spoke up to the end came in again.
        await door.arrivals.attendance.empty()
        log.info("a room is unbridged", extra={"event": "unbridged", "instance": portal.instance})

    @asynccontextmanager
    async def holding(self, door: Doorway) -> AsyncIterator[bool]:
        """Have nobody tie or untie the portal's chat in the block; gives whether the portal is
        there still."""
        async with self._one_at_a_time(door.portal.instance, door.portal.chat):
            yield self._portals.numbered(door.portal.id) is door

    def _one_at_a_time(self, *what: str) -> asyncio.Lock:
        """Held while a room is tied to a chat, or untied."""
        return self._opening.setdefault(what, asyncio.Lock())

    async def _aliases_of(self, portal: Portal) -> Sequence[str]:
        """Our aliases of the room that stand for the chat, however they spell it."""
        house = self._house
        found = {house.namespaces.alias(portal.instance, portal.chat)}
        for alias in await house.intents.aliases_of(portal.room):
            parsed = house.namespaces.parse_alias(alias)
            if parsed is not None and parsed[0] == portal.instance:
                instance = self.instances.get(portal.instance)
                if parsed[1] == portal.chat or await _reads(instance, parsed[1]) == portal.chat:
                    found.add(alias)
        return sorted(found)

    async def open_room(
        self, instance: Instance, text: str, alias: str = "", key: Secret | None = None
    ) -> tuple[Doorway, bool]:
        """Give the room of a chat, and whether it was made now, where there was none and nobody
        must be asked. ``key`` lets the relay into the chat then, and is ignored otherwise.

        Where others than the invited may come in, aliases of it lead there: ours, and ``alias``,
        as somebody spelled it who asked for it by that. Raises a ``DeliveryError``.
        """
        chat = await self.read_chat(instance, text)
        # A homeserver may ask for the same alias many times at once.
        async with self._one_at_a_time(instance.name, chat.id):
            door = self._portals.find(instance.name, chat.id)
            refuse_ended(door)
            is_new = door is None
            if door is None:
                await self._refuse_unasked(instance, chat)
                door = await self._open(instance, chat, key, by_alias=bool(alias))
            elif await self.may_enter(door):
                await self.complete(door)
                ours = self._house.namespaces.alias(instance.name, chat.id)
                await self._house.intents.put_alias(ours, door.portal.room)
            elif alias:
                raise PermanentFailure(f"the room of {chat.name} is for those who are invited")
            if alias and alias != self._house.namespaces.alias(instance.name, chat.id):
                await self._house.intents.put_alias(alias, door.portal.room)
            return door, is_new

    async def may_open(self, instance: Instance, chat: RemoteChat) -> bool:
        """Whether an alias of the chat leads somebody into its room, there already or not."""
        door = self._portals.find(instance.name, chat.id)
        if door is not None:
            return await self.may_enter(door)
        may_be = self._limits.may_have(instance.name, chat.id)
        if not may_be or self.needs_consent(instance, chat):
            return False
        return await self.peace.holds_until(instance.name, chat.id) is None

    async def may_enter(self, door: Doorway) -> bool:
        """Whether somebody may come into the room uninvited. Raises ``TemporaryFailure``."""
        rule = await read_admission(self._house.intents, door.portal.room)
        return rule is not Admission.INVITE

    async def _open(
        self, instance: Instance, chat: RemoteChat, key: Secret | None, *, by_alias: bool
    ) -> Doorway:
        house = self._house
        alias = house.namespaces.alias(instance.name, chat.id)
        async with self._coming_into(instance, chat, limit=4, key=key, by_alias=by_alias):
            room = await house.intents.create_room(
                house.namespaces.bot, alias=alias, preset="public_chat", name=chat.name
            )
            door = await self._portals.add(
                instance=instance.name, chat=chat, room=room, created_by=house.namespaces.bot
            )
        await self.announce(door)
        await self._put_states(door, house.namespaces.bot)
        return door

    @asynccontextmanager
    async def _coming_into(
        self, instance: Instance, chat: RemoteChat, limit: float, *, key: Secret | None,
        by_alias: bool = False,
    ) -> AsyncIterator[None]:  # fmt: skip
        """Have the relay in the chat; out of it again if the block does not tie a room to it.

        Raises a ``DeliveryError`` if the network has as many rooms as it may.
        """
        with self._limits.place(instance.name, chat.id, by_alias=by_alias):
            async with self._portals.expecting(instance.name, chat.id):
                try:
                    await instance.join(chat, limit, key)
                    yield
                finally:
                    if self._portals.find(instance.name, chat.id) is None:
                        await instance.leave(chat, "this channel is not bridged")

    async def _refuse_unasked(
        self, instance: Instance, chat: RemoteChat, *, lifts: bool = False
    ) -> None:
        if self.needs_consent(instance, chat):
            raise PermanentFailure(
                f"{chat.name} on {instance.name} belongs to those who run it, who must agree: say "
                f"{as_typed(f'bridge {instance.name} {chat.name}')} in a room, and I ask them"
            )
        if not lifts:
            await self.peace.check(instance.name, chat)

    async def publish(self, door: Doorway, by: UserId) -> None:
        """Tell clients of the bridge (MSC2346), where the bot has the power to."""
        if await self._may_publish(door.portal.room):
            await self._put_states(door, by)

    def publish_late(self, door: Doorway) -> None:
        """Tell clients of a bridge of which they were not told, as the bot might not.

        That is done aside, when the homeserver answers; a restart before that forgets it.
        """
        if door.portal.receiver is None:
            self._house.catching_up.want(_Untold(self, door, self._house.namespaces.bot))

    async def is_published(self, door: Doorway, room: RoomId) -> bool:
        """Whether a room tells clients of the bridge.

        Raises :class:`MatrixError` and ``TemporaryFailure``.
        """
        key = _key_of(door.portal)
        return bool(await self._house.intents.state(room, BRIDGE_TYPES[0], key))

    async def retract(self, door: Doorway, room: RoomId) -> None:
        """Stop telling clients of the bridge in a room that it has left."""
        if await self._may_publish(room):
            await self._house.sender.put(self._states(door, room, {}))

    async def _may_publish(self, room: RoomId) -> bool:
        house = self._house
        return await house.intents.can(room, house.namespaces.bot, BRIDGE_TYPES[0])

    async def _put_states(self, door: Doorway, by: UserId) -> None:
        house, portal = self._house, door.portal
        # One that is switched off just now is known by its name alone.
        instance = self.instances.get(portal.instance)
        module = portal.instance if instance is None else instance.connector.info.id
        title = portal.instance if instance is None else instance.connector.info.name
        content: dict[str, Any] = {
            "bridgebot": house.namespaces.bot,
            "creator": by,
            "protocol": {"id": module, "displayname": title},
            "network": {"id": portal.instance, "displayname": portal.instance},
            "channel": {"id": portal.chat, "displayname": portal.chat_name},
        }
        await house.sender.put(self._states(door, portal.room, content))

    def _states(self, door: Doorway, room: RoomId, content: dict[str, Any]) -> list[Outgoing]:
        return [
            Outgoing(room=room, user=self._house.namespaces.bot, kind=SendKind.STATE,
                     type=kind, state_key=_key_of(door.portal), content=content,
                     transaction_id=once())
            for kind in BRIDGE_TYPES
        ]  # fmt: skip


class _Untold:
    """A room whose clients may not have been told of the bridge."""

    def __init__(self, plumbing: Plumbing, door: Doorway, bot: UserId) -> None:
        self._plumbing = plumbing
        self._bot = bot
        self._door = door

    async def catch_up(self) -> None:
        """Tell them, where the bot may. Raises ``TemporaryFailure``."""
        plumbing, door = self._plumbing, self._door
        async with plumbing.holding(door) as is_there:
            try:
                if is_there and not await plumbing.is_published(door, door.portal.room):
                    await plumbing.publish(door, door.portal.created_by or self._bot)
            except MatrixError as error:
                heed_token(error)


def _key_of(portal: Portal) -> str:
    """The state key of what tells of a bridge."""
    return f"org.trestle://{portal.instance}/{portal.chat}"


async def _reads(instance: Instance | None, text: str) -> RemoteChatId | None:
    """The chat that a text names, None if the network cannot say that now."""
    if instance is None:
        return None
    try:
        return (await find_chat(instance, text)).id
    except DeliveryError:
        return None
