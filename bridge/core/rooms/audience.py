"""Who of Matrix reads in a room."""

from collections.abc import Callable
from typing import Any

from bridge.core.rooms.house import House
from bridge.matrix.client import HomeserverAway, MatrixError
from bridge.matrix.intents import Intents
from bridge.model import Portal
from bridge.sdk.errors import PermanentFailure, TemporaryFailure
from bridge.sdk.ids import RoomId, UserId

_TRIES = 10


class Audience:
    """The people in one room, our own users left out: asked once, then followed by its events."""

    def __init__(
        self, room: RoomId, intents: Intents, bot: UserId, is_ours: Callable[[str], bool]
    ) -> None:
        self._room = room
        self._intents = intents
        self._bot = bot
        self._is_ours = is_ours
        self._people: set[UserId] | None = None
        self._changes = 0

    async def people(self) -> frozenset[UserId]:
        """Everybody who is in the room, as far as the homeserver has told us.

        Raises ``HomeserverAway`` when it does not say, ``TemporaryFailure`` also when people come
        and go faster than it answers; ``PermanentFailure`` when we cannot know since our bot is
        not in there.
        """
        for _ in range(_TRIES):
            if self._people is not None:
                break
            before = self._changes
            try:
                members = await self._intents.joined_members(self._room)
            except MatrixError as error:
                raise HomeserverAway(str(error), retry_after=5) from error
            if self._bot not in members:
                raise PermanentFailure("it is not known who is in the room")
            if before == self._changes:  # Else what was asked may be older than what came.
                self._people = {user for user in members if not self._is_ours(user)}
        if self._people is None:
            # It is there, and answers well.
            raise TemporaryFailure("people come and go there all the time", retry_after=5)
        return frozenset(self._people)

    def note(self, event: dict[str, Any]) -> None:
        """Learn from a membership event of the room, as early as it is there."""
        user = UserId(str(event.get("state_key")))
        if self._is_ours(user):
            return  # Ghosts come by the hundred, and are nobody who reads.
        self._changes += 1
        if self._people is None:
            return
        if event["content"].get("membership") == "join":
            self._people.add(user)
        else:
            self._people.discard(user)

    def forget(self) -> None:
        """Ask again next time: the homeserver may have kept events from us."""
        self._changes += 1
        self._people = None


def audience_of(portal: Portal, house: House) -> Audience:
    """Who reads in a portal's room."""
    namespaces = house.namespaces
    return Audience(portal.room, house.intents, namespaces.bot, namespaces.is_ours)
