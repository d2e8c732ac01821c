"""Which lanes an event belongs to."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from bridge.core.consent.policies import Policies
from bridge.core.host.bots import Seat
from bridge.core.intake.watch import Watcher
from bridge.core.lanes.deletions import Deletions, redacted_by
from bridge.core.lanes.lane import Item, Lane
from bridge.core.lanes.router import Router
from bridge.core.permissions.policyrules import KINDS as RULES
from bridge.core.portals.portals import Portals
from bridge.core.traffic.doorway import Doorway
from bridge.core.traffic.roomacts import KINDS
from bridge.core.traffic.stops import STOP
from bridge.matrix.intents import Intents
from bridge.matrix.namespaces import Namespaces
from bridge.matrix.wordings import POLLS
from bridge.sdk.ids import RoomId, UserId

_TALK = POLLS | {
    "m.room.message", "m.room.encrypted", "m.sticker", "m.reaction", "m.room.redaction",
}  # fmt: skip

ROUTED = _TALK | KINDS | frozenset(RULES) | {"m.room.member", "m.room.encryption"}
"""The types that somebody may want; no other is handed on."""
_TOO_OLD = 13 * 24 * 3600 * 1000
"""Milliseconds after which it is not known any more whether an event was here before."""


class _Seated(NamedTuple):
    """A bot in a room, and the lane of what it hears there."""

    seat: Seat
    lane: Lane


class Routes:
    """Knows the bots' seats and the portals of every room."""

    def __init__(
        self, router: Router, portals: Portals, namespaces: Namespaces, intents: Intents,
        deletions: Deletions,
    ) -> None:  # fmt: skip
        self._router = router
        self._portals = portals
        self._namespaces = namespaces
        self._intents = intents
        self._deletions = deletions
        self._seats: dict[RoomId, list[_Seated]] = {}
        self._names: dict[tuple[UserId, RoomId], str] = {}
        self.watcher: Watcher
        self.policies: Policies

    @property
    def seats(self) -> set[tuple[UserId, RoomId]]:
        """Which bot is in which room."""
        return set(self._names)

    def rooms(self) -> dict[RoomId, UserId]:
        """The rooms with a bot in them, and one of the bots."""
        return {room: user for user, room in self._names}

    def has_seat(self, user: UserId, room: RoomId) -> bool:
        """Whether the bot is in the room."""
        return (user, room) in self._names

    def add_seat(self, seat: Seat) -> None:
        """A bot is in a room from now on; if it was before, what waits in its lane is kept."""
        if self._names.get((seat.user, seat.room)) == seat.name:
            self.change_seat(seat)
            return
        self.remove_seat(seat.user, seat.room)
        seated = _Seated(seat, self._router.lane(seat))
        self._seats.setdefault(seat.room, []).append(seated)
        self._names[seat.user, seat.room] = seat.name

    def change_seat(self, seat: Seat) -> None:
        """Have another of the same name hear what is in the lane, and what comes."""
        self._router.lane(seat).consumer = seat
        self._seats[seat.room] = [
            one._replace(seat=seat) if one.seat.name == seat.name else one
            for one in self._seats[seat.room]
        ]

    def remove_seat(self, user: UserId, room: RoomId) -> None:
        """The bot is no longer there."""
        name = self._names.pop((user, room), None)
        if name is None:
            return
        others = [one for one in self._seats.get(room, []) if one.seat.name != name]
        if others:
            self._seats[room] = others
        else:
            self._seats.pop(room, None)
        self._router.close_lane(name)

    def __call__(self, event: dict[str, Any]) -> Sequence[Lane]:
        """Give the lanes; none if nobody wants the event."""
        kind = event["type"]
        if kind not in ROUTED:
            return ()
        if kind in _TALK:
            return self._talk(event)
        if kind == "m.room.member":
            return self._member(event)
        if kind in KINDS and event.get("state_key") == "":
            return self._portal_lanes(event)
        if kind == "m.room.encryption" and self.watcher.wants(event):
            return self.watcher.lanes(self._router, event)
        return self.policies.lanes(event) if "state_key" in event else ()

    def hear(self, event: dict[str, Any]) -> None:
        """Take note of what counts at once: who is in a room, what is stopped or taken back."""
        kind = event["type"]
        if kind == "m.room.message":
            if _is_stop(event) and not _is_passed_over(event):
                _hear_stop(event, self._portals.lanes(event))
        elif kind == "m.room.member":
            self._intents.note_member(event)
            self._portals.note_member(event)
        elif kind == "m.room.redaction" and not _is_passed_over(event):
            for door in self._portals.of(event):
                door.departures.forget(redacted_by(event))
            self.watcher.take_back(self._router, event)
        elif kind == "m.room.encrypted" and not _is_passed_over(event):
            # That it became so may have been lost on the way; anybody can send this, though.
            self.watcher.encryption.doubt(RoomId(event["room_id"]))
        elif kind == "m.room.encryption" and event.get("state_key") == "":
            # The lane that notes it may have other things to do yet.
            self.watcher.encryption.doubt(RoomId(event["room_id"]))

    def early(self, event: dict[str, Any]) -> Lane | None:
        """The lane that may begin with an event before that is safe; None if it has to wait.

        It is that of a portal that has nothing else to do, for a plain message which nobody else
        wants: until ``Item.stored`` it only reads it.
        """
        if event["type"] != "m.room.message" or "m.relates_to" in event["content"]:
            return None
        if _is_stop(event):
            return None  # It is heard first, once it is safe.
        lanes = self._talk(event)
        is_alone = len(lanes) == 1 and lanes[0].is_at_rest
        return lanes[0] if is_alone and isinstance(lanes[0].consumer, Doorway) else None

    def _talk(self, event: dict[str, Any], *, has_waited: bool = False) -> Sequence[Lane]:
        kind = event["type"]
        if _is_passed_over(event):
            return ()
        lanes = self._portals.lanes(event)
        if kind == "m.room.redaction":
            lanes = (*lanes, *self.policies.lanes(event), *self._deletions.lanes())
        seats = self._seats.get(event["room_id"], ())
        if not has_waited:
            sender = event["sender"]
            waiting = self.watcher.lanes_behind(
                self._router, event, is_heard=bool(seats or lanes),
                by_bots=bool(seats) and all(seat.direct_with == sender for seat, _ in seats),
            )  # fmt: skip
            if waiting and not any(map(self._portals.is_shared, lanes)):
                return waiting
        # What a bot has not heard yet may make it want what comes after.
        hearing = [lane for seat, lane in seats if len(lane) or seat.wants(event)]
        # What a double puppet says came from a network: nobody there gives us orders.
        if (
            not hearing
            or self._namespaces.is_ours(event["sender"])
            or self._portals.is_double(event)
        ):
            return lanes
        return (*lanes, *hearing)

    def _portal_lanes(self, event: dict[str, Any]) -> Sequence[Lane]:
        """The lanes of portals that something done in a room belongs to.

        What waits to be said there is not overtaken: what a lane has done counts, after a crash,
        for all that came before.
        """
        lanes = self._portals.lanes(event)
        if not lanes or any(map(self._portals.is_shared, lanes)):
            return lanes
        return self.watcher.lanes_behind(self._router, event, is_heard=True) or lanes

    def hand_on(self, item: Item) -> None:
        """Give what has waited in a lane to those who want it by now.

        Not to a chat that others are in, too: what was said before the room was tied is not for
        them.
        """
        event = item.event
        is_talk = event["type"] in _TALK
        wanted = self._talk(event, has_waited=True) if is_talk else self._portals.lanes(event)
        lanes = [
            lane for lane in wanted
            if not self._portals.is_shared(lane)
        ]  # fmt: skip
        if lanes:
            item.row.share(item.index, len(lanes) + 1)
        if event["type"] == "m.room.message" and _is_stop(event):
            # When it came, the portal may not have been there.
            _hear_stop(event, lanes)
        for lane in lanes:
            self._router.push(lane, item.row, item.index, item.event)
        item.drop()  # What becomes of it is said by those who have it now.

    def _member(self, event: dict[str, Any]) -> Sequence[Lane]:
        if not self.watcher.wants(event):
            return self._portal_lanes(event)
        lanes = self.watcher.lanes(self._router, event)
        is_put_out = event["content"].get("membership") in {"leave", "ban"}
        if not is_put_out or self._namespaces.is_ours(event["sender"]):
            return lanes
        # A ghost that has to go is somebody who has to go on the network; from a direct chat
        # nobody has, and what waits to be said there is not overtaken.
        return (*lanes, *filter(self._portals.is_shared, self._portals.lanes(event)))


def _is_stop(message: Mapping[str, Any]) -> bool:
    body: object = message["content"].get("body")
    return body == STOP


def _hear_stop(event: dict[str, Any], lanes: Sequence[Lane]) -> None:
    for lane in lanes:
        if isinstance(lane.consumer, Doorway):
            lane.consumer.stops.overhear(event)


def _is_passed_over(event: Mapping[str, Any]) -> bool:
    """Whether what looks like talk is none, or came too late."""
    # The presence of state_key decides what is state, not the type.
    return "state_key" in event or _is_too_old(event)


def _is_too_old(event: Mapping[str, Any]) -> bool:
    """Whether the homeserver had it for so long that it may have crossed already.

    Synapse may keep a transaction for weeks that it has delivered, or that was found in the room,
    and deliver it after the next outage. To take a message back twice does no harm.
    """
    unsigned = event.get("unsigned")
    age = unsigned.get("age") if unsigned else None
    return type(age) is int and age > _TOO_OLD and event["type"] != "m.room.redaction"
