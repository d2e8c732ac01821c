"""People are told before they get a connection of their own on a network: once each."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from bridge.core.host.privatechat import PrivateChats
from bridge.core.outbox.outgoing import KeyOf, notice
from bridge.core.outbox.registeredpost import RegisteredPost
from bridge.model import Announce, Clock, InstanceRules, Portal, Puppets
from bridge.sdk.commands import as_typed
from bridge.sdk.errors import PermanentFailure
from bridge.sdk.ids import InstanceId, RoomId, UserId
from bridge.storage.portals import BotRooms
from bridge.waits import is_set_within

log = logging.getLogger(__name__)

READING_SECONDS = 60.0
"""How long a first message is held, where the rule is to read before."""
_TELLING_SECONDS = 20.0
"""How long it may take at a time until the notice is in its room."""


Foretell = Callable[[], Awaitable[str]]
"""Gives the name that the person would have on the network; empty if that is not known."""

_HOW_TO_SAY_NO = f"say `{as_typed('optout')}`, or `{as_typed('optout everywhere')}`."

_SPEAKERS = {
    Puppets.AUTOMATIC: "each of you is given a connection there, and told before it is made",
    Puppets.LOGIN: "whoever has linked an account there speaks from it "
    f"(`{as_typed('login')}`), and for "
    "the others a relay speaks and names them",
    Puppets.RELAY: "a relay speaks there for all of you and names you",
}


@dataclass(frozen=True, slots=True)
class Place:
    """Where somebody is told, and of which network."""

    instance: InstanceId
    room: RoomId
    chat_name: str = ""
    """Where it goes from this room, if it goes anywhere."""


@dataclass(frozen=True, slots=True)
class _Notice:
    """What somebody was told and should read."""

    room: RoomId
    read: asyncio.Event


class Announcer:
    """Tells people what goes where, and how to say no, before anything goes there."""

    def __init__(
        self,
        told: BotRooms,
        post: RegisteredPost,
        chats: PrivateChats,
        clock: Clock,
        key_of: KeyOf,
        bot: UserId,
        read_more: str = "",
    ) -> None:
        """``read_more`` says where the rules stand, and whom to turn to; empty: nowhere."""
        self._told = told
        self._post = post
        self._chats = chats
        self._clock = clock
        self._key_of = key_of
        self._bot = bot
        self.read_more = read_more
        self._known: set[tuple[UserId, InstanceId]] = set()
        self._reading: dict[UserId, dict[InstanceId, _Notice]] = {}

    def is_done(self, person: UserId, instance: InstanceId) -> bool:
        """Whether it is known that :meth:`hold` neither tells the person nor waits."""
        return (person, instance) in self._known

    async def hold(
        self, person: UserId, place: Place, rules: InstanceRules, foretell: Foretell
    ) -> float:
        """Tell the person, unless it was done; give the seconds that the connection must wait yet.

        ``foretell`` says how the connection would be called. Nobody gets a connection who was not
        told: raises ``TemporaryFailure`` when the database or the homeserver is away, and
        ``PermanentFailure`` where the notice is refused.
        """
        key = (person, place.instance)
        if key in self._known:
            return 0.0
        what = f"puppet on {place.instance}"
        at = await self._told.told_at(person, what)
        if at is None:
            # Of one telling, however often it is tried; after an erasure it is another.
            begun = f"{what}: begun"
            await self._told.note_told(person, begun)
            since = await self._told.told_at(person, begun)
            source = ("announce", person, place.instance, since)
            text = _words(person, place, await foretell(), self.read_more)
            room = await self._tell(person, place, rules, text, source)
            # Before anything is waited for: it may be read at once.
            if rules.announce is Announce.BEFORE:
                notices = self._reading.setdefault(person, {})
                notices.setdefault(place.instance, _Notice(room, asyncio.Event()))
            await self._told.note_told(person, what)
            await self._told.forget_told(person, begun)
            at = self._clock.now()
        ago = (self._clock.now() - at).total_seconds()
        # Told while the clock was far ahead: since when is not known.
        left = READING_SECONDS - ago if ago >= -READING_SECONDS else 0.0
        told = self._find(person, place.instance)
        if rules.announce is Announce.BEFORE and left > 0 and not (told and told.read.is_set()):
            return left
        if told is not None:
            del self._reading[person][place.instance]
            if not self._reading[person]:
                del self._reading[person]
        if len(self._known) > 10_000:
            self._known.clear()
        self._known.add(key)
        return 0.0

    def _find(self, person: UserId, instance: InstanceId) -> _Notice | None:
        return self._reading.get(person, {}).get(instance)

    def note_read(self, person: UserId, room: RoomId) -> None:
        """Somebody has read what was said in a room: what is held of theirs may go."""
        for told in self._reading.get(person, {}).values():
            if told.room == room:
                told.read.set()

    def forget(self, person: UserId) -> None:
        """Forget about somebody: what they were told is erased, and they are told anew."""
        self._known = {key for key in self._known if key[0] != person}
        self._reading.pop(person, None)

    async def wait_until_read(self, person: UserId, instance: InstanceId, limit: float) -> None:
        """Return when the person has read the notice of the network, wherever it was told, or
        after ``limit`` seconds."""
        told = self._find(person, instance)
        if told is None:
            await asyncio.sleep(limit)
        else:
            await is_set_within(limit, told.read)

    async def _tell(
        self, person: UserId, place: Place, rules: InstanceRules, text: str,
        source: tuple[object, ...],
    ) -> RoomId:  # fmt: skip
        """Tell it; give the room in which it stands."""
        room = place.room
        if rules.announce_direct:
            try:
                room = await self._chats.open(self._bot, person)
            except PermanentFailure as error:
                log.info("told in the room: %s", error, extra={"event": "told_in_room"})
        said = notice(self._key_of, room=room, user=self._bot, text=text, source=source)
        try:
            await self._post.send(said, _TELLING_SECONDS)
        except PermanentFailure as error:
            raise PermanentFailure(
                f"you have no connection to {place.instance}, for I cannot tell you first what "
                f"goes there: {error}"
            ) from error
        return room


def _words(person: UserId, place: Place, nick: str, read_more: str) -> str:
    named = f" as {nick}" if nick else ""
    here = f"; here to {place.chat_name}" if place.chat_name else ""
    return (
        f"{person}: what you say in bridged rooms goes to {place.instance}, a network outside of "
        f"Matrix, from a connection of your own{named}{here}. Whoever is "
        "there can read and keep it, also after you have removed it here. If you do not want "
        f"that, {_HOW_TO_SAY_NO}{_and(read_more)}"
    )


def terms(portal: Portal, puppets: Puppets, read_more: str) -> str:
    """What people of a room that is bridged are told: what goes where, and how to say no.

    ``read_more`` says where the rules stand, and whom to turn to; empty: nowhere.
    """
    return (
        f"What is said here goes to {portal.chat_name} on {portal.instance}, a network outside of "
        f"Matrix, and what is said there comes here; {_SPEAKERS[puppets]}. Whoever is there can "
        "read and keep it, also after it was removed here. If you do not want that, "
        f"{_HOW_TO_SAY_NO}{_and(read_more)}"
    )


def _and(read_more: str) -> str:
    return f" {read_more}" if read_more else ""
