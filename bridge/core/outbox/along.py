"""What waits for a room goes along when its portal moves into another one."""

import asyncio
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence, Set
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from time import monotonic
from typing import TYPE_CHECKING

from bridge.core.outbox.targets import aim
from bridge.matrix.cache import Recent
from bridge.matrix.client import MatrixError
from bridge.model import LinkKind, Outgoing, QueuedOutgoing, SendKind
from bridge.sdk.errors import TemporaryFailure
from bridge.sdk.ids import RoomId, UserId
from bridge.storage.outbox import Outbox

if TYPE_CHECKING:
    from bridge.core.outbox.sender import Sender

_STANDSTILL_SECONDS = 20.0
"""After so long what is being put into the old room is not waited for any more."""
_PATIENCE = 300.0
"""Seconds for which what a replaced room refuses waits: that it is replaced may reach us late,
behind what is said to a slow network."""
_GOING = frozenset({SendKind.EVENT, SendKind.JOIN, SendKind.LEAVE})
"""What is said in the chat, and who comes and goes there. Topics, ranks and the like are brought
into the new room by themselves, as they are by then."""
_CHANGES = frozenset({LinkKind.EDIT, LinkKind.REACTION})

IsThere = Callable[[str], Awaitable[bool]]
"""Says whether a remote message is in the old room, or a part of it."""


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

    No event there can be about one of the old room: an answer to one and a change of one are said
    by themselves, as always where that is not known, and a reaction is left out. What is taken
    back before it was said is not said at all, nor what changes it. What takes back something of
    the old room stays there, as all else does.
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
        """By portal: how many just store something."""
        self._put_over = asyncio.Event()
        self._went: dict[tuple[int, RoomId], RoomId] = {}
        """By portal and the room that it left: where it is now."""
        self._unheard: dict[int, set[int]] = {}
        """By portal: entries that may be left out, as the answer to that commit was not heard."""
        self._refused: Recent[tuple[RoomId, RoomId], float] = Recent(1000)
        """By room and the one that takes its place: when (monotonic) it first refused anything."""
        self.find_next: Callable[[int, RoomId], Awaitable[RoomId | None]] = _none
        """Gives the room into which a portal may yet move from that one, if there is any. Raises
        ``TemporaryFailure``."""
        self.patience = _PATIENCE
        self.standstill_limit = _STANDSTILL_SECONDS

    # --- what is put meanwhile ---

    async def begin(self, outgoing: Sequence[Outgoing]) -> Sequence[Outgoing]:
        """Wait until none of the entries is of a portal that moves; give them with the rooms of
        now. Say :meth:`end` of them when they are stored, or cannot be."""
        portals = {one.portal for one in outgoing if one.portal is not None}
        while portals & self._moving.keys():
            await self._moving[next(iter(portals & self._moving.keys()))].wait()
        self._putting.update(portals)
        return [self.readdress(one) for one in outgoing] if self._went else outgoing

    def end(self, outgoing: Sequence[Outgoing]) -> None:
        """They are stored, or cannot be."""
        for portal in {one.portal for one in outgoing if one.portal is not None}:
            self._putting[portal] -= 1
            if not self._putting[portal]:
                del self._putting[portal]
        self._put_over.set()

    def readdress(self, one: Outgoing) -> Outgoing:
        """The entry for the room in which its portal is, if it is for one that that has left."""
        if one.portal is None or one.kind not in _GOING | {SendKind.REDACT}:
            return one
        room = self._went.get((one.portal, one.room))
        return one if room is None else replace(one, room=room)

    def readdress_stored(self, queued: QueuedOutgoing) -> QueuedOutgoing:
        """The same of one that is stored; one whose caller was cut off may come late."""
        outgoing = self.readdress(queued.outgoing)
        return queued if outgoing is queued.outgoing else replace(queued, outgoing=outgoing)

    # --- before a move ---

    async def may_wait(self, outgoing: Outgoing, error: Exception) -> bool:
        """Whether what a room has refused is to wait, since its portal may yet move along.

        Raises ``TemporaryFailure``.
        """
        cause, room = error.__cause__, outgoing.room
        if outgoing.portal is None or outgoing.kind not in _GOING:
            return False
        if not isinstance(cause, MatrixError) or cause.status != 403:
            return False
        following = await self.find_next(outgoing.portal, room)
        if following is None:
            return False
        now = monotonic()
        since = self._refused.get((room, following)) or now
        self._refused.put((room, following), since)
        return now - since < self.patience

    # --- the move ---

    @asynccontextmanager
    async def standstill(self, portal: int, *rooms: RoomId) -> AsyncIterator[None]:
        """Have nothing put into the rooms in the block, and nothing of the portal stored.

        Raises ``TemporaryFailure`` if what is being put there takes too long.
        """
        async with AsyncExitStack() as stack:
            try:
                async with asyncio.timeout(self.standstill_limit):
                    for room in rooms:
                        await self._hold(stack, room)
                    # Last: while the homeserver is slow, what the chat says is stored at once.
                    stack.callback(self._go_on, portal)
                    self._moving[portal] = asyncio.Event()
                    while self._putting[portal]:
                        self._put_over.clear()
                        await self._put_over.wait()
            except TimeoutError as error:
                raise TemporaryFailure(
                    "what is said in the old room is not over yet", retry_after=1
                ) from error
            yield

    def _go_on(self, portal: int) -> None:
        self._moving.pop(portal).set()

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

    async def move(self, portal: int, old: RoomId, room: RoomId, *, takes: bool) -> Plan:
        """Move the portal, at a standstill of both rooms; what goes along is on its way.

        Nothing is awaited once it is so. ``takes``: whether anything goes along. Raises as
        :meth:`Moves.move` does; what went wrong once can be done again.
        """
        moves, plan, waiting = self._outbox.moves, Plan(), list[QueuedOutgoing]()
        if takes:
            # Asked first: what the homeserver has is noted any moment.
            sent = {one.queued.seq for one in self._sender.unwritten}
            # An earlier try may have come through, though nobody heard of it.
            waiting = await moves.waiting(portal, (old, room))
            waiting = [one for one in waiting if one.seq not in sent]
            plan = await self._plan(portal, old, room, waiting)
        try:
            await moves.move(portal, room, list(plan.going.values()), plan.left_out)
        except BaseException:
            unheard = self._unheard.setdefault(portal, set())
            unheard.update(one.seq for one in plan.left_out)
            raise
        for place, there in list(self._went.items()):
            if place == (portal, room):
                del self._went[place]
            elif place[0] == portal and there == old:
                self._went[place] = room
        if takes:
            self._went[portal, old] = room
            self._carry(portal, old, room, plan, {one.seq for one in waiting})
        return plan

    async def _plan(
        self, portal: int, old: RoomId, room: RoomId, waiting: Sequence[QueuedOutgoing]
    ) -> Plan:
        """Leave in the old room what it may have: its transaction id is another's elsewhere."""
        sender = self._sender
        said = [one for one in waiting if one.outgoing.kind is SendKind.EVENT]
        found = await sender.read_back.find(old, said) if said else {}
        # So they are settled there, in their turn.
        sender.lane(old).found = {**sender.lane(old).found, **found}
        known: dict[str, bool] = {}
        for one in waiting:
            if one.outgoing.transaction_id in found:
                known |= dict.fromkeys(_names(one.outgoing), True)

        async def is_there(about: str) -> bool:
            if about not in known:
                known[about] = bool(await sender.links_of(portal, about))
            return known[about]

        left = [one for one in waiting if one.outgoing.transaction_id not in found]
        return await make_plan(left, room, is_there)

    def _carry(
        self, portal: int, old: RoomId, room: RoomId, plan: Plan, waiting: Set[int]
    ) -> None:
        sender, lane = self._sender, self._sender.lane(old)
        over = self._unheard.pop(portal, set()) - waiting
        # Stored by a commit of which nobody had heard when it was looked what waits.
        late = [
            one for one in lane.queue
            if one.outgoing.portal == portal and one.outgoing.kind in _GOING
            and one.seq not in waiting | over and lane.find_there(one.outgoing) is None
        ]  # fmt: skip
        left = {one.seq for one in (*plan.left_out, *late)}
        sender.take_out(old, plan.going.keys() | left | over)
        there = {one.seq for one in sender.lane(room).queue}
        for queued in (*plan.going.values(), *late):
            if queued.seq not in there:
                sender.push(queued)
        for queued in plan.left_out:
            sender.note_dropped(queued.outgoing)


async def _none(portal: int, room: RoomId) -> RoomId | None:
    return None
