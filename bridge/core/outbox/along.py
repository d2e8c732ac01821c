"""What is put while a portal moves into another room is of the right one."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Set
from contextlib import asynccontextmanager
from dataclasses import replace

from bridge.matrix.client import MatrixError
from bridge.model import Outgoing, QueuedOutgoing, SendKind
from bridge.sdk.errors import TemporaryFailure
from bridge.sdk.ids import RoomId
from bridge.storage.moves import Moves

_STANDSTILL_SECONDS = 20.0
"""After so long what is being put into the old room is not waited for any more."""
GOING = frozenset({SendKind.EVENT, SendKind.JOIN, SendKind.LEAVE})
"""What is said in the chat, and who comes and goes there. Topics, ranks and the like are brought
into the new room by themselves, as they are by then."""
_OF_NOW = GOING | {SendKind.REDACT}
"""What is put for the room in which its portal is by then."""


class Along:
    """Has a portal move while nothing of it is stored, and what is put be of the right room."""

    def __init__(
        self, moves: Moves, push: Callable[[QueuedOutgoing], None],
        drop: Callable[[Outgoing], None],
    ) -> None:  # fmt: skip
        """``push`` has an entry wait for its room; ``drop`` tells that one is left out."""
        self.moves = moves
        self._push = push
        self._drop = drop
        self._moving: dict[int, asyncio.Event] = {}
        """By portal: set when its move is over."""
        self._putting: dict[int, int] = {}
        """By portal: how many just store something, or end it."""
        self._put_over = asyncio.Event()
        self.room_of: Callable[[int], RoomId | None] = lambda portal: None
        """Gives the room in which what a portal puts belongs, wherever it was put for; None for
        that for which it was put."""
        self.may_follow: Callable[[int, RoomId], Awaitable[bool]] = _no
        """Says whether the portal may yet move out of that room. Raises ``TemporaryFailure``."""
        self.standstill_limit = _STANDSTILL_SECONDS

    # --- what is put meanwhile ---

    async def hold(self, portals: Set[int]) -> None:
        """Have none of the portals move until they are released."""
        while moving := portals & self._moving.keys():
            await self._moving[moving.pop()].wait()
        for portal in portals:
            self._putting[portal] = self._putting.get(portal, 0) + 1

    def release(self, portals: Set[int]) -> None:
        """Let the portals move again that were held."""
        for portal in portals:
            self._putting[portal] -= 1
            if not self._putting[portal]:
                del self._putting[portal]
        self._put_over.set()

    def readdress(self, one: Outgoing) -> Outgoing:
        """The entry for the room in which its portal is by now."""
        if one.portal is None or one.kind not in _OF_NOW:
            return one
        room = self.room_of(one.portal)
        return one if room in {None, one.room} else replace(one, room=room)

    async def pass_on(self, queued: QueuedOutgoing) -> bool:
        """Have an entry go into its portal's room if that has left the one for which it waits:
        its caller was cut off, or it was parked. Gives whether it is of that room no more.

        Raises ``TemporaryFailure``.
        """
        outgoing = self.readdress(queued.outgoing)
        if outgoing is queued.outgoing or outgoing.kind not in GOING:
            return False
        if await self.moves.readdress(queued, outgoing.room):
            self._push(replace(queued, outgoing=outgoing, again=False))
        else:  # It was settled by a move of whose commit nobody heard.
            self._drop(outgoing)
        return True

    # --- before a move ---

    async def may_wait(self, outgoing: Outgoing, error: Exception) -> bool:
        """Whether what a room has refused is to wait, since its portal may yet move along.

        Raises ``TemporaryFailure``.
        """
        cause = error.__cause__
        if outgoing.portal is None or outgoing.kind not in GOING:
            return False
        if not isinstance(cause, MatrixError) or cause.status != 403:
            return False
        return await self.may_follow(outgoing.portal, outgoing.room)

    # --- the move ---

    @asynccontextmanager
    async def alone(self, portal: int) -> AsyncIterator[None]:
        """Have nothing of the portal stored in the block; say what may take long before that.

        Raises ``TemporaryFailure`` if what is being stored takes too long.
        """
        over = self._moving[portal] = asyncio.Event()
        try:
            async with self.limit():
                while portal in self._putting:
                    self._put_over.clear()
                    await self._put_over.wait()
            yield
        finally:
            del self._moving[portal]
            over.set()

    @asynccontextmanager
    async def limit(self) -> AsyncIterator[None]:
        """Raise ``TemporaryFailure`` if what is being put takes too long in the block."""
        try:
            async with asyncio.timeout(self.standstill_limit):
                yield
        except TimeoutError as error:
            raise TemporaryFailure(
                "what is said in the old room is not over yet", retry_after=1
            ) from error


async def _no(portal: int, room: RoomId) -> bool:
    return False
