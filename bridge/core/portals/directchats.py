"""Direct chats: one login and one person of its network, in a room of their own."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

from bridge.core.host.finding import find_user, is_there
from bridge.core.host.instances import Instance, Session
from bridge.core.logins.ownlogins import own_login, refuse_none
from bridge.core.outbox.outgoing import once
from bridge.core.permissions.frequency import Frequency
from bridge.core.permissions.optouts import EVERYWHERE
from bridge.core.portals.callings import call_in
from bridge.core.portals.directrooms import DirectRooms, Key
from bridge.core.portals.ignored import is_ignored
from bridge.core.portals.invitations import Invitations
from bridge.core.rooms.house import House
from bridge.core.rooms.standing import is_left_out
from bridge.core.traffic.bothsides import say_here
from bridge.core.traffic.doorway import Doorway
from bridge.core.traffic.roomacts import refuse_late
from bridge.matrix.cache import Recent
from bridge.matrix.client import MatrixError, failure_of, heed_token
from bridge.model import LoginRow, Members, Outgoing, Permission, Portal, SendKind
from bridge.sdk.errors import DeliveryUncertain, PermanentFailure, TemporaryFailure
from bridge.sdk.events import RemoteChat, RemoteMessage, RemoteRename, RemoteUser, Sender
from bridge.sdk.ids import InstanceId, LoginId, RemoteChatId, RemoteUserId, RoomId, UserId
from bridge.sdk.module import FindsChats, HasDirectChats

if TYPE_CHECKING:
    from bridge.core.portals.portals import Portals

log = logging.getLogger(__name__)

NEW_MOST, NEW_SECONDS = 10, 600.0
"""How many rooms people of a network may open for one person in that time."""
_AT_ONCE = 30_000
"""Milliseconds between the invitations of the bot and of a ghost that are one: clients make a room
and invite everybody at once, in whatever order."""
_ENCRYPTED = "I cannot read encrypted messages yet; I invite you to a chat that is not encrypted"


class DirectChats:
    """Makes them, from either side, and ends them."""

    def __init__(
        self,
        house: House,
        portals: "Portals",
        move_in: Callable[[UserId, RoomId], Awaitable[None]],
        invitations: Invitations,
    ) -> None:
        """``move_in`` notes that a bot of ours is in a room."""
        self._house = house
        self._portals = portals
        self._move_in = move_in
        self._invitations = invitations
        self._rooms = DirectRooms(house, move_in)
        self._making: WeakValueDictionary[Key, asyncio.Lock] = WeakValueDictionary()
        """Held by whoever looks whether there is a chat, until there is one."""
        self.is_ending: Callable[[LoginId], bool]
        """Whether a login is being ended: it has no new chats."""
        self._opened = Frequency(NEW_MOST, NEW_SECONDS)
        self._ending: set[int] = set()
        """The portals of chats whose rooms are being left."""
        self._brought: Recent[tuple[RoomId, UserId], bool] = Recent(1000)
        """Where a ghost that is coming has the bot with it already: it comes again after it was
        cut off, or (False) the bot was invited as well and stays whatever becomes of it."""
        self._with_bot: Recent[RoomId, tuple[UserId, int]] = Recent(1000)
        """Into which rooms the bot was invited for a direct chat: by whom, and when (ms)."""
        self._answered: Recent[str, str] = Recent(1000)
        """What came of inviting people into chats, by event: what is tried again is the answer,
        and nobody is invited twice. Empty: they were there already."""

    # --- from the network ---

    async def receive(self, row: LoginRow, event: RemoteMessage) -> None:
        """Take what somebody said to one login alone, for which there is no room yet.

        Raises ``PermanentFailure`` if its owner is not to have it, ``TemporaryFailure`` when the
        database or the homeserver is away.
        """
        owner, house = row.owner, self._house
        if owner is None or not house.permissions.allows(owner, Permission.USER, row.instance):
            raise PermanentFailure("nobody here takes messages of this kind")
        if house.optouts.cover(owner, EVERYWHERE):
            raise PermanentFailure("they take no messages of this kind")
        if is_left_out(house, row.instance, event.sender, EVERYWHERE):
            return
        if await is_ignored(house, row, event):
            return
        door = await self._have(row, event.sender, owner, is_called=True)
        await door.receive(event)

    async def rename(self, door: Doorway, event: RemoteRename) -> None:
        """Go on with the same person under another name; raises ``TemporaryFailure``."""
        portal, new = door.portal, event.new
        if portal.receiver is None:
            return  # In a chat of many it is no matter of the chat.
        chat = RemoteChatId(new.id)
        # Somebody may be about to have a chat with whoever has the new name.
        async with self._lock((portal.receiver, chat)):
            if self._has_ended(door):
                return
            other = self._portals.find_direct(portal.instance, chat, portal.receiver)
            if other is not None and other is not door:
                await self._house.sender.put([say_here(
                    self._house, portal.room, f"{event.old.name} is called {new.name} now. "
                    f"That goes on in {other.portal.room}",
                )])  # fmt: skip
                return
            await door.arrivals.receive(event)
            await self._portals.call(door, RemoteChat(id=chat, name=new.name))
            if self._has_ended(door):  # Meanwhile: our bot would come into its room again.
                return
            if portal.chat_name != new.name:
                await self._house.sender.put([self._named(portal.room, new.name)])

    # --- from Matrix ---

    async def query(self, instance: Instance, person: Sender, text: str, room: RoomId) -> str:
        """Have a chat with whoever is named; give the answer. Raises a ``DeliveryError``."""
        row, user = await self._prepare(instance, person, text, room, looks=True)
        owner = person.user_id
        door = self._portals.find_direct(instance.name, RemoteChatId(user.id), row.id)
        if door is None:
            door = await self._have(row, user, owner)
            return f"You are invited to a direct chat with {user.name}: {door.portal.room}"
        if owner in await self._house.intents.joined_members(door.portal.room):
            return f"You have a direct chat with {user.name}: {door.portal.room}"
        try:
            await self._invite_again(door, owner)
        except MatrixError as error:
            refusal = f"I cannot invite you to {door.portal.room}: {error.message}"
            raise failure_of(error, refusal) from error
        return f"You are invited to your direct chat with {user.name}: {door.portal.room}"

    def is_in(self, room: RoomId) -> bool:
        """Whether the room is somebody's direct chat with a person of a network."""
        return any(door.portal.receiver is not None for door in self._portals.in_room(room))

    def note_bot(
        self, bot: UserId, inviter: UserId, room: RoomId, event: Mapping[str, Any]
    ) -> None:
        """The main bot is invited for a direct chat: a ghost's that is invited with it, maybe."""
        at = event.get("origin_server_ts")
        if bot == self._house.namespaces.bot and isinstance(at, int):
            self._with_bot.put(room, (inviter, at))

    def _is_with_bot(self, inviter: UserId, room: RoomId, event: Mapping[str, Any]) -> bool:
        by, at = self._with_bot.get(room) or ("", 0)
        now = event.get("origin_server_ts")
        return by == inviter and isinstance(now, int) and 0 <= now - at <= _AT_ONCE

    async def invited(
        self, ghost: UserId, inviter: UserId, room: RoomId, *, direct: bool, encrypted: bool,
        event: Mapping[str, Any],
    ) -> None:  # fmt: skip
        """Somebody invites a ghost: come, or decline with the reason. Into a portal's room comes
        whoever is in its chat; another is invited there.

        Raises ``TemporaryFailure`` when database, homeserver or network are away.
        """
        try:
            if self._house.namespaces.parse_ghost(ghost) is None:
                reason = "no network that is switched on here has anybody of that name"
            elif direct or all(one.portal.receiver for one in self._portals.in_room(room)):
                if self._is_with_bot(inviter, room, event):
                    self._brought.put((room, ghost), False)
                reason = await self._come(ghost, inviter, room, direct=direct, encrypted=encrypted)
            else:
                reason = await self._call_in(ghost, inviter, room, event)
        except PermanentFailure as error:
            reason = str(error)
        except MatrixError as error:
            heed_token(error)
            reason = f"the homeserver refuses it: {error.message}"
        self._brought.drop((room, ghost))
        if reason:
            await self._invitations.decline(room, ghost, reason[:1].upper() + reason[1:])

    async def _come(
        self, ghost: UserId, inviter: UserId, room: RoomId, *, direct: bool, encrypted: bool
    ) -> str:
        """Have the chat in that room; why it is in another, if it is."""
        house = self._house
        found = house.namespaces.parse_ghost(ghost)
        instance = house.instances.get(found[0]) if found else None
        if found is None or instance is None:
            raise PermanentFailure("this network is not switched on")
        if not direct:
            raise PermanentFailure("people of a network come to direct chats alone")
        if doors := self._portals.in_room(room):
            if not any(self._is_between(door.portal, ghost, inviter) for door in doors):
                raise PermanentFailure("this room is bridged already")
            # We were cut off as we came.
            await self._invitations.accept(room, ghost, doors[0].portal.chat_name)
            await self._move_in(house.namespaces.bot, room)
            return ""
        if not house.permissions.allows(inviter, Permission.USER, instance.name):
            raise PermanentFailure("the settings of this bridge do not let you do that")
        person = Sender(user_id=inviter, name=inviter[1:].partition(":")[0])
        row, user = await self._prepare(instance, person, found[1], room, is_in=False)
        if house.namespaces.ghost(instance.name, user.id) != ghost:
            raise PermanentFailure("nobody can have that name there")
        key = (row.id, RemoteChatId(user.id))
        async with self._lock(key):
            self._refuse_ending(row)
            existing = self._portals.find_direct(instance.name, key[1], row.id)
            if existing is None and not encrypted:
                await self._settle(ghost, inviter, room, user)
                await self._rooms.give_up(key)
                # The bot hears there only once the chat is open: what is said meanwhile waits for
                # both.
                await self._tie(row, user, inviter, room)
                await self._move_in(house.namespaces.bot, room)
                return ""
        if existing is not None:
            await self._invite_again(existing, inviter)
            return f"you have a chat with {user.name} already: {existing.portal.room}"
        door = await self._have(row, user, inviter)
        return f"{_ENCRYPTED}: {door.portal.room}"

    async def _call_in(
        self, ghost: UserId, inviter: UserId, room: RoomId, event: Mapping[str, Any]
    ) -> str:
        """Invite a person into the room's chat; what to say of it, nothing if they are there."""
        answer = self._answered.get(str(event["event_id"]))
        if answer:
            return answer
        found, portals = self._house.namespaces.parse_ghost(ghost), self._portals
        door = next((
            one for one in portals.in_room(room)
            if found and one.portal.instance == found[0] and one.portal.receiver is None
        ), None)  # fmt: skip
        if found is None or door is None:
            raise PermanentFailure("this room is not bridged to their network")
        person, what = RemoteUserId(found[1]), f"{door.portal.chat_name} on {door.portal.instance}"
        if answer is None:
            by_relay = await portals.has_power(inviter, room)
            try:
                refuse_late(event, self._house.clock.now())
                await self._check_name(door.portal.instance, ghost, found[1])
                is_new = await call_in(self._house, door, person, inviter, by_relay=by_relay)
                answer = f"They are invited into {what} now" if is_new else ""
            except DeliveryUncertain as error:
                answer = (
                    f"they may have been invited into {what}: {str(error).rstrip('.')}; if they "
                    "know nothing of it, invite them again"
                )
            except TemporaryFailure as error:
                again = f"{str(error).rstrip('.')}; invite them again"
                answer = f"they are not invited into {what}: {again}"
            except PermanentFailure as error:
                answer = f"they are not invited into {what}: {error}"
            self._answered.put(str(event["event_id"]), answer)
        if answer:
            return answer
        attendance = door.arrivals.attendance
        if attendance.mode is Members.NONE:
            return f"They are in {what}, of which nobody is shown here (members is none)"
        await attendance.let_in(
            person, lambda user: self._invitations.accept(room, ghost, user.name)
        )
        return ""

    async def _check_name(self, name: InstanceId, ghost: UserId, text: str) -> None:
        """Raise a ``DeliveryError`` unless the network writes the ghost's person that way: of
        several spellings one is theirs."""
        instance = self._house.instances.get(name)
        if instance is None:
            raise PermanentFailure("this network is not switched on")
        user = await find_user(instance, text)
        if self._house.namespaces.ghost(name, user.id) != ghost:
            raise PermanentFailure("nobody can have that name there")

    def _is_between(self, portal: Portal, ghost: UserId, owner: UserId) -> bool:
        """Whether it is the direct chat of just these two."""
        is_ghosts = self._house.namespaces.ghost(portal.instance, portal.chat) == ghost
        return is_ghosts and portal.receiver is not None and portal.created_by == owner

    async def _settle(
        self, ghost: UserId, inviter: UserId, room: RoomId, user: RemoteUser
    ) -> None:
        """Be in a room that somebody made, with the bot, and with nobody else."""
        intents, bot = self._house.intents, self._house.namespaces.bot
        await self._invitations.accept(room, ghost, user.name)
        # A bot that was there before is refused here, and stays there.
        if self._brought.get((room, ghost)) is None:
            await intents.invite(room, ghost, bot)
            self._brought.put((room, ghost), True)
        await intents.ensure_joined(room, bot)
        others = set(await intents.joined_members(room)) - {ghost, bot, inviter}
        if others or await intents.is_encrypted(room):
            if self._brought.get((room, ghost)):
                await intents.leave(room, bot)
            raise PermanentFailure("that is no chat of us two, or it is encrypted")

    async def _prepare(
        self, instance: Instance, person: Sender, text: str, room: RoomId, *,
        is_in: bool = True, looks: bool = False,
    ) -> tuple[LoginRow, RemoteUser]:  # fmt: skip
        """Whose chat it will be, and with whom; people are told before they get a connection.

        ``is_in``: our bot is in the room; else the person is told in a direct chat of the bot's.
        ``looks``: for a new chat there must be such a person now; nobody gets a connection to
        hear that there is not.
        """
        connector, house = instance.connector, self._house
        if not isinstance(connector, FindsChats) or not isinstance(connector, HasDirectChats):
            raise PermanentFailure(f"nobody can be talked to alone on {instance.name}")
        if not instance.is_open:
            raise TemporaryFailure(f"{instance.name} is starting", retry_after=0.5)
        await instance.wait_until_connected(2)
        user = await find_user(instance, text)
        connector.direct_chat(user)
        rules = house.rules(instance.name)
        if not is_in:
            rules = replace(rules, announce_direct=True)
        refuse_none(instance, person, rules)
        own = instance.find_session(person.user_id)
        chat = RemoteChatId(user.id)
        is_new = own is None or not self._portals.find_direct(instance.name, chat, own.row.id)
        if looks and is_new and not await is_there(instance, user):
            raise PermanentFailure(f"nobody on {instance.name} is called {user.name} now")
        session: Session = await own_login(instance, person, room, rules, house.announcer)
        return session.row, user

    # --- both ---

    def _lock(self, key: Key) -> asyncio.Lock:
        return self._making.setdefault(key, asyncio.Lock())

    def _refuse_ending(self, row: LoginRow) -> None:
        if self.is_ending(row.id):
            raise PermanentFailure("they are logging out just now")

    async def _have(
        self, row: LoginRow, user: RemoteUser, owner: UserId, *, is_called: bool = False
    ) -> Doorway:
        """The chat's portal, with a room made for it if need be.

        ``is_called``: it is somebody of the network who begins it.
        """
        key = (row.id, RemoteChatId(user.id))
        async with self._lock(key):
            door = self._portals.find_direct(row.instance, key[1], row.id)
            if door is not None:
                return door
            self._refuse_ending(row)
            is_new = is_called and not self._rooms.is_begun(key)
            if is_new and not self._opened.count(owner):
                raise PermanentFailure("too many people write to them for the first time just now")
            ghost = self._house.namespaces.ghost(row.instance, user.id)
            try:
                room = await self._rooms.make(key, ghost, owner, user.name)
                door = await self._tie(row, user, owner, room)
            except PermanentFailure:
                await self._rooms.give_up(key)
                raise
            self._rooms.settle(key)
            return door

    async def _tie(self, row: LoginRow, user: RemoteUser, owner: UserId, room: RoomId) -> Doorway:
        door = await self._portals.add(
            instance=row.instance, chat=RemoteChat(id=RemoteChatId(user.id), name=user.name),
            room=room, created_by=owner, receiver=row.id,
        )  # fmt: skip
        log.info("a direct chat is open", extra={"event": "direct_chat", "instance": row.instance})
        return door

    async def _invite_again(self, door: Doorway, owner: UserId) -> None:
        room = door.portal.room
        member = await self._house.intents.state(room, "m.room.member", owner) or {}
        if member.get("membership") not in {"join", "invite"}:
            await self._house.intents.invite(room, self._house.namespaces.bot, owner)

    # --- the end ---

    def _has_ended(self, door: Doorway) -> bool:
        number = door.portal.id
        return number in self._ending or self._portals.numbered(number) is not door

    async def end(self, door: Doorway, why: str = "") -> None:
        """End a chat: ghost and bot leave its room, which is told ``why``.

        Raises ``TemporaryFailure`` when the database is away; then it can be done again.
        """
        # It does not move to another room meanwhile.
        along, portals = self._house.sender.along, {door.portal.id}
        await along.hold(portals)
        try:
            await self._end(door, why)
        finally:
            along.release(portals)

    async def _end(self, door: Doorway, why: str) -> None:
        portal, house = door.portal, self._house
        try:
            ghosts = sorted(await door.arrivals.attendance.present())
        except TemporaryFailure:  # We know without asking whose chat it is.
            ghosts = [house.namespaces.ghost(portal.instance, portal.chat)]
        said = [say_here(house, portal.room, why)] if why else []
        self._ending.add(portal.id)
        try:
            await house.sender.put([*said, *(
                Outgoing(room=portal.room, user=one, kind=SendKind.LEAVE, content={},
                         transaction_id=once())
                for one in (*ghosts, house.namespaces.bot)
            )])  # fmt: skip
            await self._portals.remove(door, portal.created_by or house.namespaces.bot)
        finally:
            self._ending.discard(portal.id)

    async def end_all(self, row: LoginRow) -> None:
        """End the chats of a login that its owner ends. Raises ``TemporaryFailure``."""
        for key, lock in list(self._making.items()):
            if key[0] == row.id:
                async with lock:  # One that is being made is there then.
                    pass
        await self._rooms.give_up_all(row.id)
        # One that was made automatically has no name.
        what = f"login {row.name} on" if row.name else "connection to"
        for door in self._of(row):
            await self.end(door, f"Your {what} {row.instance} has ended, and this chat with it.")

    def _of(self, row: LoginRow) -> list[Doorway]:
        return [door for door in self._portals.all if door.portal.receiver == row.id]

    def _named(self, room: RoomId, name: str) -> Outgoing:
        return Outgoing(
            room=room, user=self._house.namespaces.bot, kind=SendKind.STATE, type="m.room.name",
            content={"name": name}, transaction_id=once(),
        )  # fmt: skip
