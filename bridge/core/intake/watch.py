"""What happens to our own users in rooms: invitations, kicks, and rooms that become encrypted."""

import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from bridge.core.host.privatechat import PrivateChats
from bridge.core.lanes.deletions import redacted_by
from bridge.core.lanes.lane import LONGEST, Item, Lane
from bridge.core.lanes.router import Router
from bridge.core.outbox.encryption import Encryption
from bridge.core.permissions.permissions import Permissions
from bridge.core.portals.directchats import DirectChats
from bridge.core.portals.invitations import Invitations
from bridge.matrix.cache import Recent
from bridge.matrix.intents import Intents
from bridge.matrix.namespaces import Namespaces
from bridge.model import ParkReason, Permission
from bridge.sdk.errors import PermanentFailure
from bridge.sdk.ids import RoomId, UserId
from bridge.storage.portals import BotRooms

log = logging.getLogger(__name__)


def watch_name(room: RoomId) -> str:
    """The name of the lane that handles our users' memberships of a room."""
    return f"watch:{room}"


class Watch:
    """One room: what cannot be done in it holds up no other."""

    deadline = 60.0
    holds = False

    def __init__(self, room: RoomId, watcher: "Watcher") -> None:
        self.name = watch_name(room)
        self._watcher = watcher
        self._taken_back: Recent[str, bool] = Recent(LONGEST)
        """Events that were deleted while something waited here: nobody is to have them."""

    def take_back(self, event_id: str) -> None:
        """Hand an event on to nobody, if it waits here."""
        self._taken_back.put(event_id, True)

    async def handle(self, item: Item) -> None:
        """Act on a membership or encryption event; what was said or done meanwhile goes on."""
        if self._watcher.wants(item.event):
            await self._watcher.handle(item.event)
        elif self._taken_back.get(item.event["event_id"]):
            item.drop()
        else:
            self._watcher.hand_on(item)

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
        invitations: Invitations,
        *,
        on_join: Callable[[UserId, RoomId, UserId | None], None],
        on_leave: Callable[[UserId, RoomId], None],
        has_seat: Callable[[UserId, RoomId], bool],
        encryption: Encryption,
    ) -> None:
        self._bot_rooms = bot_rooms
        self._intents = intents
        self._namespaces = namespaces
        self._permissions = permissions
        self._private_chats = private_chats
        self.invitations = invitations
        self._is_bot = namespaces.is_bot
        self._on_join = on_join
        self._on_leave = on_leave
        self._has_seat = has_seat
        self.encryption = encryption
        self.direct_chats: DirectChats
        self.bot_came: Callable[[UserId, RoomId], Awaitable[None]]
        """Called when one of our bots is in a room, however it came in."""
        self.hand_on: Callable[[Item], None]
        """Called with what has waited in a room's lane: whoever listens by now is to have it."""

    def lanes(self, router: Router, event: dict[str, Any]) -> Sequence[Lane]:
        """The lane of a membership or encryption event."""
        # Anybody may make rooms known to us, by inviting: a lane that is done is let go.
        return [router.passing_lane(Watch(RoomId(event["room_id"]), self))]

    def lanes_behind(
        self, router: Router, event: dict[str, Any], *, is_heard: bool, by_bots: bool = False
    ) -> Sequence[Lane]:
        """The lane in which somebody of a network is just coming into a direct chat: what their
        inviter says there meanwhile waits in it, too. (A bot hears before it is in there.)

        ``is_heard``: somebody listens in the room already. Then it waits for nobody; but it must
        not overtake what has waited. ``by_bots``: bots do in what they take for their direct
        chat with the sender. It waits for who comes from a network: it would be an order.
        """
        lane = router.lanes.get(watch_name(event["room_id"]))
        if lane is None:
            return ()

        def waits_for(earlier: dict[str, Any]) -> bool:
            if not self.wants(earlier):
                return True
            is_for = not is_heard or (by_bots and not self._is_bot(UserId(earlier["state_key"])))
            return is_for and _invites_directly(earlier, event["sender"])

        # What lies beyond the queue is not known here.
        waits = bool(lane.beyond) or any(waits_for(item.event) for item in reversed(lane.queue))
        return [lane] if waits else ()

    def take_back(self, router: Router, redaction: dict[str, Any]) -> None:
        """Have nobody hear what is deleted while it waits; call before the redaction itself waits.

        Once the event is handed on it is too late: whoever hears it may be faster than that.
        """
        lane = router.lanes.get(watch_name(redaction["room_id"]))
        if lane is not None and len(lane) and isinstance(lane.consumer, Watch):
            lane.consumer.take_back(redacted_by(redaction))

    def wants(self, event: dict[str, Any]) -> bool:
        """Whether the event is about one of our users or makes a room encrypted."""
        if event["type"] == "m.room.encryption":
            return event.get("state_key") == ""
        return self._namespaces.is_ours(str(event.get("state_key", "")))

    async def handle(self, event: dict[str, Any]) -> None:
        """Act on the event."""
        room = RoomId(event["room_id"])
        if event["type"] == "m.room.encryption":
            await self.encryption.note(room)
            return
        user = UserId(event["state_key"])
        membership = event["content"].get("membership")
        if membership == "invite":
            await self._invited(user, room, event)
            self.invitations.forget(room, user)
        elif membership in {"leave", "ban"} and self._is_bot(user):
            await self._bot_rooms.remove_bot_room(user, room)
            self._on_leave(user, room)
            if event["sender"] != user:
                await self._put_out(user, room)
        elif membership == "join" and self._is_bot(user):
            await self._came(user, room)

    async def _came(self, bot: UserId, room: RoomId) -> None:
        if not self._has_seat(bot, room):
            # However it came in: where it is, it hears.
            await self._bot_rooms.keep_bot_room(bot, room)
            # Whoever made the room may have been faster, and knows whose direct chat it is.
            if not self._has_seat(bot, room):
                self._on_join(bot, room, None)
        await self.bot_came(bot, room)

    async def _put_out(self, user: UserId, room: RoomId) -> None:
        if await self._intents.evictions.find(room, user, was_there=True):
            log.warning(
                "%s was put out of a room; it comes back when it is invited", user,
                extra={"event": "put_out"},
            )  # fmt: skip

    async def _invited(self, user: UserId, room: RoomId, event: dict[str, Any]) -> None:
        inviter = UserId(event["sender"])
        if self._namespaces.is_ours(inviter):
            return  # We invited our own; whoever did it sees to the rest.
        self.encryption.doubt(room)
        encrypted = _invited_into_encrypted(event)
        direct = event["content"].get("is_direct") is True
        if not self._is_bot(user):
            await self.direct_chats.invited(
                user, inviter, room, direct=direct, encrypted=encrypted, event=event
            )
            if self.direct_chats.is_in(room):
                await self._listen_for_orders(room)
            return
        if self._permissions.highest(inviter) < Permission.USER:
            await self.invitations.decline(
                room, user, "The settings of this bridge do not let you invite its bots."
            )
            return
        self._intents.evictions.forgive(room, user)
        # Beside somebody of a network: that is their chat, in which the bot only hears orders.
        direct = direct and not self.direct_chats.is_in(room)
        if direct:
            self.direct_chats.note_bot(user, inviter, room, event)
        direct_with = inviter if direct else None
        if not await self._come_in(user, room, direct_with):
            return
        await self._bot_rooms.add_bot_room(user, room, direct_with)
        self._on_join(user, room, direct_with)
        if await self.encryption.look(room, user):
            await self._private_chats.offer(user, inviter, room, direct=direct)
        elif direct and user == self._namespaces.bot:
            await self._private_chats.greet(user, inviter, room)

    async def _listen_for_orders(self, room: RoomId) -> None:
        """Have a bot that was invited before somebody of a network hear no more than orders."""
        bot = self._namespaces.bot
        if self._has_seat(bot, room):
            await self._bot_rooms.add_bot_room(bot, room, None)
            self._on_join(bot, room, None)

    async def _come_in(self, user: UserId, room: RoomId, direct_with: UserId | None) -> bool:
        """Bring the bot into the room; False if that cannot be. Raises ``TemporaryFailure``."""
        if not self._has_seat(user, room):
            # Before it is in there: whoever sees it come may speak to it at once. And before it
            # hears: after a restart, what it had heard is known only if it still has a seat.
            await self._bot_rooms.add_bot_room(user, room, direct_with)
            self._on_join(user, room, direct_with)
        try:
            await self.invitations.accept(room, user)
        except PermanentFailure as error:
            # A seat that it had before is gone with the room: nobody invites a user who is there.
            await self._bot_rooms.remove_bot_room(user, room)
            self._on_leave(user, room)
            log.info("an invitation is void: %s", error, extra={"event": "invitation_void"})
            return False
        return True


def _invites_directly(event: dict[str, Any], sender: str) -> bool:
    content = event["content"]
    return (
        event["type"] == "m.room.member"
        and content.get("membership") == "invite"
        and content.get("is_direct") is True
        and event["sender"] == sender
    )


def _invited_into_encrypted(event: dict[str, Any]) -> bool:
    """Whether the inviting server says so: good enough to decline, and for nothing that stays."""
    unsigned = event.get("unsigned")
    sources = [event, unsigned if isinstance(unsigned, dict) else {}]
    for source in sources:
        state = source.get("invite_room_state")
        for stripped in state if isinstance(state, list) else []:
            if isinstance(stripped, dict) and stripped.get("type") == "m.room.encryption":
                return True
    return False
