"""What waits for a room goes along when its portal moves into another one."""

import asyncio
from collections import Counter, defaultdict
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Collection,
    Iterable,
    Sequence,
    Set,
)
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from bridge.core.outbox.targets import aim
from bridge.matrix.client import MatrixError
from bridge.model import LinkKind, Outgoing, QueuedOutgoing, SendKind
from bridge.sdk.errors import TemporaryFailure
from bridge.sdk.ids import RoomId, UserId
from bridge.storage.outbox import Outbox

if TYPE_CHECKING:
    from bridge.core.outbox.sender import Sender

_STANDSTILL_SECONDS = 20.0
"""After so long what is being put into the old room is not waited for any more."""
_GOING = frozenset({SendKind.EVENT, SendKind.JOIN, SendKind.LEAVE})
"""What is said in the chat, and who comes and goes there. Topics, ranks and the like are brought
into the new room by themselves, as they are by then."""
_OF_NOW = _GOING | {SendKind.REDACT}
"""What is put for the room in which its portal is by then."""
_CHANGES = frozenset({LinkKind.EDIT, LinkKind.REACTION})

IsThere = Callable[[str], Awaitable[bool]]
"""Says whether a remote message is in a room that is left, or a part of it."""


@dataclass(slots=True)
class Plan:
    """What becomes of what waits."""

    going: dict[int, QueuedOutgoing] = field(default_factory=dict)
    """By number, as it goes along."""
    left_out: list[QueuedOutgoing] = field(default_factory=list)

    def came(self) -> set[UserId]:
        """Whom what goes along brings into the new room, to stay."""
        return {user for user, kind in self._last() if kind is not SendKind.LEAVE}

    def left(self) -> set[UserId]:
        """Who goes by it."""
        return {user for user, kind in self._last() if kind is SendKind.LEAVE}

    def _last(self) -> Iterable[tuple[UserId, SendKind]]:
        return {one.outgoing.user: one.outgoing.kind for one in self.going.values()}.items()


async def make_plan(waiting: Sequence[QueuedOutgoing], room: RoomId, is_there: IsThere) -> Plan:
    """Decide what goes along into a room.

    What is about an event of another room goes as :func:`aim` says; a reaction to one is left out.
    What is taken back before it was said is not said at all, nor what changes it. What takes back
    something of the old room stays there, as all else does.
    """
    plan, named = Plan(), defaultdict[str, list[int]](list)
    for queued in waiting:
        one = queued.outgoing
        if one.kind is SendKind.REDACT and one.about:
            taken = [plan.going.pop(seq, None) for seq in named.pop(one.about, ())]
            plan.left_out += filter(None, taken)
            if not await is_there(one.about):
                plan.left_out.append(queued)
        elif one.kind in _GOING:
            if one.about and await is_there(one.about):
                if one.link is LinkKind.REACTION:
                    plan.left_out.append(queued)
                    continue
                one = replace(aim(one, (), ())[0], about="")
            plan.going[queued.seq] = replace(queued, outgoing=replace(one, room=room))
            for name in _names(queued.outgoing):
                named[name].append(queued.seq)
    return plan


def _names(one: Outgoing) -> Set[str]:
    """By what an entry is taken back: what changes a message goes with it."""
    changed = one.about if one.link in _CHANGES else ""
    return {name for name in (one.remote_id, one.alias, changed) if name}


class Along:
    """Has portals move, and what is put at that time be of the right room."""

    def __init__(self, sender: "Sender", outbox: Outbox) -> None:
        self._sender = sender
        self._outbox = outbox
        self._moving: dict[int, asyncio.Event] = {}
        """By portal: set when its move is over."""
        self._putting: Counter[int] = Counter()
        """By portal: how many just store something, or end it."""
        self._put_over = asyncio.Event()
        self.room_of: Callable[[int], RoomId | None] = lambda portal: None
        """Gives the room in which what a portal puts belongs, wherever it was put for; None for
        that for which it was put."""
        self.may_follow: Callable[[int, RoomId], Awaitable[bool]] = _no
        """Says whether the portal may yet move out of that room. Raises ``TemporaryFailure``."""
        self.standstill_limit = _STANDSTILL_SECONDS

    # --- what is put meanwhile ---

    @asynccontextmanager
    async def unmoved(self, portals: Collection[int | None]) -> AsyncIterator[None]:
        """Have none of the portals move in the block."""
        held = {portal for portal in portals if portal is not None}
        while held & self._moving.keys():
            await self._moving[next(iter(held & self._moving.keys()))].wait()
        self._putting.update(held)
        try:
            yield
        finally:
            for portal in held:
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
        if outgoing is queued.outgoing or outgoing.kind not in _GOING:
            return False
        if await self._outbox.moves.readdress(queued, outgoing.room):
            self._sender.push(replace(queued, outgoing=outgoing))
        else:  # It was settled by a move of whose commit nobody heard.
            self._sender.note_dropped(outgoing)
        return True

    # --- before a move ---

    async def may_wait(self, outgoing: Outgoing, error: Exception) -> bool:
        """Whether what a room has refused is to wait, since its portal may yet move along.

        Raises ``TemporaryFailure``.
        """
        cause = error.__cause__
        if outgoing.portal is None or outgoing.kind not in _GOING:
            return False
        if not isinstance(cause, MatrixError) or cause.status != 403:
            return False
        return await self.may_follow(outgoing.portal, outgoing.room)

    # --- the move ---

    @asynccontextmanager
    async def standstill(self, *rooms: RoomId) -> AsyncIterator[None]:
        """Have nothing put into the rooms in the block.

        Raises ``TemporaryFailure`` if what is being put there takes too long.
        """
        async with AsyncExitStack() as stack:
            async with self._limit():
                for room in rooms:
                    await self._hold(stack, room)
            yield

    @asynccontextmanager
    async def alone(self, portal: int) -> AsyncIterator[None]:
        """Have nothing of the portal stored in the block; say what may take long before that.

        Raises ``TemporaryFailure`` if what is being stored takes too long.
        """
        over = self._moving[portal] = asyncio.Event()
        try:
            async with self._limit():
                while self._putting[portal]:
                    self._put_over.clear()
                    await self._put_over.wait()
            yield
        finally:
            del self._moving[portal]
            over.set()

    @asynccontextmanager
    async def _limit(self) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(self.standstill_limit):
                yield
        except TimeoutError as error:
            raise TemporaryFailure(
                "what is said in the old room is not over yet", retry_after=1
            ) from error

    async def _hold(self, stack: AsyncExitStack, room: RoomId) -> None:
        while True:
            lane = self._sender.lane(room)
            async with AsyncExitStack() as held:
                held.callback(self._sender.go_on, lane)
                await held.enter_async_context(lane.turn)
                await held.enter_async_context(lane.parking)
                if self._sender.lane_of(room) is lane:  # Else it came to its end meanwhile.
                    stack.push_async_exit(held.pop_all())
                    return

    async def look(self, portal: int, old: RoomId, room: RoomId) -> "Known":
        """See what the old room has of what waits, at a standstill of both: that stays there, as
        its transaction id is another's elsewhere. It may take long."""
        sender, known = self._sender, Known(portal, room, self._sender)
        waiting = await self._waiting(portal, old, room)
        said = [one for one in waiting if one.outgoing.kind is SendKind.EVENT]
        found = await sender.read_back.find(old, said) if said else {}
        # So they are settled there, in their turn.
        sender.lane(old).found = {**sender.lane(old).found, **found}
        for one in waiting:
            if one.outgoing.transaction_id in found:
                known.there |= dict.fromkeys(_names(one.outgoing), True)
                known.staying.add(one.seq)
        # Asks whatever it needs, so that little is left to ask at last.
        await make_plan([one for one in waiting if one.seq not in known.staying], room, known.has)
        return known

    async def _waiting(self, portal: int, old: RoomId, room: RoomId) -> list[QueuedOutgoing]:
        # Asked first: what the homeserver has is noted any moment.
        sent = {one.queued.seq for one in self._sender.unwritten}
        # An earlier try may have come through, though nobody heard of it.
        waiting = await self._outbox.moves.waiting(portal, (old, room))
        return [one for one in waiting if one.seq not in sent]

    async def move(self, portal: int, old: RoomId, room: RoomId, known: "Known | None") -> Plan:
        """Move the portal, at a standstill of both rooms and alone, and store what goes along.

        None for ``known``: nothing does. Nothing is awaited once it is so. Raises as
        :meth:`Moves.move` does; what went wrong once can be done again.
        """
        plan = Plan()
        if known is not None:
            waiting = await self._waiting(portal, old, room)
            left = [one for one in waiting if one.seq not in known.staying]
            plan = await make_plan(left, room, known.has)
        await self._outbox.moves.move(portal, room, list(plan.going.values()), plan.left_out)
        sender = self._sender
        sender.take_out(old, plan.going.keys() | {one.seq for one in plan.left_out})
        there = {one.seq for one in sender.lane(room).queue}
        for queued in plan.going.values():
            if queued.seq not in there:
                sender.push(queued)
        for queued in plan.left_out:
            sender.note_dropped(queued.outgoing)
        return plan


@dataclass(slots=True)
class Known:
    """What is known of the old room before a portal moves out of it into another."""

    portal: int
    room: RoomId
    sender: "Sender"
    staying: set[int] = field(default_factory=set)
    """Entries that are there."""
    there: dict[str, bool] = field(default_factory=dict)
    """Remote messages, and whether they are."""

    async def has(self, about: str) -> bool:
        """Whether a remote message, or a part of it, is there, or in a room left before."""
        if about not in self.there:
            links = await self.sender.links_of(self.portal, about)
            self.there[about] = any(link.room != self.room for link in links)
        return self.there[about]


async def _no(portal: int, room: RoomId) -> bool:
    return False
