"""Rooms that bridges were in before those were replaced."""

from collections.abc import Sequence
from dataclasses import replace

from bridge.core.traffic.doorway import Doorway
from bridge.sdk.ids import RoomId


class FormerRooms:
    """Which portals may have messages in a room that they have left.

    All are in memory: in any other room anybody may delete events by the thousand.
    """

    def __init__(self) -> None:
        self._doors: dict[RoomId, list[Doorway]] = {}

    def note(self, door: Doorway) -> None:
        """A portal is there, with the rooms that it has left."""
        for room in door.portal.former_rooms:
            self._doors.setdefault(room, []).append(door)

    def forget(self, door: Doorway) -> None:
        """The portal is gone."""
        for room in door.portal.former_rooms:
            others = [one for one in self._doors.pop(room, ()) if one is not door]
            if others:
                self._doors[room] = others

    def move(self, door: Doorway, room: RoomId) -> None:
        """Have the portal leave its room for another."""
        self.forget(door)
        left = {*door.portal.former_rooms, door.portal.room} - {room}
        door.become(replace(door.portal, room=room, former_rooms=tuple(left)))
        self.note(door)

    def of(self, room: RoomId) -> Sequence[Doorway]:
        """The portals that have left the room."""
        return self._doors.get(room, ())
