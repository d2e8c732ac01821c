"""Chats that belong to others are bridged when those who run them agree, and not before."""

import asyncio
import logging
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from weakref import WeakValueDictionary

from bridge.core.host.instances import Instance
from bridge.core.lanes.patience import asked_for
from bridge.core.lanes.unforeseen import Unforeseen
from bridge.core.portals.plumbing import Plumbing
from bridge.core.portals.portals import Portals
from bridge.core.rooms.house import House
from bridge.core.traffic.bothsides import say_here, say_on_both_sides
from bridge.core.traffic.doorway import Doorway
from bridge.matrix.cache import Recent
from bridge.model import Asked, AskedState, AuditAction, Permission
from bridge.sdk.errors import (
    DeliveryError,
    PermanentFailure,
    TemporaryFailure,
    TrestleError,
)
from bridge.sdk.events import ConsentRequest, RemoteChat, RemoteUser
from bridge.sdk.ids import InstanceId, RemoteChatId, RoomId, UserId
from bridge.sdk.secret import Secret
from bridge.sdk.wishes import TakesWishes
from bridge.storage.consents import ConsentStore
from bridge.waits import is_set_within

log = logging.getLogger(__name__)

ANSWER_WITHIN = timedelta(minutes=5)
_ASK_AGAIN = timedelta(hours=1)
"""After nobody has answered. A chat is not pestered, whoever asks."""
REFUSED_FOR = timedelta(days=1)
"""After a no, or after a bridge that they ended."""
_MOST_OPEN = 3
"""How many chats one person may have asked at a time."""
_LOOK_SECONDS = 5.0
_AFTER_REFUSAL = 60.0
"""Seconds until what the homeserver or the database refused is tried again."""
_MOST_RESTING = 1000


@dataclass(slots=True)
class _Ended:
    """A bridge that those who run the chat have ended, and that is not untied yet."""

    door: Doorway
    by: UserId
    reason: str
    is_told: bool = False
    has_left: bool = False
    """Whether everybody of ours was told to leave the chat."""


class Consents:
    """Asks those who run a chat, and bridges it when one of them agrees in time."""

    def __init__(
        self, house: House, portals: Portals, plumbing: Plumbing, store: ConsentStore
    ) -> None:
        self._house = house
        self._portals = portals
        self._plumbing = plumbing
        self._store = store
        self._asking: WeakValueDictionary[object, asyncio.Lock] = WeakValueDictionary()
        """By chat: a network that does not answer holds up nobody who runs another chat."""
        self._counting = asyncio.Lock()
        self._ended: dict[int, _Ended] = {}
        self._keys: dict[tuple[InstanceId, RemoteChatId], Secret] = {}
        """Of chats whose people are asked. In memory alone: an answer takes some minutes."""
        self._undone: dict[tuple[InstanceId, RemoteChatId], str] = {}
        """Who agreed to what is asked, and what kept it from being done; in memory, too."""
        self._changed = asyncio.Event()
        self._unforeseen = Unforeseen("requests to those who run a chat", longest=60.0)
        self._not_before: Recent[Hashable, float] = Recent(_MOST_RESTING)
        """Until when what failed is left alone (loop time), by chat or portal."""

    async def load(self) -> None:
        """Recall what the last process did not untie. Call once, before a relay connects.

        Raises ``TemporaryFailure`` when the database is away.
        """
        bot = self._house.namespaces.bot
        for door in self._plumbing.paused():
            portal = door.portal
            known = await self._store.find(portal.instance, portal.chat)
            # What was withdrawn never had a time to be answered in.
            if known is not None and known.until == known.at and known.room == portal.room:
                self._end(_Ended(door, bot, "as its operators wish", is_told=True))

    async def bridge(
        self, instance: Instance, text: str, room: RoomId, by: UserId, key: Secret | None = None
    ) -> Doorway | tuple[Asked, Sequence[RemoteUser]]:
        """Tie the room to the chat, or ask those who run it: then give the request, and whom it
        went to.

        ``key``: what lets the relay into the chat, as somebody said it. Raises a
        ``DeliveryError`` with the reason; then nothing has changed.
        """
        await instance.try_now()
        chat = await self._plumbing.read_chat(instance, text, 15)
        existing = await self._plumbing.check(instance, chat, room)
        if existing is not None:
            await self._plumbing.complete(existing)
            await self._plumbing.come_back(existing, key)
            return existing
        if not self._plumbing.needs_consent(instance, chat):
            lifts = self._house.permissions.allows(by, Permission.ADMIN, instance.name)
            return await self._plumbing.tie_unasked(instance, chat, room, by, key, lifts=lifts)
        async with self._one_at_a_time(instance.name, chat.id):
            found = await self._ask(instance, chat, room, by)
            self._let_go(instance.name, chat.id)
            if key is not None:
                self._keys[instance.name, chat.id] = key
            return found

    async def agree(self, instance: InstanceId, chat: RemoteChat, moderator: RemoteUser) -> str:
        """Bridge the chat as it was asked. Raises a ``DeliveryError`` with why it cannot be."""
        said_at = self._house.clock.now()
        async with self._one_at_a_time(instance, chat.id):
            asked = await self._get_open(instance, chat, said_at)
            await self._record(AuditAction.AGREE, asked, moderator)
            network = self._plumbing.find_instance(instance)
            try:
                door = await self._tie(network, asked)
            except TrestleError as error:
                # Of what passes the room is spared the details: they are an admin's.
                is_final = isinstance(error, PermanentFailure)
                why = error if is_final else "it could not be done just then"
                undone = f"{moderator.name}, who runs it, agreed, but {why}"
                self._undone[instance, chat.id] = undone
                raise
            await self._store.forget(instance, chat.id)
            self._let_go(instance, chat.id)
        await say_on_both_sides(
            self._house, door,
            there=f"This channel is bridged to the Matrix room {asked.room_name} now: {asked.by} "
            f"asked for it, {moderator.name} agreed. {_way_out(network)}",
            here=f"This room is bridged to {asked.chat_name} on {instance}: {moderator.name}, who "
            f"runs it, agreed. {door.terms}",
        )  # fmt: skip
        rules = self._house.announcer.read_more
        return f"{asked.chat_name} is bridged to {asked.room_name} now. {rules}".rstrip()

    async def refuse(self, instance: InstanceId, chat: RemoteChat, moderator: RemoteUser) -> str:
        """Leave the chat unbridged, and unasked for a day."""
        said_at = self._house.clock.now()
        async with self._one_at_a_time(instance, chat.id):
            asked = await self._get_open(instance, chat, said_at)
            await self._record(AuditAction.REFUSE, asked, moderator)
            again_at = self._house.clock.now() + REFUSED_FOR
            await self._tell(
                asked, f"{asked.chat_name} on {instance} is not bridged: {moderator.name}, who "
                "runs it, does not want it.",
            )  # fmt: skip
            await self._store.settle(asked, AskedState.REFUSED, again_at)
            self._let_go(instance, chat.id)
        return f"{asked.chat_name} is not bridged, and you are not asked again for a day."

    async def withdraw(self, door: Doorway, by: UserId, reason: str) -> bool:
        """Have nothing cross from now on, since those who run the chat have ended its bridge, and
        leave them in peace. False if it was so already.

        What the homeserver must do for it begins with :meth:`untie_soon`. Raises
        ``TemporaryFailure`` when the database is away.
        """
        portal = door.portal
        async with self._one_at_a_time(portal.instance, portal.chat):
            if portal.id in self._ended:
                return False
            now = self._house.clock.now()
            await self._store.put(Asked(
                instance=portal.instance, chat=portal.chat, chat_name=portal.chat_name,
                room=portal.room, room_name=portal.room, by=portal.created_by or by,
                state=AskedState.REFUSED, at=now, until=now, again_at=now + REFUSED_FOR,
            ))  # fmt: skip
            await self._plumbing.halt(door, by)
            # At once: anyone who waits to have it go on must find it ended.
            self._end(_Ended(door, by, reason))
        return True

    def untie_soon(self, door: Doorway) -> None:
        """Untie the room of a bridge that was ended, as soon as the homeserver is there."""
        if (ended := self._ended.get(door.portal.id)) is not None:
            ended.is_told = True
            self._changed.set()

    async def run(self) -> None:
        """Tell those who asked that nobody has answered in time, and untie what was ended. Runs
        until cancelled."""
        while True:
            self._changed.clear()
            waits = True
            try:
                with self._unforeseen.outlived():
                    waits = await self.look()
            except TrestleError as error:
                log.info("requests wait: %s", error, extra={"event": "consents_wait"})
            await self._unforeseen.rest()
            await is_set_within(_LOOK_SECONDS if waits else None, self._changed)

    async def look(self) -> bool:
        """Settle the requests whose time is over, and untie what was ended; whether there are
        others."""
        waits = False
        for asked in await self._store.open():
            if not await self._settle(asked):
                waits = True
        for ended in list(self._ended.values()):
            if ended.is_told and not self._rests(ended.door.portal.id):
                await self._try_to_untie(ended)
        return waits or bool(self._ended)

    # --- inside ---

    def _one_at_a_time(self, instance: InstanceId, chat: RemoteChatId) -> asyncio.Lock:
        return self._asking.setdefault((instance, chat), asyncio.Lock())

    def _rests(self, part: Hashable) -> bool:
        rests_until = max(self._not_before.get(part) or 0.0, self._unforeseen.rests_until(part))
        return asyncio.get_running_loop().time() < rests_until

    def _leave_alone(self, part: Hashable, error: TrestleError) -> None:
        otherwise = 0.0 if isinstance(error, TemporaryFailure) else _AFTER_REFUSAL
        pause = asked_for(error, otherwise)
        self._not_before.put(part, asyncio.get_running_loop().time() + pause)

    async def _settle(self, asked: Asked) -> bool:
        """Settle a request whose time is over; False if it is open still. One that fails holds up
        no other."""
        chat = (asked.instance, asked.chat)
        lock = self._one_at_a_time(*chat)
        # Whoever holds it may bring an answer that came in time.
        if asked.until > self._house.clock.now() or lock.locked() or self._rests(chat):
            return False
        try:
            with self._unforeseen.outlived(chat):
                async with lock:
                    await self._give_up(asked)
                return True
        except TemporaryFailure as error:
            self._leave_alone(chat, error)
            log.info("requests wait: %s", error, extra={"event": "consents_wait"})
        except TrestleError as error:
            self._leave_alone(chat, error)
            log.warning(
                "a request to bridge %s on %s cannot be settled, and is tried again: %s",
                asked.chat, asked.instance, error, extra={"event": "consents_wait"},
            )  # fmt: skip
        return False

    async def _give_up(self, asked: Asked) -> None:
        if await self._store.find(asked.instance, asked.chat) != asked:
            return  # It was answered meanwhile.
        undone = self._undone.get((asked.instance, asked.chat))
        if self._plumbing.find_door(asked.instance, asked.chat) is not None:
            await self._store.forget(asked.instance, asked.chat)
            self._let_go(asked.instance, asked.chat)
            return
        why = (undone or "nobody who runs it has answered in time").rstrip(".")
        await self._tell(asked, f"{asked.chat_name} on {asked.instance} is not bridged: {why}.")
        await self._store.settle(asked, AskedState.UNANSWERED)
        self._let_go(asked.instance, asked.chat)

    async def _tie(self, network: Instance, asked: Asked) -> Doorway:
        # Between question and answer the room may have become another's, or encrypted.
        if not await self._may_still(asked):
            raise PermanentFailure(
                f"{asked.by}, who asked for it, may not bridge that room any more"
            )
        chat = RemoteChat(id=asked.chat, name=asked.chat_name)
        door = await self._plumbing.check(network, chat, asked.room)
        if door is None:
            key = self._keys.get((network.name, chat.id))
            return await self._plumbing.tie(network, chat, asked.room, asked.by, key)
        await self._plumbing.complete(door)
        return door

    def _let_go(self, instance: InstanceId, chat: RemoteChatId) -> None:
        """Know nothing more of a request, as it is settled."""
        self._keys.pop((instance, chat), None)
        self._undone.pop((instance, chat), None)

    async def _try_to_untie(self, ended: _Ended) -> None:
        """Untie the room of a bridge that was ended; one that fails holds up no other."""
        portal = ended.door.portal
        try:
            with self._unforeseen.outlived(portal.id):
                await self._untie(ended)
        except TemporaryFailure as error:
            self._leave_alone(portal.id, error)
            log.info("an ended bridge is untied later: %s", error, extra={"event": "untied_later"})
        except TrestleError as error:
            self._leave_alone(portal.id, error)
            log.warning(
                "the ended bridge of %s cannot be untied, and that is tried again: %s",
                portal.room, error, extra={"event": "untied_later"},
            )  # fmt: skip

    async def _untie(self, ended: _Ended) -> None:
        door, portal = ended.door, ended.door.portal
        try:
            if self._plumbing.find_door(portal.instance, portal.chat) is door:
                await self._plumbing.unbridge(door, ended.by, ended.reason)
        except Exception:  # Whatever it is: those who run the chat are left in peace.
            if not ended.has_left:
                ended.has_left = True
                await self._plumbing.leave(door, ended.reason)
            raise
        del self._ended[portal.id]

    def _end(self, ended: _Ended) -> None:
        self._ended[ended.door.portal.id] = ended
        # To untie it takes the homeserver; the network may let the relay in again before that.
        ended.door.facts.is_ended = True
        self._changed.set()  # From now on it is looked at again and again.

    async def _ask(
        self, instance: Instance, chat: RemoteChat, room: RoomId, by: UserId
    ) -> tuple[Asked, Sequence[RemoteUser]]:
        room_name, now = await self._house.intents.room_name(room), self._house.clock.now()
        asked = Asked(
            instance=instance.name, chat=chat.id, chat_name=chat.name, room=room, by=by,
            room_name=room_name, at=now, until=now + ANSWER_WITHIN, again_at=now + _ASK_AGAIN,
        )  # fmt: skip
        request = ConsentRequest(
            chat=chat, room=asked.room_name, asked_by=by,
            minutes=int(ANSWER_WITHIN.total_seconds() // 60),
        )  # fmt: skip
        async with self._counting:
            await self._check_peace(instance, chat, by, now)
            await self._house.audit.record(
                actor=by, action=AuditAction.ASK, subject=by,
                target=f"{instance.name} {chat.id} {room}",
            )  # fmt: skip
            # It is noted first: an answer may be faster than our return.
            await self._store.put(asked)
        self._changed.set()
        try:
            whom = await instance.ask(request)
        except DeliveryError:
            await self._store.forget(instance.name, chat.id)
            raise
        return asked, whom

    async def _check_peace(
        self, instance: Instance, chat: RemoteChat, by: UserId, now: datetime
    ) -> None:
        """Whether those who run the chat may be asked by that person now."""
        if self._house.blocks.cover(instance.name, chat.id, by):
            raise PermanentFailure(f"those who run {chat.name} take nothing of you")
        known = await self._store.find(instance.name, chat.id)
        if known is not None and now < known.again_at:
            if known.state is AskedState.ASKED and now < known.until:
                raise PermanentFailure(
                    f"those who run {chat.name} were asked already, and have until "
                    f"{known.until:%H:%M} UTC to answer"
                )
            why = "do not want it" if known.state is AskedState.REFUSED else "did not answer"
            raise PermanentFailure(
                f"those who run {chat.name} {why}; they are not asked again before "
                f"{known.again_at:%d %B %H:%M} UTC"
            )
        own = [one for one in await self._store.open() if one.by == by and now < one.until]
        if len(own) >= _MOST_OPEN:
            raise PermanentFailure(
                f"you have asked in {len(own)} places and nobody has answered yet; wait for them"
            )

    async def _get_open(self, instance: InstanceId, chat: RemoteChat, at: datetime) -> Asked:
        asked = await self._store.find(instance, chat.id)
        is_open = asked is not None and asked.state is AskedState.ASKED
        if asked is None or not is_open or asked.until <= at:
            raise PermanentFailure(f"nobody asks to bridge {chat.name} just now")
        return asked

    async def _may_still(self, asked: Asked) -> bool:
        allows = self._house.permissions.allows
        return allows(asked.by, Permission.USER, asked.instance) and await self._portals.has_power(
            asked.by, asked.room
        )

    async def _record(self, action: AuditAction, asked: Asked, moderator: RemoteUser) -> None:
        await self._house.audit.record(
            actor=self._house.namespaces.ghost(asked.instance, moderator.id), action=action,
            subject=asked.by, target=f"{asked.instance} {asked.chat} {asked.room}",
        )  # fmt: skip

    async def _tell(self, asked: Asked, text: str) -> None:
        await self._house.sender.put([say_here(self._house, asked.room, text)])


def in_words(found: Doorway | tuple[Asked, Sequence[RemoteUser]]) -> str:
    """What came of :meth:`Consents.bridge`, for whoever asked for it."""
    if isinstance(found, Doorway):
        bridged = f"This room is bridged to {found.portal.chat_name} on {found.portal.instance}."
        return f"{bridged} {found.terms}"
    asked, whom = found
    names = ", ".join(one.name for one in whom)
    return (
        f"{asked.chat_name} on {asked.instance} belongs to those who run it. I have asked those "
        f"who are there ({names}); if one of them agrees before {asked.until:%H:%M} UTC, this "
        "room is bridged. I say here what comes of it."
    )


def _way_out(network: Instance) -> str:
    """What is said in a chat of its people's rights, with what they type there."""
    rights = "Those who run this channel can end it at any time"
    connector: object = network.connector
    wishes = connector.wishes() if isinstance(connector, TakesWishes) else ()
    return f"{rights}: {wishes[0][0]} says how." if wishes else f"{rights}."
