"""A room that was replaced by another (a tombstone): its bridge goes along, if it may."""

import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence, Set
from typing import Any

from bridge.core.lanes.lane import Item
from bridge.core.outbox.outgoing import once
from bridge.core.portals.plumbing import Plumbing
from bridge.core.portals.portals import Portals
from bridge.core.rooms.house import House
from bridge.core.traffic.bothsides import say_on_both_sides
from bridge.core.traffic.doorway import Doorway
from bridge.core.traffic.telling import tell
from bridge.matrix.cache import Recent
from bridge.matrix.client import MatrixError, failure_of, heed_token
from bridge.model import Outgoing, SendKind
from bridge.sdk.errors import PermanentFailure
from bridge.sdk.ids import RoomId, UserId

log = logging.getLogger(__name__)

_PATIENCE_MS = 5 * 60 * 1000
"""For so long after its tombstone what a room refuses waits for the move: we may hear of it late,
behind what is said to a slow network."""


class Upgrades:
    """Follows a tombstone only where both rooms say the same, and whoever set it runs both.

    Another bridge was once led into a stranger's room by a tombstone alone (CVE-2021-32659).
    """

    def __init__(
        self,
        house: House,
        portals: Portals,
        plumbing: Plumbing,
        move_in: Callable[[UserId, RoomId], Awaitable[None]],
    ) -> None:
        self._house = house
        self._portals = portals
        self._plumbing = plumbing
        self._move_in = move_in
        self._moving: set[tuple[int, RoomId]] = set()
        """By portal and old room: the moves of this process that are not finished."""

        self._stays: Recent[tuple[int, RoomId], RoomId] = Recent(1000)
        """By portal and room: the other that took its place, and that is not followed."""
        self._took: set[int] = set()
        """Portals whose chat is one login's, and that took along what waited."""
        plumbing.leave_behind = self.leave_behind
        house.sender.along.may_follow = self._may_follow
        house.sender.along.room_of = self._room_of

    async def follow(self, door: Doorway, item: Item) -> None:
        """Move the portal, or say in the old room why not. Raises ``TemporaryFailure``."""
        item.drop()
        # Whoever unties it meanwhile does so before the move, or once all of it is done.
        async with self._plumbing.holding(door) as is_there:
            if is_there:
                await self._follow(door, item)

    def _room_of(self, number: int) -> RoomId | None:
        """The room of what the portal puts, wherever it was put for.

        What one person alone is told was let through for those who read there.
        """
        door = self._portals.numbered(number)
        if door is None:
            return None
        portal = door.portal
        return portal.room if portal.receiver is None or number in self._took else None

    async def _may_follow(self, number: int, old: RoomId) -> bool:
        """Whether there is a new tombstone in the portal's own room that may yet be followed.

        A room is closed as soon as it has one, and we hear of that a little later. Raises
        ``TemporaryFailure``.
        """
        door = self._portals.numbered(number)
        if door is None or door.portal.room != old:
            return False
        try:
            tombstone = await self._house.intents.state_event(old, "m.room.tombstone")
        except MatrixError as error:
            heed_token(error)
            return False
        room, said_at = _named_by(tombstone, old), tombstone.get("origin_server_ts")
        if room is None or self._stays.get((number, old)) == room or type(said_at) is not int:
            return False
        now_ms = self._house.clock.now().timestamp() * 1000
        return abs(now_ms - said_at) < _PATIENCE_MS  # Nor may a time to come hold anything.

    async def leave_behind(self, door: Doorway) -> None:
        """Have nothing of a portal that ends stay where a move of it is not finished.

        Raises ``TemporaryFailure`` and :class:`MatrixError`; it can be done again.
        """
        house, number = self._house, door.portal.id
        for old in [old for moving, old in self._moving if moving == number]:
            there = self._ghosts(door, await house.intents.joined_members(old))
            # Not as the portal's: they go though it is gone by then.
            await house.sender.put([
                Outgoing(room=old, user=ghost, kind=SendKind.LEAVE, content={},
                         transaction_id=once())
                for ghost in sorted(there)
            ])  # fmt: skip
            await self._plumbing.retract(door, old)
            self._moving.discard((number, old))

    async def _follow(self, door: Doorway, item: Item) -> None:
        portal, sender = door.portal, UserId(item.event["sender"])
        old = RoomId(item.event["room_id"])
        room = _named_by(item.event, old)
        if room is None:
            return
        if portal.room == room != old:
            if (portal.id, old) in self._moving or await self._was_cut_off(door, old, sender):
                # It was moved, and what comes after that was cut off.
                await self._settle(door, old, sender, [door.facts.unlist(old)])
            return
        try:
            await self._check(door, room, sender)
        except (PermanentFailure, MatrixError) as error:
            heed_token(error)
            reason = "the homeserver refuses it" if isinstance(error, MatrixError) else str(error)
            await tell(
                self._house, portal, item, "upgrade",
                f"The bridge to {portal.chat_name} on {portal.instance} stays here: "
                f"{reason.rstrip('.')}.",
            )  # fmt: skip
            self._stays.put((portal.id, old), room)
            if (lane := self._house.sender.lane_of(old)) is not None:
                lane.wake()  # What is refused there waits for nothing any more.
            return
        await self._move(door, room, sender)

    async def _was_cut_off(self, door: Doorway, old: RoomId, sender: UserId) -> bool:
        """Whether an earlier process moved the bridge here from there, and got no further."""
        house, room = self._house, door.portal.room
        # Where another bridge of the network is still, its ghosts tell nothing.
        still = {other.portal.instance for other in self._portals.in_room(old)}
        has_ghosts = door.portal.instance not in still
        try:
            return (
                await self._replaces(room, old)
                and await house.intents.can(room, sender, "m.bridge")
                and (
                    (
                        has_ghosts
                        and bool(self._ghosts(door, await house.intents.joined_members(old)))
                    )
                    or await self._plumbing.is_published(door, old)
                )
            )
        except (PermanentFailure, MatrixError) as error:
            heed_token(error)
            return False

    async def _replaces(self, room: RoomId, old: RoomId) -> bool:
        creation = await self._house.intents.state(room, "m.room.create") or {}
        predecessor = creation.get("predecessor")
        return isinstance(predecessor, dict) and predecessor.get("room_id") == old

    def _ghosts(self, door: Doorway, users: Iterable[UserId]) -> set[UserId]:
        """Those of the users that are ghosts of the portal's network."""
        parse = self._house.namespaces.parse_ghost
        instance = door.portal.instance
        return {user for user in users if (who := parse(user)) and who[0] == instance}

    async def _check(self, door: Doorway, room: RoomId, sender: UserId) -> None:
        """Raise ``PermanentFailure`` with why the new room is not to be trusted."""
        house, old = self._house, door.portal.room
        tombstone = await house.intents.state(old, "m.room.tombstone") or {}
        if tombstone.get("replacement_room") != room:
            raise PermanentFailure("it is not replaced any more")
        try:
            await house.intents.join_by(room, house.namespaces.bot, sender.partition(":")[2])
        except MatrixError as error:
            raise failure_of(
                error, "I am not let into the new room; invite me there and bridge it"
            ) from error
        if not await self._replaces(room, old):
            raise PermanentFailure("the new room does not say that it replaces this one")
        if not await house.intents.can(room, sender, "m.bridge"):
            raise PermanentFailure(f"{sender} has no power over the settings of the new room")
        if await house.intents.is_encrypted(room):
            raise PermanentFailure("the new room is encrypted, which I cannot read yet")
        if door.portal.receiver is None:
            self._portals.refuse_second(room, door.portal.instance, door.chat)

    async def _move(self, door: Doorway, room: RoomId, sender: UserId) -> None:
        old = door.portal.room
        attendance = door.arrivals.attendance
        # Those on their way there are not in there yet.
        present = await attendance.present()
        left = attendance.gone(present) | attendance.going
        hidden = door.facts.hide()
        takes = await self._may_read_along(door, room)
        self._moving.add((door.portal.id, old))
        plan = await self._portals.move(door, room, sender, takes=takes)
        # Nothing is put before that is so: nothing is awaited.
        self._took.discard(door.portal.id)
        if takes and door.portal.receiver is not None:
            self._took.add(door.portal.id)
        left |= plan.left()
        attendance.note_brought(plan.came() - left)
        door.facts.forget_listing()  # That was of the old room.
        await self._settle(door, old, sender, hidden, present, left, plan.came())

    async def _may_read_along(self, door: Doorway, room: RoomId) -> bool:
        """Whether what waits for the old room may be read by those who are in the new one.

        What is said to one person alone was let through for those who were in the old room. Of
        all else it is asked when it is put (``consent.privacy``).
        """
        if door.portal.receiver is None:
            return True
        try:
            people = await self._house.intents.joined_members(room)
        except MatrixError as error:
            heed_token(error)
            return False
        names = self._house.namespaces
        others = {one for one in people if not names.is_ours(one)}
        # Nobody at all is told of where the bot may not see them.
        return names.bot in people and others <= {door.portal.created_by}

    async def _settle(
        self, door: Doorway, old: RoomId, sender: UserId, hidden: Sequence[Outgoing],
        present: Set[UserId] = frozenset(), left: Set[UserId] = frozenset(),
        came: Set[UserId] = frozenset(),
    ) -> None:  # fmt: skip
        """Do in both rooms what belongs to a move; all of it can be done again.

        Those who ``left`` the chat while room and chat could not be compared, or were to leave
        the old room soon, leave it and do not come into the new one; those of them who ``came``
        there by what they had said leave it again.
        """
        house, portal = self._house, door.portal
        names = await house.intents.joined_members(old)
        there = self._ghosts(door, names) | present
        await door.facts.show()
        await self._move_in(house.namespaces.bot, portal.room)

        def membership(ghost: UserId, where: RoomId, kind: SendKind) -> Outgoing:
            return Outgoing(
                room=where, user=ghost, kind=kind, content={}, transaction_id=once(),
                # What is the portal's is of the room in which that is.
                portal=None if where == old else portal.id, name=names.get(ghost, ""),
            )  # fmt: skip

        along = there - left - door.arrivals.attendance.gone(there)
        await house.sender.put([
            *hidden,
            *(membership(ghost, portal.room, SendKind.JOIN) for ghost in sorted(along)),
            *(membership(ghost, portal.room, SendKind.LEAVE) for ghost in sorted(came & left)),
            *(membership(ghost, old, SendKind.LEAVE) for ghost in sorted(there)),
        ])  # fmt: skip
        await self._plumbing.retract(door, old)
        await self._plumbing.publish(door, sender)
        await door.facts.review()
        await say_on_both_sides(
            house, door,
            there=f"The Matrix room was replaced by {sender}; the bridge has moved along.",
            here=f"The bridge to {portal.chat_name} on {portal.instance} has moved here.",
        )  # fmt: skip
        self._moving.discard((portal.id, old))
        log.info("a bridge has moved", extra={"event": "moved", "instance": portal.instance})


def _named_by(tombstone: Mapping[str, Any], old: RoomId) -> RoomId | None:
    """The room that takes the old one's place; None if a tombstone names none, or that itself."""
    room = (tombstone.get("content") or {}).get("replacement_room")
    if isinstance(room, str) and room.startswith("!") and room != old:
        return RoomId(room)
    return None
