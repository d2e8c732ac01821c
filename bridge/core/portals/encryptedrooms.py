"""A bridge ends when its room becomes encrypted: we cannot read there, nor speak in clear."""

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta

from bridge.core.host.privatechat import PrivateChats
from bridge.core.lanes.unforeseen import Unforeseen
from bridge.core.outbox.encryption import Encryption
from bridge.core.outbox.outgoing import notice
from bridge.core.portals.plumbing import Plumbing
from bridge.core.portals.portals import Portals
from bridge.core.rooms.house import House
from bridge.core.traffic.bothsides import say_there
from bridge.core.traffic.doorway import Doorway
from bridge.matrix.client import MatrixError, heed_token
from bridge.model import Portal
from bridge.sdk.commands import as_typed
from bridge.sdk.errors import PermanentFailure, TemporaryFailure, TrestleError
from bridge.sdk.ids import RoomId, UserId
from bridge.waits import is_set_within

log = logging.getLogger(__name__)

_AT_ONCE = 10
"""Bridges whose end the homeserver sees to side by side."""
_SHOWN_FOR = timedelta(days=1)
"""How long an end is a trouble that those who run this see."""


class EncryptedRooms:
    """Ends the bridges of rooms that are encrypted, and says so where it can be said.

    What is left to do is in the database: a portal whose room is known to be encrypted.
    """

    def __init__(
        self,
        house: House,
        portals: Portals,
        plumbing: Plumbing,
        private_chats: PrivateChats,
        encryption: Encryption,
    ) -> None:
        self._house = house
        self._portals = portals
        self._plumbing = plumbing
        self._private_chats = private_chats
        self._encryption = encryption
        self.pauses = (5.0, 60.0)
        """Seconds between two looks: at first, and at most; doubled while nothing new is noted."""
        self.connect_seconds = 20.0
        """How long a network may take to be reached, so that its chat hears of the end."""
        self._changed = asyncio.Event()
        self._at_work: set[Doorway] = set()
        self._slots = asyncio.Semaphore(_AT_ONCE)
        """Held while the homeserver is asked for much; not while a network is waited for."""
        self._ended: dict[str, tuple[datetime, Doorway]] = {}
        self._unforeseen = Unforeseen("ends of encrypted rooms' bridges", longest=60.0)

    def note(self, room: RoomId) -> None:
        """Learn that a room is encrypted."""
        self._changed.set()

    async def run(self) -> None:
        """End what is to end, soon after it is known. Runs until cancelled."""
        pause, longest = self.pauses
        async with asyncio.TaskGroup() as group:
            while True:
                self._changed.clear()
                await self._look(group)
                if await is_set_within(pause, self._changed):
                    pause, longest = self.pauses
                else:
                    pause = min(2 * pause, longest)

    async def _look(self, group: asyncio.TaskGroup) -> None:
        """Begin to end the bridges of the rooms that are encrypted."""
        for door in self._portals.all:
            if door in self._at_work or not self._encryption.is_known(door.portal.room):
                continue
            if self._rests(door):
                continue
            with self._outliving("look", door):
                # First nothing crosses any more: to tell a network may take long.
                if await self._halt(door):
                    self._at_work.add(door)
                    group.create_task(self._try_to_end(door), name="ending a bridge")

    async def _try_to_end(self, door: Doorway) -> None:
        """End it; what cannot be done now is left for another look."""
        try:
            with self._outliving("end", door):
                await self._end(door)
        finally:
            self._at_work.discard(door)

    def _rests(self, door: Doorway) -> bool:
        rests_until, now = self._unforeseen.rests_until, asyncio.get_running_loop().time()
        return now < max(rests_until(_part(what, door)) for what in ("look", "end"))

    @contextmanager
    def _outliving(self, what: str, door: Doorway) -> Iterator[None]:
        """Have a bridge whose end fails hold up no other's: it is ended later."""
        try:
            with self._unforeseen.outlived(_part(what, door)):
                yield
        except TrestleError as error:
            log.info("an ended bridge is untied later: %s", error, extra={"event": "untied_later"})

    def troubles(self) -> dict[str, str]:
        """A sentence for each bridge that ended this way in the last day and was not made anew."""
        now = self._house.clock.now()
        self._ended = {
            key: (at, door)
            for key, (at, door) in self._ended.items()
            if now - at < _SHOWN_FOR
            and self._plumbing.find_door(door.portal.instance, door.portal.chat) in (None, door)
        }
        return {
            key: f"{door.portal.room} was made encrypted, which cannot be undone: its bridge to "
            f"{door.portal.chat_name} on {door.portal.instance} has ended. Have a room without "
            "encryption bridged instead."
            for key, (_, door) in self._ended.items()
        }  # fmt: skip

    async def _halt(self, door: Doorway) -> bool:
        """Have nothing cross that room any more; False if the homeserver says it is clear.

        A room may have been noted by what somebody else said of it, and this cannot be undone.
        """
        room = door.portal.room
        if await self._encryption.check(room):
            door.ends_in = room
            return True
        door.ends_in = None
        log.warning(
            "%s was noted as encrypted and is not: its bridge stays", room,
            extra={"event": "not_encrypted"},
        )  # fmt: skip
        return False

    async def _end(self, door: Doorway) -> None:
        """Tell of it and untie it; a bridge that moves on into another room stays."""
        house, portal = self._house, door.portal
        if door.ends_in != portal.room:
            return  # It moved on while the homeserver was asked.
        bot, what = house.namespaces.bot, f"encrypted {portal.id}"
        if await house.told.told_at(bot, what) is None:
            await self._tell(door)
            if door.portal.room == portal.room:
                await house.told.note_told(bot, what)
        async with self._slots:
            if door.portal.room == portal.room:
                await self._untie(door)

    async def _untie(self, door: Doorway) -> None:
        portal = door.portal
        key = f"encrypted {portal.room} {portal.id}"
        if portal.receiver is None and key not in self._ended:
            # Before it is so: once it is untied nothing leads back here.
            self._ended[key] = (self._house.clock.now(), door)
            log.warning(
                "%s was made encrypted: its bridge to %s on %s ends", portal.room,
                portal.chat_name, portal.instance, extra={"event": "encrypted"},
            )  # fmt: skip
        await self._plumbing.unbridge(
            door, self._house.namespaces.bot, "its Matrix room was made encrypted",
            room=portal.room,
        )  # fmt: skip
        if door.portal.room != portal.room:
            self._ended.pop(key, None)

    async def _tell(self, door: Doorway) -> None:
        """Tell the chat, and whoever bridged it; in the room nothing may be said in clear.

        Nobody is told once the bridge has moved on into another room. Raises ``TemporaryFailure``
        when the homeserver or the database is away, or the network is not started yet.
        """
        house, portal = self._house, door.portal
        instance, person = house.instances.get(portal.instance), portal.created_by
        if portal.receiver is None and instance is not None and not instance.is_open:
            raise TemporaryFailure(f"{portal.instance} is starting")
        if person is not None and not house.namespaces.is_ours(person):
            try:
                async with self._slots:
                    await self._tell_person(door, portal, person)
            except (PermanentFailure, MatrixError) as error:
                heed_token(error)
                log.info("nobody is told of it: %s", error, extra={"event": "not_announced"})
        if portal.receiver is not None or instance is None:
            return
        is_reached = await instance.wait_until_connected(self.connect_seconds)
        if is_reached and door.portal.room == portal.room:
            await say_there(
                house, door, "This channel is no longer bridged to Matrix: the room there was "
                "made encrypted, and I cannot read encrypted messages.",
            )  # fmt: skip

    async def _tell_person(self, door: Doorway, portal: Portal, person: UserId) -> None:
        house = self._house
        bot, name = house.namespaces.bot, portal.chat_name
        if portal.receiver is not None:
            text = (
                f"Your chat with {name} on {portal.instance} has ended: it was made encrypted, "
                "and I cannot read encrypted messages. For a new one say here "
                f"{as_typed(f'query {portal.instance} {name}', direct=True)}"
            )
        else:
            again = as_typed(f"bridge {portal.instance} {name}")
            text = (
                f"The bridge of {await self._name_of(portal.room)} to {name} on {portal.instance} "
                "has ended: the room was made encrypted, and I cannot read encrypted messages. "
                "That cannot be undone: make a new room without encryption, invite me there and "
                f"say {again}"
            )
        chat = await self._private_chats.open(bot, person)
        if door.portal.room != portal.room:
            return
        source = ("encrypted", portal.id)
        await house.sender.put([
            notice(house.key_of, room=chat, user=bot, text=text, source=source)
        ])  # fmt: skip

    async def _name_of(self, room: RoomId) -> str:
        try:
            name = await self._house.intents.room_name(room)
        except MatrixError as error:
            heed_token(error)
            return room
        return room if name == room else f"{name} ({room})"


def _part(what: str, door: Doorway) -> tuple[str, int, RoomId]:
    return what, door.portal.id, door.portal.room
