"""A portal's move into another room: what waits for the old one goes along."""

from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence, Set
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace

from bridge.core.outbox.along import GOING
from bridge.core.outbox.sender import Sender
from bridge.core.outbox.targets import aim
from bridge.model import LinkKind, Outgoing, QueuedOutgoing, SendKind
from bridge.sdk.ids import RoomId, UserId

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
        elif one.kind in GOING:
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


class Move:
    """One portal's move out of a room."""

    def __init__(
        self, sender: Sender, portal: int, old: RoomId, room: RoomId, *, takes: bool
    ) -> None:
        """``takes``: what waits for the old room goes along."""
        self._sender = sender
        self._moves = sender.along.moves
        self._portal = portal
        self._old = old
        self._room = room
        self._takes = takes
        self._read: dict[int, QueuedOutgoing] = {}
        """What waits, by number, as far as it was read."""
        self._staying: set[int] = set()
        """Entries that are in the old room."""
        self._there: dict[str, bool] = {}
        """Remote messages, and whether they are there, or in a room left before."""

    @asynccontextmanager
    async def standstill(self) -> AsyncIterator[None]:
        """Have nothing put into either room in the block.

        Raises ``TemporaryFailure`` if what is being put there takes too long.
        """
        async with AsyncExitStack() as stack:
            async with self._sender.along.limit():
                for room in (self._old, self._room):
                    await self._hold(stack, room)
            yield

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

    async def look(self) -> None:
        """See what the old room has of what waits, at a standstill: that stays there, as its
        transaction id is another's elsewhere. It may take long. Raises ``TemporaryFailure``."""
        if not self._takes:
            return
        sender, waiting = self._sender, await self._waiting()
        said = [one for one in waiting if one.outgoing.kind is SendKind.EVENT]
        found = await sender.read_back.find(self._old, said) if said else {}
        # So they are settled there, in their turn.
        lane = sender.lane(self._old)
        lane.found = {**lane.found, **found}
        for one in waiting:
            if one.outgoing.transaction_id in found:
                self._there |= dict.fromkeys(_names(one.outgoing), True)
                self._staying.add(one.seq)
        # Asks whatever it needs, so that little is left to ask at last.
        await self._plan(waiting)

    async def make(self) -> Plan:
        """Move the portal, at a standstill and alone, and store what goes along; gives what that
        is.

        Nothing is awaited once it is so. Raises as :meth:`Moves.move` does; what went wrong once
        can be done again.
        """
        plan = await self._plan(await self._waiting()) if self._takes else Plan()
        going, sender = plan.going, self._sender
        await self._moves.move(self._portal, self._room, list(going.values()), plan.left_out)
        sender.take_out(self._old, going.keys() | {one.seq for one in plan.left_out})
        there = {one.seq for one in sender.lane(self._room).queue}
        for queued in going.values():
            if queued.seq not in there:
                sender.push(queued)
        for queued in plan.left_out:
            sender.note_dropped(queued.outgoing)
        return plan

    async def _waiting(self) -> Sequence[QueuedOutgoing]:
        # Asked first: what the homeserver has is noted any moment.
        sent = {one.queued.seq for one in self._sender.unwritten}
        # An earlier try may have come through, though nobody heard of it.
        rooms = (self._old, self._room)
        waiting = await self._moves.waiting(self._portal, rooms, self._read)
        self._read = {one.seq: one for one in waiting}
        return [one for one in waiting if one.seq not in sent]

    async def _plan(self, waiting: Sequence[QueuedOutgoing]) -> Plan:
        left = [one for one in waiting if one.seq not in self._staying]
        return await make_plan(left, self._room, self._is_there)

    async def _is_there(self, about: str) -> bool:
        if about not in self._there:
            links = await self._sender.links_of(self._portal, about)
            self._there[about] = any(link.room != self._room for link in links)
        return self._there[about]
