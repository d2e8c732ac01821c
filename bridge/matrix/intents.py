"""Acting as one of our Matrix users: register, join, speak, leave."""

import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any

from bridge.matrix.aliases import RoomAliases
from bridge.matrix.cache import Recent
from bridge.matrix.client import (
    HomeserverClient,
    MatrixError,
    event_id_of,
    failure_of,
    path,
    quoted,
    room_id_of,
)
from bridge.matrix.dates import dating
from bridge.matrix.devices import DeviceOf, Devices
from bridge.matrix.evictions import Evictions
from bridge.matrix.invited import invitations_of
from bridge.matrix.members import Members
from bridge.matrix.namespaces import Namespaces
from bridge.matrix.powers import Powers, Speaking
from bridge.matrix.removals import Removals
from bridge.matrix.roomlists import RoomLists
from bridge.matrix.rooms import RoomQuestions
from bridge.model import Outgoing, SendKind
from bridge.sdk.errors import PermanentFailure
from bridge.sdk.ids import EventId, RoomId, UserId

log = logging.getLogger(__name__)

_LONGEST_NAME = 250

MARK = "org.trestle.id"
"""In the content of what we send: the transaction id, by which it is found again in the room."""

AsDouble = Callable[[Outgoing], Awaitable[EventId | None]]


class Intents:
    """Does things as ghosts and bots, with what they need before: an account, a device, a seat.

    What is known to be so is remembered in bounded caches; a refusal that shows a cache to be
    wrong clears the entry, and the step is done again, once.
    """

    def __init__(
        self,
        client: HomeserverClient,
        namespaces: Namespaces,
        *,
        device_of: DeviceOf,
        bot_name: str = "Trestle",
        as_double: AsDouble | None = None,
    ) -> None:
        """``as_double`` says it with a person's own account, or gives None if that cannot be."""
        self._client = client
        self._namespaces = namespaces
        self._devices = Devices(client, device_of)
        self._bot_name = bot_name
        self._as_double = as_double
        self.before_saying: Callable[[Outgoing], None] = _let
        """Called when an event only has to be put; raises what keeps it from that."""
        self._rooms = RoomQuestions(client, namespaces.bot)
        self._registered: Recent[UserId, bool] = Recent(20_000)
        self._names: Recent[UserId, str] = Recent(20_000)
        self._joined: Recent[tuple[RoomId, UserId], bool] = Recent(50_000)
        self.on_came_in: Callable[[Outgoing], Awaitable[None]] = _nothing
        """Called before something is said for which somebody had to come in first, which may
        have taken long: raises what keeps it from being said by now."""
        self.evictions = Evictions(self._rooms, namespaces.is_bot)
        self._members = Members(self._rooms)
        self.cached_name = self._members.cached_name
        self.display_name = self._members.display_name
        self.avatar = self._members.avatar
        self.state = self._rooms.state
        self.state_event = self._rooms.state_event
        self.states = self._rooms.states
        self.see_encryption = self._rooms.see_encryption
        self.who_can = self._rooms.who_can
        self.joined_members = self._rooms.joined_members
        self.can = self._rooms.can
        self.room_name = self._rooms.name
        self.may_remove = self._rooms.may_remove
        self.event = self._rooms.event
        self.find_content = self._rooms.find_content
        self.read_said = self._rooms.read_said
        aliases = RoomAliases(client, namespaces.bot)
        self.room_at = aliases.find_room
        self.put_alias = aliases.put
        self.aliases_of = aliases.of
        self.delete_alias = aliases.delete
        lists = RoomLists(client, namespaces.bot)
        self.is_listed = lists.is_listed
        self.set_listed = lists.set_listed
        self.set_listed_in = lists.set_listed_in
        self._powers = Powers(client, self._rooms, namespaces)
        self._removals = Removals(client, self._rooms, namespaces.is_ours)
        self.is_taken_back = self._rooms.is_taken_back

    # --- the outbox's door ---

    async def send(self, outgoing: Outgoing) -> EventId | None:
        """Do one thing in a room; give the event's id where there is one.

        Raises ``TemporaryFailure`` to be tried again with the same transaction id, and
        ``PermanentFailure`` with the homeserver's reason.
        """
        try:
            return await self._do(outgoing)
        except MatrixError as error:
            if error.errcode == "M_DUPLICATE_ANNOTATION":
                return None  # The reaction is there.
            raise failure_of(error) from error

    async def _do(self, outgoing: Outgoing) -> EventId | None:
        match outgoing.kind:
            case SendKind.REDACT:
                return await self._redact(outgoing)
            case SendKind.EVENT:
                if outgoing.double and self._as_double is not None:
                    event_id = await self._as_double(outgoing)
                    if event_id is not None:
                        return event_id
                return await self._speak(outgoing)
            case SendKind.STATE:
                return await self._set_state(outgoing)
            case SendKind.JOIN:
                await self.ensure_joined(outgoing.room, outgoing.user, outgoing.name)
            case SendKind.LEAVE:
                reason = str(outgoing.content.get("reason", ""))
                await self.leave(outgoing.room, outgoing.user, reason=reason)
            case SendKind.POWERS:
                content = outgoing.content
                speaking = content.get("speaking")
                await self._powers.change(
                    outgoing.room, outgoing.user, content["users"], content["all_of"],
                    Speaking(**speaking) if speaking else None,
                )  # fmt: skip
            case SendKind.KICK | SendKind.BAN | SendKind.UNBAN:
                await self._come(outgoing)
                await self._removals.do(outgoing)
            case SendKind.LIST:
                instance, is_listed = outgoing.content["instance"], outgoing.content["listed"]
                await self.set_listed_in(instance, outgoing.room, is_listed)
        return None

    async def _come(self, outgoing: Outgoing) -> None:
        room, user, name = outgoing.room, outgoing.user, outgoing.name
        is_called = not name or self._names.get(user) == name
        if not (is_called and self._registered.get(user) and self._joined.get((room, user))):
            await self.ensure_joined(room, user, name)
            await self.on_came_in(outgoing)

    async def _speak(self, outgoing: Outgoing) -> EventId:
        await self._come(outgoing)
        mended: set[str] = set()
        while True:
            try:
                return await self._put_event(outgoing)
            except MatrixError as error:
                if error.errcode in mended or not await self._mend(outgoing, error.errcode):
                    raise
                mended.add(error.errcode)

    async def _mend(self, outgoing: Outgoing, errcode: str) -> bool:
        """Restore what the homeserver has lost; False if that is not the trouble.

        One that was restored from an older copy may have lost all of it.
        """
        room, user = outgoing.room, outgoing.user
        if errcode == "M_UNKNOWN_DEVICE":
            await self._devices.make(user)
        elif errcode == "M_FORBIDDEN" and self._joined.get((room, user)):
            self._joined.drop((room, user))
            self.evictions.ask_anew(room, user)
            await self._come(outgoing)
        else:
            return False
        return True

    async def _redact(self, outgoing: Outgoing) -> EventId:
        """Take it back as whoever said it; else as the bot, which may have the power to."""
        bot = self._namespaces.bot
        try:
            return await self._speak(outgoing)
        except MatrixError as error:
            if error.errcode != "M_FORBIDDEN" or outgoing.user == bot:
                raise
        return await self._speak(replace(outgoing, user=bot, name=""))

    async def _put_event(self, outgoing: Outgoing) -> EventId:
        # The path's bytes are the homeserver's key for telling a retry; the query is not in it.
        content, query = outgoing.content, None
        if outgoing.kind is SendKind.REDACT:
            there = f"{path('v3', 'rooms', outgoing.room, 'redact')}/{quoted(outgoing.target)}"
        else:
            there = path("v3", "rooms", outgoing.room, "send", outgoing.type)
            content = {**content, MARK: outgoing.transaction_id}
            query = dating(outgoing)
        place = f"{there}/{quoted(outgoing.transaction_id)}"
        device = await self._devices.find(outgoing.user)
        self.before_saying(outgoing)
        reply = await self._client.request(
            "PUT", place, user=outgoing.user, device=device, query=query, content=content
        )
        return event_id_of(reply)

    async def _set_state(self, outgoing: Outgoing) -> EventId:
        await self.ensure_joined(outgoing.room, outgoing.user, outgoing.name)
        place = path("v3", "rooms", outgoing.room, "state", outgoing.type, outgoing.state_key)
        reply = await self._client.request(
            "PUT", place, user=outgoing.user, content=outgoing.content
        )
        return event_id_of(reply)

    # --- accounts ---

    def doubt(self) -> None:
        """Ask anew who has an account, a name and a seat: the homeserver may have forgotten it."""
        self._registered.clear()
        self._names.clear()
        self._joined.clear()
        self._members.doubt()
        self.evictions.doubt()

    async def ensure_registered(self, user: UserId, name: str = "") -> None:
        """Have the user's account, called ``name``."""
        if self._registered.get(user) is None:
            await self._register(user)
            self._registered.put(user, True)
        if name and self._names.get(user) != name:
            await self._set_name(user, name)

    async def _register(self, user: UserId) -> None:
        localpart = user[1:].partition(":")[0]
        content = {
            "type": "m.login.application_service",
            "username": localpart,
            "inhibit_login": True,
        }
        try:
            await self._client.request("POST", path("v3", "register"), content=content)
            self._names.put(user, "")
        except MatrixError as error:
            if error.errcode == "M_USER_IN_USE":
                return
            if error.errcode == "M_EXCLUSIVE":
                raise PermanentFailure(
                    f"the homeserver does not let us make {user}: the registration it has read "
                    "does not hold our namespaces; compare registration.yaml, and restart it"
                ) from error
            raise failure_of(error) from error

    async def _set_name(self, user: UserId, name: str) -> None:
        if self._names.get(user) is None and await self._name_of(user) == name[:_LONGEST_NAME]:
            # To set it anew would have Synapse join the user to all its rooms again, one by one,
            # those that it leaves meanwhile too.
            self._names.put(user, name)
            return
        try:
            await self._client.request(
                "PUT", path("v3", "profile", user, "displayname"),
                user=user, content={"displayname": name[:_LONGEST_NAME]},
            )  # fmt: skip
        except MatrixError as error:
            log.info("a name is not set: %s", error, extra={"event": "name_refused"})
        self._names.put(user, name)

    async def _name_of(self, user: UserId) -> str:
        """What the homeserver calls the user; empty if it does not say."""
        where = path("v3", "profile", user, "displayname")
        try:
            reply = await self._client.request("GET", where, user=user)
        except MatrixError:
            return ""
        return str(reply.get("displayname") or "")

    async def learn_device_support(self) -> bool:
        """Find out whether the homeserver lets us act as a device (MSC4326), and remember it."""
        bot = self._namespaces.bot
        await self.ensure_registered(bot, self._bot_name)
        return await self._devices.learn_support(bot)

    # --- rooms ---

    async def open_invitations(self, user: UserId) -> list[dict[str, Any]] | None:
        """What :func:`invitations_of` tells of a bot; raises as it does."""
        device = await self._devices.name(user)
        try:
            return await invitations_of(self._client, user, device)
        except MatrixError as error:
            if error.errcode != "M_UNKNOWN_DEVICE":
                raise
        await self._devices.make(user)
        return await invitations_of(self._client, user, device)

    def is_in(self, room: RoomId, user: UserId) -> bool:
        """Whether the user is known to be in the room."""
        return bool(self._joined.get((room, user)))

    async def ensure_joined(self, room: RoomId, user: UserId, name: str = "") -> None:
        """Have the user in the room, invited by the main bot where that is needed.

        Raises ``PermanentFailure`` with the reason when the room stays closed, or when the user is
        a bot that was put out of it.
        """
        was_there = self._registered.get(user) is not None
        await self.ensure_registered(user, name)
        if self._joined.get((room, user)):
            return
        try:
            if self._namespaces.is_bot(user) and await self.evictions.find(room, user):
                raise PermanentFailure(f"{user} was put out of the room; invite it there again")
            try:
                await self._come_in(room, user)
            except MatrixError as error:
                if error.errcode != "M_FORBIDDEN" or not was_there:
                    raise
                # It may be the user that the homeserver does not know, and not the room.
                self._registered.drop(user)
                self._names.drop(user)
                await self.ensure_registered(user, name)
                await self._come_in(room, user)
        except MatrixError as error:
            raise failure_of(error, f"{user} cannot join the room: {error.message}") from error
        self._joined.put((room, user), True)

    async def _come_in(self, room: RoomId, user: UserId) -> None:
        bot = self._namespaces.bot
        try:
            await self._join(room, user)
        except MatrixError as error:
            if error.errcode not in {"M_FORBIDDEN", "M_UNKNOWN"} or user == bot:
                raise
            await self.invite(room, bot, user)
            await self._join(room, user)

    async def _join(self, room: RoomId, user: UserId) -> None:
        await self._client.request("POST", path("v3", "rooms", room, "join"), user=user)

    async def join_by(self, room: RoomId, user: UserId, server: str) -> None:
        """Have the user in a room that a server knows. Raises :class:`MatrixError`."""
        await self.ensure_registered(user)
        await self._client.request(
            "POST", path("v3", "join", room), user=user, query={"server_name": server}
        )
        self._joined.put((room, user), True)

    async def enter(self, name: str, user: UserId) -> RoomId:
        """Have one of our bots in a room, by its alias or id; give the id.

        Raises ``PermanentFailure`` with the reason when the room stays closed.
        """
        await self.ensure_registered(user)
        try:
            reply = await self._client.request("POST", path("v3", "join", name), user=user)
        except MatrixError as error:
            raise failure_of(error, f"{user} cannot join {name}: {error.message}") from error
        room = room_id_of(reply)
        self._joined.put((room, user), True)
        return room

    async def invite(self, room: RoomId, inviter: UserId, user: UserId) -> None:
        """Invite, as a user who is in the room. Raises :class:`MatrixError`."""
        self.evictions.forgive(room, user)
        await self._client.request(
            "POST", path("v3", "rooms", room, "invite"), user=inviter, content={"user_id": user}
        )

    async def kick(self, room: RoomId, by: UserId, user: UserId, reason: str) -> None:
        """Remove somebody, as a user who may. Raises :class:`MatrixError`."""
        content = {"user_id": user, "reason": reason}
        place = path("v3", "rooms", room, "kick")
        await self._client.request("POST", place, user=by, content=content)

    async def leave(self, room: RoomId, user: UserId, *, reason: str = "") -> None:
        """Have the user out of the room (or its invitation declined)."""
        content = {"reason": reason[:500]} if reason else {}
        try:
            await self._client.request(
                "POST", path("v3", "rooms", room, "leave"), user=user, content=content
            )
        except MatrixError as error:
            if error.errcode not in {"M_FORBIDDEN", "M_NOT_FOUND", "M_UNKNOWN"}:
                raise
            # It is not in there: what was asked is so.
        self._joined.drop((room, user))

    async def create_room(
        self,
        user: UserId,
        *,
        invite: Sequence[UserId] = (),
        is_direct: bool = False,
        preset: str = "private_chat",
        name: str = "",
        alias: str = "",
        mark: str = "",
    ) -> RoomId:
        """Make a room as one of our users. Raises ``PermanentFailure`` with the reason.

        ``mark`` stands in its ``m.room.create``, as :data:`MARK`. It is not encrypted: what we
        make, we must be able to read.
        """
        await self.ensure_registered(user)
        content: dict[str, Any] = {
            "preset": preset,
            "is_direct": is_direct,
            "invite": list(invite),
        }
        if name:
            content["name"] = name
        if alias:
            content["room_alias_name"] = alias[1:].partition(":")[0]
        if mark:
            content["creation_content"] = {MARK: mark}
        try:
            reply = await self._client.request(
                "POST", path("v3", "createRoom"), user=user, content=content
            )
        except MatrixError as error:
            if error.errcode != "M_ROOM_IN_USE" or not alias:
                raise failure_of(error) from error
            # We may have made it, and not have heard the answer.
            reply = await self._our_room_at(alias, user)
        room = room_id_of(reply)
        self._joined.put((room, user), True)
        return room

    async def _our_room_at(self, alias: str, user: UserId) -> dict[str, Any]:
        try:
            reply = await self._client.request(
                "GET", path("v3", "directory", "room", alias), user=user
            )
            ours = reply.get("room_id") in await self.rooms_of(user)
        except MatrixError as error:
            raise failure_of(error) from error
        if not ours:
            raise PermanentFailure(f"{alias} leads to a room that we are not in")
        return reply

    async def set_typing(self, room: RoomId, user: UserId, seconds: float) -> None:
        """Show that one of our users in the room is writing; not any more with zero seconds.

        Raises :class:`MatrixError` and ``TemporaryFailure``.
        """
        content = (
            {"typing": True, "timeout": int(seconds * 1000)} if seconds else {"typing": False}
        )
        await self._client.request(
            "PUT", path("v3", "rooms", room, "typing", user), user=user, content=content
        )

    async def is_encrypted(self, room: RoomId, user: UserId | None = None) -> bool:
        """Whether the room is encrypted, as one of our users in it sees it."""
        return await self.see_encryption(room, user) is True

    async def rooms_of(self, user: UserId) -> set[RoomId]:
        """The rooms that the user is in."""
        reply = await self._client.request("GET", path("v3", "joined_rooms"), user=user)
        rooms = reply.get("joined_rooms")
        return {RoomId(room) for room in rooms} if isinstance(rooms, list) else set()

    # --- what is heard ---

    def note_member(self, event: dict[str, Any]) -> None:
        """Learn from a membership event; called for each, before anything else is done."""
        user, content = event.get("state_key"), event["content"]
        if not isinstance(user, str):
            return
        room = RoomId(event["room_id"])
        self._members.note(room, UserId(user), content)
        self.evictions.note(event)
        if content.get("membership") != "join":
            self._joined.drop((room, UserId(user)))


def _let(outgoing: Outgoing) -> None:
    """Where nothing keeps anything back."""


async def _nothing(outgoing: Outgoing) -> None:
    """Have it said."""
