"""All portals, by room and by remote chat."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from functools import partial
from typing import Any

from bridge.core.lanes.cancellation import Work
from bridge.core.lanes.lane import Item, Lane
from bridge.core.lanes.patience import persistently
from bridge.core.outbox.moving import Move, Plan
from bridge.core.portals.choices import Wish, change_all, chosen_as
from bridge.core.portals.directchats import DirectChats
from bridge.core.portals.ended import refuse_ended
from bridge.core.portals.formerrooms import FormerRooms
from bridge.core.portals.ignored import is_ignored
from bridge.core.rooms.house import House
from bridge.core.traffic.doorway import Doorway
from bridge.matrix.client import MatrixError
from bridge.model import AuditAction, Follow, LoginRow, Permission, Portal
from bridge.sdk.commands import as_typed
from bridge.sdk.errors import PermanentFailure
from bridge.sdk.events import RemoteChat, RemoteEvent, RemoteMessage, RemoteRename
from bridge.sdk.ids import (
    EventId,
    InstanceId,
    LoginId,
    RemoteChatId,
    RemoteUserId,
    RoomId,
    UserId,
)

_EARLY = 1000
"""Events of a chat that are kept at most while it is being bridged."""


class _Early:
    """What is heard of a chat before its portal is there."""

    def __init__(self) -> None:
        self.events: deque[tuple[LoginRow, RemoteEvent]] = deque(maxlen=_EARLY)
        self.is_ending = False
        """The portal is there: what comes now waits until this is put."""
        self.over = asyncio.Event()


class Portals:
    """All portals at work, by room and by remote chat."""

    def __init__(self, house: House) -> None:
        self._house = house
        self._by_room: dict[RoomId, list[Doorway]] = {}
        self._by_chat: dict[tuple[InstanceId, RemoteChatId, LoginId | None], Doorway] = {}
        self._by_number: dict[int, Doorway] = {}
        self._former = FormerRooms()
        self._early: dict[tuple[InstanceId, RemoteChatId], _Early] = {}
        self.on_tombstone: Callable[[Doorway, Item], Awaitable[None]]
        """Called when a room of ours was replaced."""
        self.on_empowered: Callable[[Doorway], None]
        """Called when people have let our bot do more in a room."""
        self.on_room: Callable[[RoomId, UserId], Awaitable[None]]
        """Called before a room that one of ours can read is tied: what was said there till then
        is not for the chat."""
        self.direct_chats: DirectChats

    async def load(self) -> None:
        """Open every stored portal. Call once, before events are dispatched."""
        for portal in await self._house.store.all():
            self._open(portal)

    @property
    def all(self) -> Sequence[Doorway]:
        """Every portal."""
        return list(self._by_chat.values())

    def in_room(self, room: RoomId) -> Sequence[Doorway]:
        """The portals of a room."""
        return self._by_room.get(room, ())

    def find(self, instance: InstanceId, chat: RemoteChatId) -> Doorway | None:
        """The portal of a chat that all logins share."""
        return self._by_chat.get((instance, chat, None))

    def numbered(self, number: int) -> Doorway | None:
        """The portal of that number."""
        return self._by_number.get(number)

    def refuse_second(self, room: RoomId, instance: InstanceId, chat: RemoteChat) -> None:
        """Raise ``PermanentFailure`` if the room has another chat of the network that all logins
        share: whose ghosts, and whose operators, are there could not be told apart."""
        for door in self.in_room(room):
            portal = door.portal
            if (portal.instance, portal.receiver) == (instance, None) and portal.chat != chat.id:
                raise PermanentFailure(
                    f"the room is bridged to {portal.chat_name} on {instance} already, and it can "
                    "have one chat of a network: say "
                    f"{as_typed(f'unbridge {instance} {portal.chat_name}')} there first, or "
                    f"{as_typed(f'bridge {instance} {chat.name}')} in another room"
                )

    def find_direct(
        self, instance: InstanceId, chat: RemoteChatId, receiver: LoginId | None
    ) -> Doorway | None:
        """The portal of a login's own chat."""
        return None if receiver is None else self._by_chat.get((instance, chat, receiver))

    def is_run_by(self, person: UserId, room: RoomId) -> bool:
        """Whether somebody's level stands for power in the room: an admin's does where we made
        it, since nobody else may have any."""
        allows = self._house.permissions.allows
        return any(
            door.facts.is_own_room and allows(person, Permission.ADMIN, door.portal.instance)
            for door in self.in_room(room)
        )

    async def has_power(self, person: UserId, room: RoomId, said: EventId | None = None) -> bool:
        """Whether somebody may decide how the room is bridged: by their level, or by the power
        that they had there when they said ``said``; without it, that which they have now.

        Raises :class:`MatrixError` and ``TemporaryFailure``.
        """
        if self.is_run_by(person, room):
            return True
        # Somebody who has left may still stand in the power levels.
        if said is None and not await self.is_member(person, room):
            return False
        return await self._house.intents.can(room, person, "m.bridge", at=said)

    async def is_member(self, person: UserId, room: RoomId) -> bool:
        """Whether somebody is in the room. Raises as :meth:`has_power` does."""
        return person in await self._house.intents.joined_members(room)

    def chats(self, instance: InstanceId, receiver: LoginId | None = None) -> Sequence[RemoteChat]:
        """The bridged chats of an instance that its logins share, or that are one login's alone,
        the newest last; none whose bridge was ended, though it waits to be untied."""
        found = [
            door for door in self.all
            if (door.portal.instance, door.portal.receiver) == (instance, receiver)
            and not door.facts.is_ended
        ]  # fmt: skip
        return [door.chat for door in sorted(found, key=lambda door: door.portal.id)]

    def shut(self, instance: InstanceId) -> Mapping[str, str]:
        """The chats of an instance whose rooms have put our bot out, and what that means."""
        return {
            door.portal.chat: "its room has put the bot out; nothing crosses until somebody "
            "invites it there again"
            for door in self.all
            if door.portal.instance == instance and door.is_shut and door.ends_in is None
        }  # fmt: skip

    def name_of(self, consumer: str) -> str:
        """For people, admins among them: whose lane it is; not whom somebody talks to alone."""
        door = self._of_lane(consumer)
        if door is None:
            return consumer
        portal = door.portal
        what = portal.chat_name if portal.receiver is None else "a direct chat"
        return f"{what} on {portal.instance}"

    def why_waiting(self, consumer: str) -> str:
        """Why the messages of a portal's lane wait; empty if they do not."""
        door = self._of_lane(consumer)
        return door.waits_because if door else ""

    def _of_lane(self, consumer: str) -> Doorway | None:
        number = consumer.rpartition(":")[2]
        door = self._by_number.get(int(number)) if number.isdecimal() else None
        return door if door is not None and door.name == consumer else None

    def is_double(self, event: dict[str, Any]) -> bool:
        """Whether a double puppet of ours said it."""
        return self._house.double_puppets.find_instance(event) is not None

    def of(self, event: dict[str, Any]) -> Sequence[Doorway]:
        """The portals that an event belongs to."""
        doors: Sequence[Doorway] = self.in_room(event["room_id"])
        more: Sequence[Doorway] = ()
        if event["type"] == "m.room.tombstone":
            # Some may have moved along, and what belongs to that have been cut off.
            more = self.in_room(RoomId(str(event["content"].get("replacement_room"))))
        elif event["type"] == "m.room.redaction":
            more = self._former.of(event["room_id"])
        return [*doors, *(door for door in more if door not in doors)] if more else doors

    def lanes(self, event: dict[str, Any]) -> Sequence[Lane]:
        """The lanes of those portals."""
        if not (doors := self.of(event)):
            return ()
        return [self._house.router.lane(door) for door in self._hearing(doors, event)]

    def is_shared(self, lane: Lane) -> bool:
        """Whether it is the lane of a portal whose chat is not one login's alone."""
        door = lane.consumer
        return isinstance(door, Doorway) and door.portal.receiver is None

    def _hearing(self, doors: Sequence[Doorway], event: dict[str, Any]) -> Sequence[Doorway]:
        """Those of a room's doors that an event goes through: none to where it came from."""
        namespaces = self._house.namespaces
        double = self._house.double_puppets.find_instance(event)
        if double is not None:
            return [door for door in doors if door.portal.instance != double]
        ghost = namespaces.parse_ghost(event["sender"]) if len(doors) > 1 else None
        if ghost is not None:
            return [door for door in doors if door.portal.instance != ghost[0]]
        return [] if namespaces.is_ours(event["sender"]) else doors

    async def add(
        self, *, instance: InstanceId, chat: RemoteChat, room: RoomId, created_by: UserId,
        receiver: LoginId | None = None,
    ) -> Doorway:  # fmt: skip
        """Tie the room to the chat; ``receiver``: it is that login's alone.

        Raises ``PermanentFailure`` if either is taken.
        """
        # A room of ours is there for the chat; in others people decide.
        follow = Follow.ALL if created_by == self._house.namespaces.bot else Follow.TOPIC
        await self._house.audit.record(
            actor=created_by, action=AuditAction.BRIDGE, subject=created_by,
            target=_target(instance, chat.id, room),
        )  # fmt: skip
        await self.on_room(room, self._house.namespaces.bot)
        portal = await self._house.store.add(
            instance=instance,
            chat=chat.id,
            chat_name=chat.name,
            room=room,
            receiver=receiver,
            created_by=created_by,
            follow=follow if receiver is None else Follow.NOTHING,
        )
        return self._open(portal)

    async def move(self, door: Doorway, room: RoomId, by: UserId, *, takes: bool = True) -> Plan:
        """Tie another room to the chat instead; ``takes``: with what waits for the old one.

        Gives what that is. Raises ``PermanentFailure`` if the room is taken, or the bridge over,
        and ``TemporaryFailure``; then it can be done again.
        """
        number, sender = door.portal.id, self._house.sender
        move = Move(sender, number, door.portal.room, room, takes=takes)
        await self.on_room(room, self._house.namespaces.bot)
        async with move.standstill():
            await move.look()
            async with sender.along.alone(number):
                if self._by_number.get(number) is not door:
                    raise PermanentFailure("the bridge has ended meanwhile")
                await self._record(AuditAction.MOVE, door, by)
                plan = await move.make()
                self._leave(door)
                self._former.move(door, room)
                self._by_room.setdefault(room, []).append(door)
        return plan

    async def call(self, door: Doorway, chat: RemoteChat) -> None:
        """Have the portal's chat go by another id and name, unless it ends meanwhile.

        Raises ``PermanentFailure`` if that is another portal's.
        """
        portal = door.portal
        await self._house.store.set_chat(portal.id, chat.id, chat.name)
        if self._by_number.get(portal.id) is not door:
            return
        self._by_chat.pop((portal.instance, portal.chat, portal.receiver), None)
        door.become(replace(door.portal, chat=chat.id, chat_name=chat.name))
        self._by_chat[portal.instance, chat.id, portal.receiver] = door
        self._tell_login(portal)

    async def remove(self, door: Doorway, by: UserId) -> None:
        """Untie the room. What is still in its lane is let go."""
        await self._record(AuditAction.UNBRIDGE, door, by)
        await self._house.store.remove(door.portal.id)
        self._close(door)

    async def end_login(self, row: LoginRow) -> None:
        """End what is a login's own, and what it was lent for. Raises ``TemporaryFailure``."""
        for door in self.all:
            if door.portal.relay == row.id and row.owner is not None:
                await door.voices.take_back(row.owner, "they have logged out of it")
        await self.direct_chats.end_all(row)

    def forget(self, person: UserId) -> None:
        """Forget which rooms a person bridged and what they were told: no row says so any more."""
        for door in self.all:
            door.turned_away.forget(person)
            if door.portal.created_by == person:
                door.portal = replace(door.portal, created_by=None)

    async def set_paused(self, door: Doorway, paused: bool, by: UserId) -> None:
        """Stop or resume what crosses, both ways.

        Raises ``PermanentFailure`` if it is to go on, and those who run the chat have ended it.
        """
        await self._store_paused(door, paused, by)
        await self._review(door)

    async def halt(self, door: Doorway, by: UserId) -> None:
        """Stop what crosses, and ask no homeserver for anything.

        Nothing is awaited once it is so: whoever goes on without awaiting comes before any other
        wish.
        """
        await self._store_paused(door, True, by)

    async def _store_paused(self, door: Doorway, paused: bool, by: UserId) -> None:
        # In the order in which they are said: the last one holds. Nothing is awaited after that.
        async with door.facts.pausing:
            if not paused:
                refuse_ended(door)
            await self._record(AuditAction.PAUSE if paused else AuditAction.RESUME, door, by)
            await self._house.store.set_paused(door.portal.id, paused)
            door.portal = replace(door.portal, paused=paused)

    async def choose(self, door: Doorway, wish: Wish, values: Mapping[str, str]) -> None:
        """Have the portal as somebody wishes (see ``core.portals.choices``).

        Raises ``PermanentFailure`` for what cannot be; then nothing changed.
        """
        attendance = door.arrivals.attendance
        async with door.facts.choosing:
            chosen = change_all(values, replace(wish, portal=door.portal))
            await self._record(AuditAction.SET, door, wish.person)
            await self._house.store.set_choices(chosen)
            mode, was = attendance.mode, door.portal
            # Only what is chosen: all else may have become another meanwhile.
            door.portal = chosen_as(door.portal, chosen)
            if attendance.mode is not mode:
                attendance.is_adapted = False
        if not attendance.is_adapted:
            await attendance.adapt()
        if chosen.follow is Follow.ALL and was.follow is not Follow.ALL:
            await door.facts.apply()
        elif chosen.follow is not was.follow:
            await door.facts.show()
        await door.facts.review()
        await door.dismiss_puppets()

    async def receive(self, instance: InstanceId, row: LoginRow, event: RemoteEvent) -> None:
        """Take an event from a module's client and put it where it belongs.

        Raises ``PermanentFailure`` for a direct message that is not wanted.
        """
        early = self._early.get((instance, event.chat))
        is_shared = (instance, event.chat, row.id) not in self._by_chat and not (
            isinstance(event, RemoteMessage) and event.direct
        )
        if early is not None and is_shared:
            if not early.is_ending:
                early.events.append((row, event))
                return
            # What was heard before it is put first.
            await early.over.wait()
        await self._put(instance, row, event)

    async def _put(self, instance: InstanceId, row: LoginRow, event: RemoteEvent) -> None:
        door = self._by_chat.get((instance, event.chat, row.id)) or self.find(instance, event.chat)
        if (
            door is not None and door.portal.receiver is not None
            and await is_ignored(self._house, row, event)
        ):  # fmt: skip
            self._house.telemetry.count_send("to_matrix", "dropped")
        elif door is not None and door.portal.receiver and isinstance(event, RemoteRename):
            await self.direct_chats.rename(door, event)
        elif door is not None:
            await door.receive(event)
        elif isinstance(event, RemoteMessage) and event.direct:
            await self.direct_chats.receive(row, event)

    async def let_speak(self, room: RoomId, user: UserId) -> None:
        """Let a ghost or a bot speak in a room: not everybody may while a chat is moderated.

        Raises ``TemporaryFailure`` when the database is away.
        """
        for door in self.in_room(room):
            await door.facts.let_speak(user)

    async def bot_came(self, bot: UserId, room: RoomId) -> None:
        """A bot of ours is in a room: it may speak there, and the main bot does what it missed.

        Raises ``TemporaryFailure`` when the database is away.
        """
        if bot != self._house.namespaces.bot:
            await self.let_speak(room, bot)
            return
        for door in self.in_room(room):
            # It may have been given power while it was out.
            door.facts.note_behind()
            self.on_empowered(door)
            await self._review(door)

    async def _review(self, door: Doorway) -> None:
        door.arrivals.attendance.review()
        await door.facts.review()

    def note_member(self, event: dict[str, Any]) -> None:
        """Learn who reads in a room, before what is said after that gets there."""
        for door in self.in_room(RoomId(event["room_id"])):
            door.audience.note(event)

    def forget_audiences(self) -> None:
        """Ask again who reads where: the homeserver may have kept events from us."""
        for door in self.all:
            door.audience.forget()

    def forget_listing(self, room: RoomId) -> None:
        """Forget whether the room is in its network's list."""
        for door in self.in_room(room):
            door.facts.forget_listing()

    def typing(self, room: RoomId, user: UserId, is_typing: bool) -> Sequence[Work]:
        """What is to be done when somebody in a room begins to write, or ceases to."""
        if self._house.namespaces.is_ours(user):
            return ()
        return [partial(door.show_typing, user, is_typing) for door in self.in_room(room)]

    def let_go(self, instance: InstanceId, user: RemoteUserId) -> None:
        """Have a person of the network who does not want to be bridged out of every room soon,
        without waiting for the homeserver."""
        for door in self.all:
            if door.portal.instance == instance:
                door.arrivals.attendance.let_go_soon(user)

    @asynccontextmanager
    async def expecting(self, instance: InstanceId, chat: RemoteChatId) -> AsyncIterator[None]:
        """Keep what is heard of a chat until its portal is there: a network tells who is in it
        when we come in, which is before the room is tied to it.

        It is put into the room before anything that comes after it, however long the database
        is away.
        """
        early = self._early[instance, chat] = _Early()
        try:
            yield
            early.is_ending = True
            while early.events:
                put = partial(self._put, instance, *early.events.popleft())
                with suppress(PermanentFailure, MatrixError):  # Refused: that one alone.
                    await persistently(put)
        finally:
            if self._early.get((instance, chat)) is early:
                del self._early[instance, chat]
            early.over.set()

    async def _record(self, action: AuditAction, door: Doorway, by: UserId) -> None:
        """Note it before it is done: nothing is done of which the audit does not know."""
        portal = door.portal
        await self._house.audit.record(
            actor=by, action=action, subject=portal.created_by,
            target=_target(portal.instance, portal.chat, portal.room),
        )  # fmt: skip

    def _open(self, portal: Portal) -> Doorway:
        door = Doorway(portal, self._house)
        door.on_tombstone = lambda item: self.on_tombstone(door, item)
        door.acts.on_empowered = lambda: self.on_empowered(door)
        door.comings.on_owner_left = lambda: self.direct_chats.end(door)
        door.facts.beside = lambda: [
            one.facts for one in self.in_room(door.portal.room) if one is not door
        ]
        door.arrivals.let_speak = lambda ghost: self.let_speak(door.portal.room, ghost)
        self._by_room.setdefault(portal.room, []).append(door)
        self._by_chat[portal.instance, portal.chat, portal.receiver] = door
        self._by_number[portal.id] = door
        self._former.note(door)
        self._tell_login(portal)
        return door

    def _close(self, door: Doorway) -> None:
        portal = door.portal
        self._leave(door)
        if self._by_chat.get(key := (portal.instance, portal.chat, portal.receiver)) is door:
            del self._by_chat[key]
        self._by_number.pop(portal.id, None)
        self._former.forget(door)
        door.arrivals.attendance.end()
        self._house.catching_up.forget(door.facts, door.arrivals.attendance)
        door.voices.are_over = True
        self._house.router.close_lane(door.name)
        self._tell_login(portal)

    def _leave(self, door: Doorway) -> None:
        doors = [one for one in self._by_room.pop(door.portal.room, ()) if one is not door]
        if doors:
            self._by_room[door.portal.room] = doors

    def _tell_login(self, portal: Portal) -> None:
        """Have a login know which chats are its own now."""
        instance = self._house.instances.get(portal.instance)
        if portal.receiver is not None and instance is not None:
            instance.tell_chats(portal.receiver)


def _target(instance: InstanceId, chat: RemoteChatId, room: RoomId) -> str:
    return f"{instance} {chat} {room}"
