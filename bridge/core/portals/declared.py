"""The rooms of the settings (``rooms:``): made as they are declared, and what differs is said."""

import asyncio
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from bridge.core.lanes.unforeseen import Unforeseen
from bridge.core.portals.plumbing import Plumbing
from bridge.core.portals.portals import Portals
from bridge.core.traffic.doorway import Doorway
from bridge.matrix.client import MatrixError, heed_token
from bridge.matrix.intents import Intents
from bridge.matrix.namespaces import Namespaces
from bridge.sdk.errors import DeliveryError, PermanentFailure, TemporaryFailure, TrestleError
from bridge.sdk.ids import InstanceId, RemoteChatId, RoomId, UserId
from bridge.sdk.module import Store
from bridge.settings.records import RoomSettings

log = logging.getLogger(__name__)

_FIRST_WAIT = 1.0
_LONGEST_WAIT = 600.0
"""Seconds between two looks at what could not be made: somebody may have mended it."""


# It is Routes, which needs the policies, and they need what is here.
class Seats(Protocol):
    """Which bot is where."""

    @property
    def seats(self) -> set[tuple[UserId, RoomId]]: ...
    def has_seat(self, user: UserId, room: RoomId) -> bool: ...


# It is Parts, which stands above.
class Residence(Protocol):
    """How a bot moves in and out, beside what the homeserver does."""

    async def move_in(self, user: UserId, room: RoomId) -> None: ...
    async def move_out(self, user: UserId, room: RoomId) -> None: ...


@dataclass(slots=True)
class _Wanted:
    """What the settings declare, and what is known of it."""

    rooms: Sequence[RoomSettings] = ()
    admins: Sequence[UserId] = ()
    places: dict[str, RoomId] = field(default_factory=dict)
    """The room that an alias led to when it was last asked."""
    troubles: dict[tuple[str, str], str] = field(default_factory=dict)
    """What could not be made: (room as declared, what) to the reason; and what could not be
    unmade: ("", its mark's key)."""


class DeclaredRooms:
    """Has the rooms of the settings as they are declared.

    What the list made, the list unmakes; what people set up themselves is theirs, and is said to
    differ. The rules are those of a person who asks for it: the network's consent, no encrypted
    room, and an admin of the settings who has the power to change the room's.
    """

    def __init__(
        self,
        plumbing: Plumbing,
        portals: Portals,
        intents: Intents,
        namespaces: Namespaces,
        marks: Store,
        seats: Seats,
    ) -> None:
        self._plumbing = plumbing
        self._portals = portals
        self._intents = intents
        self._namespaces = namespaces
        self._marks = marks
        self._seats = seats
        self.residence: Residence
        self._wanted = _Wanted()
        self._read: dict[tuple[InstanceId, str], RemoteChatId] = {}
        """Which chat a text of the settings means, as its network has read it."""
        self._changed = asyncio.Event()
        self._at_work = asyncio.Lock()
        self._unforeseen = Unforeseen("declared rooms")

    def declare(self, rooms: Sequence[RoomSettings], admins: Sequence[UserId]) -> None:
        """Take what is wanted from now on."""
        self._wanted = _Wanted(rooms, admins)
        self._changed.set()

    async def run(self, first_wait: float = _FIRST_WAIT) -> None:
        """Make what is declared; what cannot be made is tried again, and what cannot be unmade.

        Runs until cancelled. ``first_wait``: seconds until the first time.
        """
        wait = first_wait
        while True:
            self._changed.clear()
            is_done = False
            try:
                with self._unforeseen.outlived():
                    await self.reconcile()
                    is_done = not self._wanted.troubles
            except TrestleError as error:
                log.info("rooms wait: %s", error, extra={"event": "rooms_wait"})
            try:
                async with asyncio.timeout(None if is_done else wait):
                    await self._changed.wait()
                wait = first_wait
            except TimeoutError:
                wait = min(wait * 2, _LONGEST_WAIT)

    async def reconcile(self) -> Sequence[str]:
        """Make what is missing and unmake what is no longer declared; say what could not be.

        Doing it again changes nothing. Raises ``TemporaryFailure`` when the database is away.
        """
        async with self._at_work:
            wanted = self._wanted
            wanted.troubles.clear()
            for entry in wanted.rooms:
                with self._unforeseen.outlived(entry.room):
                    await self._make_room(wanted, entry)
                    continue
                wanted.troubles[entry.room, ""] = _UNFORESEEN
            await self._unmake(wanted)
        return await self.drift()

    async def drift(self) -> Sequence[str]:
        """Say, a sentence each, where the rooms are not as declared."""
        wanted = self._wanted
        found = []
        for entry in wanted.rooms:
            room = wanted.places.get(entry.room)
            if room is None:
                reason = wanted.troubles.get((entry.room, ""), "not looked for yet")
                found.append(f"{entry.room}: nothing of it is there: {reason}")
                continue
            found += self._missing(wanted, entry, room)
            found += self._unasked(entry, room)
        return [*found, *(
            f"{_in_words(key)} is not in the list any more, and cannot be taken back: {reason}"
            for (room_name, key), reason in wanted.troubles.items() if not room_name
        )]  # fmt: skip

    # --- what is there ---

    def _missing(self, wanted: _Wanted, entry: RoomSettings, room: RoomId) -> list[str]:
        found = []
        for instance, text in _chats(entry):
            door = self._door(room, instance, text)
            if door is None:
                reason = wanted.troubles.get((entry.room, f"{instance} {text}"))
                why = reason or wanted.troubles.get((entry.room, "")) or "not tried yet"
                found.append(f"{entry.room}: {text} on {instance} is not bridged: {why}")
            elif door.portal.paused:
                found.append(f"{entry.room}: {text} on {instance} is paused")
        for bot in entry.bots:
            if not self._seats.has_seat(self._namespaces.bot_of(bot), room):
                reason = wanted.troubles.get((entry.room, bot))
                why = reason or wanted.troubles.get((entry.room, "")) or "not tried yet"
                found.append(f"{entry.room}: {bot} is not there: {why}")
        return found

    def _unasked(self, entry: RoomSettings, room: RoomId) -> list[str]:
        """What people set up in a declared room beside what is declared."""
        declared = {id(self._door(room, *chat)) for chat in _chats(entry)}
        found = [
            f"{entry.room}: {door.portal.chat_name} on {door.portal.instance} is bridged, "
            "but is not in the list"
            for door in self._portals.in_room(room)
            if id(door) not in declared
        ]
        for user, place in sorted(self._seats.seats):
            bot = self._namespaces.bot_ids.get(user)
            if place == room and bot and bot not in entry.bots:
                found.append(f"{entry.room}: {bot} is there, but is not in the list")
        return found

    def _door(self, room: RoomId, instance: InstanceId, text: str) -> Doorway | None:
        read = self._read.get((instance, text))
        for door in self._portals.in_room(room):
            portal = door.portal
            is_meant = portal.chat == read or text in {portal.chat, portal.chat_name}
            if portal.instance == instance and is_meant:
                return door
        return None

    # --- making ---

    async def _make_room(self, wanted: _Wanted, entry: RoomSettings) -> None:
        try:
            room = wanted.places[entry.room] = await self._find_room(entry.room)
            await self._enter(self._namespaces.bot, room)
            admin = await self._who_answers(wanted, room)
        except (DeliveryError, MatrixError) as error:
            self._note(wanted, entry, "", error)
            return
        for bot in entry.bots:
            try:
                await self._enter(self._namespaces.bot_of(bot), room)
                await self._mark(entry, ["bot", bot], [room])
            except (DeliveryError, MatrixError) as error:
                self._note(wanted, entry, bot, error)
        for instance, text in _chats(entry):
            try:
                door = self._door(room, instance, text)
                if door is None:
                    network = self._plumbing.find_instance(instance)
                    before = list(self._portals.in_room(room))
                    door = await self._plumbing.bridge(network, text, room, admin)
                    self._read[instance, text] = door.portal.chat
                    if door not in before:  # Else it was spelled otherwise.
                        await self._plumbing.announce(door)
                await self._mark(entry, ["portal", instance, text], [room, door.portal.chat])
            except (DeliveryError, MatrixError) as error:
                self._note(wanted, entry, f"{instance} {text}", error)

    async def _find_room(self, name: str) -> RoomId:
        if name.startswith("!"):
            return RoomId(name)
        room = await self._intents.room_at(name)
        if room is None:
            raise PermanentFailure("there is no such room, as far as the homeserver knows")
        return room

    async def _enter(self, user: UserId, room: RoomId) -> None:
        if self._seats.has_seat(user, room):
            return
        try:
            await self._intents.ensure_joined(room, user)
        except PermanentFailure as error:
            if user != self._namespaces.bot:
                raise
            raise PermanentFailure(f"{error}; invite {user} into it") from error
        await self.residence.move_in(user, room)

    async def _who_answers(self, wanted: _Wanted, room: RoomId) -> UserId:
        for admin in wanted.admins:
            is_run = self._portals.is_run_by(admin, room)
            if is_run or await self._intents.can(room, admin, "m.bridge"):
                return admin
        if not wanted.admins:
            raise PermanentFailure(
                "nobody answers for it: name somebody as admin in permissions who has the power "
                "to change this room's settings"
            )
        names = ", ".join(wanted.admins)
        raise PermanentFailure(
            f"no admin of the settings ({names}) has the power to change this room's settings: "
            "give it to one of them there, or name somebody as admin in permissions who has it"
        )

    async def _mark(self, entry: RoomSettings, what: Sequence[str], made: Sequence[str]) -> None:
        """Remember that the list has it, so that the list can take it back."""
        key = _PREFIX + json.dumps([entry.room, *what])
        await self._marks.put(key, json.dumps(made).encode(), room=RoomId(made[0]))

    # --- unmaking ---

    async def _unmake(self, wanted: _Wanted) -> None:
        """Take back what the list made once and does not name any more."""
        declared = {key for entry in wanted.rooms for key in _keys(entry)}
        marks = await self._marks.find(_PREFIX)
        # One and the same may be declared by another of the room's names.
        kept = {
            (*_what(key), mark) for key, mark in marks.items() if key.removeprefix(_PREFIX)
            in declared
        }  # fmt: skip
        for key, mark in marks.items():
            if key.removeprefix(_PREFIX) in declared:
                continue
            kind, name = _what(key)
            with self._unforeseen.outlived(key):
                if (kind, name, mark) in kept or await self._is_taken_back(wanted, key, mark):
                    await self._marks.delete(key)
                continue
            wanted.troubles["", key] = _UNFORESEEN

    async def _is_taken_back(self, wanted: _Wanted, key: str, mark: bytes) -> bool:
        """Take back what a mark says; False if that is refused, and stays."""
        try:
            await self._take_back(wanted, *_what(key), json.loads(mark))
        except (PermanentFailure, MatrixError) as error:
            heed_token(error)
            log.warning("a room stays as it is: %s", error, extra={"event": "room_stays"})
            return False
        return True

    async def _take_back(self, wanted: _Wanted, kind: str, name: str, made: Sequence[str]) -> None:
        room = RoomId(made[0])
        if kind == "bot":
            user = self._namespaces.bot_of(InstanceId(name))
            await self._intents.leave(room, user, reason="the settings do not name me here")
            await self.residence.move_out(user, room)
            return
        door = self._door(room, InstanceId(name), made[1])
        if door is not None:
            by = wanted.admins[0] if wanted.admins else door.portal.created_by
            await self._plumbing.unbridge(door, by or self._namespaces.bot)

    def _note(self, wanted: _Wanted, entry: RoomSettings, what: str, error: Exception) -> None:
        wanted.troubles[entry.room, what] = str(error)
        if isinstance(error, TemporaryFailure):  # A network that is being reached, say.
            log.info("rooms wait: %s", error, extra={"event": "rooms_wait"})
            return
        log.warning(
            "a declared room is not as declared: %s", error, extra={"event": "room_differs"}
        )


_PREFIX = "declared "
_UNFORESEEN = "it failed in a way that nobody foresaw; the log has how"


def _chats(entry: RoomSettings) -> list[tuple[InstanceId, str]]:
    return [(instance, text) for instance, texts in entry.bridge.items() for text in texts]


def _keys(entry: RoomSettings) -> list[str]:
    keys = [["portal", instance, text] for instance, text in _chats(entry)]
    keys += [["bot", bot] for bot in entry.bots]
    return [json.dumps([entry.room, *key]) for key in keys]


def _in_words(key: str) -> str:
    """What a mark says was made, and in which room."""
    room, _, instance, *chat = json.loads(key.removeprefix(_PREFIX))
    return f"{room}: {' on '.join([*chat, instance])}"


def _what(key: str) -> tuple[str, str]:
    """What was made, and of which instance: a chat may be declared in several spellings."""
    kind, instance, *_ = json.loads(key.removeprefix(_PREFIX))[1:]
    return kind, instance
