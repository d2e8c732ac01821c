"""Rooms out of which our bots were put: they come back when somebody invites them."""

from collections.abc import Callable
from typing import Any

from bridge.matrix.cache import Recent
from bridge.matrix.client import MatrixError
from bridge.matrix.rooms import NOT_THERE, RoomQuestions
from bridge.sdk.ids import RoomId, UserId

_REMEMBERED = 50_000


class Evictions:
    """Knows it of each bot and room, and asks the homeserver for what it does not know."""

    def __init__(self, rooms: RoomQuestions, is_bot: Callable[[str], bool]) -> None:
        self._rooms = rooms
        self._is_bot = is_bot
        self._known: Recent[tuple[RoomId, UserId], bool] = Recent(_REMEMBERED)

    def is_out(self, room: RoomId, user: UserId) -> bool:
        """Whether the bot was put out and not invited since, as far as is known here."""
        return self._known.get((room, user)) is True

    async def find(self, room: RoomId, user: UserId, *, was_there: bool = False) -> bool:
        """Whether the bot was put out; the homeserver is asked if that is not known.

        ``was_there``: it was in the room once, so that it was banned if it may not look into it.
        Raises :class:`MatrixError` and ``TemporaryFailure``.
        """
        known = self._known.get((room, user))
        if known is not None:
            return known
        try:
            event = await self._rooms.membership(room, user)
        except MatrixError as error:
            if error.errcode not in NOT_THERE:
                raise
            if error.status != 403:
                return False
            known = was_there
        else:
            known = _puts_out(event, user)
        if (heard := self._known.get((room, user))) is not None:
            return heard  # Meanwhile, and so newer than the answer.
        # That it may not look says nothing unless it is known to have been there.
        if known or was_there:
            self._known.put((room, user), known)
        return known

    def note(self, event: dict[str, Any]) -> None:
        """Learn from a membership event of one of our users."""
        room, user = RoomId(event["room_id"]), UserId(str(event.get("state_key")))
        if not self._is_bot(user):
            return
        if event["content"].get("membership") == "join":
            self._known.put((room, user), False)
        elif _puts_out(event, user):
            # It may be an old one, which has come late.
            self._known.drop((room, user))

    def doubt(self) -> None:
        """Ask anew of all that are not known to be out: the homeserver may have lost that news."""
        self._known.drop_all(False)

    def ask_anew(self, room: RoomId, user: UserId) -> None:
        """Ask the homeserver next time: it refuses what those in the room may do."""
        self._known.drop((room, user))

    def forgive(self, room: RoomId, user: UserId) -> None:
        """The bot is wanted in the room again."""
        if self._is_bot(user):
            self._known.put((room, user), False)


def _puts_out(event: dict[str, Any], user: UserId) -> bool:
    """Whether somebody else did it: those who leave by themselves may come again."""
    content = event.get("content")
    membership = content.get("membership") if isinstance(content, dict) else None
    return membership in {"leave", "ban"} and event.get("sender") != user
