"""Which rooms are encrypted. Once so, always; where nobody knows, the homeserver is asked."""

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass

from bridge.core.lanes.patience import LEAST_PAUSE
from bridge.matrix.client import MatrixError
from bridge.matrix.intents import Intents
from bridge.model import Outgoing, SendKind
from bridge.sdk.errors import PermanentFailure, TemporaryFailure
from bridge.sdk.ids import RoomId, UserId


class RoomEncrypted(PermanentFailure):
    """It must not be said in clear there."""


@dataclass(slots=True, eq=False)
class _Look:
    """One question to the homeserver."""

    room: RoomId
    is_outdated: bool = False
    """What it answers may be of before something that was heard meanwhile."""


class Encryption:
    """Knows of each room whether it is encrypted, known to be clear, or unknown.

    That a room is encrypted is kept in the database. That it is clear is only remembered while
    the program runs, so that after a start we ask, and find what was lost on the way to us.
    """

    def __init__(
        self,
        encrypted: Iterable[RoomId],
        intents: Intents,
        *,
        mark: Callable[[RoomId], Awaitable[None]],
        unmark: Callable[[RoomId], Awaitable[None]],
        bot: UserId,
    ) -> None:
        """``mark`` keeps a room's name in the database, ``unmark`` takes it out again."""
        self._intents = intents
        self._mark = mark
        self._unmark = unmark
        self._bot = bot
        self._known: dict[RoomId, bool] = dict.fromkeys(encrypted, True)
        self._marked = set(self._known)
        self._checking: set[RoomId] = set()
        """Of which nothing new was heard since the homeserver was asked."""
        self._looks: set[_Look] = set()
        """What is being asked just now."""
        self.of = self._known.get
        """Whether a room is encrypted; None if that is not known. No more than a look."""
        self.on_encrypted: Callable[[RoomId], None] = _nothing
        """Called when it becomes known of a room."""

    def is_known(self, room: RoomId) -> bool:
        """Whether the room is known to be encrypted."""
        return self._known.get(room) is True

    async def note(self, room: RoomId) -> None:
        """Note that the room is encrypted. Raises ``TemporaryFailure``; then note it again."""
        self._known[room] = True
        self._checking.discard(room)
        if room not in self._marked:
            await self._mark(room)
            self._marked.add(room)
            self.on_encrypted(room)

    async def check(self, room: RoomId) -> bool:
        """Whether a room that was noted is so: it may have been by a stranger's word.

        Where the bot may not see it, it is. Raises :class:`MatrixError`, and
        ``TemporaryFailure`` when a wrong mark cannot be removed now; then it still counts.
        """
        self._checking.add(room)
        seen = await self._intents.see_encryption(room, self._bot)
        if seen is False and room in self._checking:
            await self._unmark(room)
            self._marked.discard(room)
            if room in self._checking:
                self._known[room] = False
            else:  # Noted meanwhile, and that was just undone.
                await self.note(room)
        return self.is_known(room)

    def doubt(self, room: RoomId) -> None:
        """Ask anew whether the room is clear: for a time nobody of us may have been there."""
        if self._known.get(room) is False:
            del self._known[room]
        for look in self._looks:
            look.is_outdated |= look.room == room

    def doubt_all(self) -> None:
        """Ask anew about every room: the homeserver may have lost what made one encrypted."""
        for room in [room for room, encrypted in self._known.items() if not encrypted]:
            del self._known[room]
        for look in self._looks:
            look.is_outdated = True

    async def look(self, room: RoomId, user: UserId) -> bool:
        """Ask as a user of ours who is in the room whether it is encrypted.

        False also where the user may not see that; then it stays unknown. Raises
        :class:`MatrixError`, and ``TemporaryFailure``, also if it came into doubt meanwhile.
        """
        if not self.is_known(room):
            look = _Look(room)
            self._looks.add(look)
            try:
                seen = await self._intents.see_encryption(room, user)
            finally:
                self._looks.discard(look)
            if seen:
                await self.note(room)
            elif look.is_outdated and not self.is_known(room):
                raise TemporaryFailure("it may be encrypted by now", retry_after=LEAST_PAUSE)
            elif seen is False:
                self._known.setdefault(room, False)
        return self.is_known(room)

    async def refuse_in_clear(self, outgoing: Outgoing) -> None:
        """Raise :class:`RoomEncrypted` for what must not be said in an encrypted room; and as
        :meth:`ask` does."""
        if outgoing.kind is SendKind.EVENT:
            is_secret = self.of(outgoing.room)
            if is_secret or (is_secret is None and await self.ask(outgoing)):
                raise RoomEncrypted("the room is encrypted")

    def refuse_news(self, outgoing: Outgoing) -> None:
        """Raise ``TemporaryFailure`` if a room that was clear may be encrypted by now."""
        if outgoing.kind is SendKind.EVENT and self.of(outgoing.room) is not False:
            raise TemporaryFailure("it may be encrypted by now", retry_after=LEAST_PAUSE)

    async def ask(self, outgoing: Outgoing) -> bool:
        """Ask before the first thing is said in a room.

        Whoever says it comes in first, as for saying it: who was put out sees the room as it was
        then. Raises ``TemporaryFailure``, and ``PermanentFailure`` if nobody may see it.
        """
        room, user = outgoing.room, outgoing.user
        try:
            if outgoing.double:  # The ghost may have no business there.
                await self.look(room, self._bot)
            if self.of(room) is None:
                await self._intents.ensure_joined(room, user, outgoing.name)
                await self.look(room, user)
        except MatrixError as error:
            if error.status == 403:
                raise PermanentFailure(f"the homeserver refused it: {error.message}") from error
            raise TemporaryFailure(str(error)) from error
        if self.of(room) is None:
            raise PermanentFailure("nobody of us may see whether the room is encrypted")
        return self.is_known(room)


def _nothing(room: RoomId) -> None:
    """Where nobody waits for it."""
