"""The bridged rooms in the hands of those who run this: seen and untied from outside them."""

from collections.abc import Sequence
from typing import Any

from bridge.core.oversight.byhand import HERE
from bridge.core.portals.plumbing import Plumbing
from bridge.core.portals.portals import Portals
from bridge.core.traffic.doorway import Doorway
from bridge.matrix.client import MatrixError
from bridge.matrix.intents import Intents
from bridge.sdk.errors import PermanentFailure, TemporaryFailure
from bridge.sdk.ids import RoomId


class RoomKeeping:
    """Every answer is for machines. Direct chats are their owners' alone, and not shown."""

    def __init__(self, portals: Portals, plumbing: Plumbing, intents: Intents) -> None:
        self._portals = portals
        self._plumbing = plumbing
        self._intents = intents

    async def all(self) -> Sequence[dict[str, Any]]:
        """The bridged rooms, by network and channel."""
        rows = [self._describe(door) for door in self._doors()]
        return sorted(rows, key=lambda row: (row["network"], row["channel"]))

    async def untie(self, name: str, network: str = "", channel: str = "") -> dict[str, Any]:
        """End the bridge of a room, named by its id or an alias; give what it was.

        Raises ``PermanentFailure`` if there is none or more than one, and ``TemporaryFailure``
        when the homeserver or the database is away; then it can be done again.
        """
        room = await self._find_room(name)
        found = [
            door for door in self._doors()
            if door.portal.room == room and network in {"", door.portal.instance}
            and channel in {"", door.portal.chat, door.portal.chat_name}
        ]  # fmt: skip
        if not found:
            raise PermanentFailure(
                f"{name} has no such bridge; `trestle rooms list` names the rooms that have one"
            )
        if len(found) > 1:
            names = ", ".join(f"{one.portal.chat_name} on {one.portal.instance}" for one in found)
            raise PermanentFailure(
                f"{name} has several bridges ({names}); say which with --network or --channel"
            )
        row = self._describe(found[0])
        await self._plumbing.unbridge(found[0], HERE)
        return row

    def _doors(self) -> Sequence[Doorway]:
        return [door for door in self._portals.all if door.portal.receiver is None]

    async def _find_room(self, name: str) -> RoomId | None:
        if not name.startswith("#"):
            return RoomId(name)
        try:
            return await self._intents.room_at(name)
        except MatrixError as error:
            raise TemporaryFailure(str(error)) from error

    def _describe(self, door: Doorway) -> dict[str, Any]:
        portal = door.portal
        instance = self._plumbing.instances.get(portal.instance)
        state, reason = instance.state if instance else ("stopped", "not switched on")
        trouble = instance.trouble.get(portal.chat, "") if instance else ""
        shut = self._portals.shut(portal.instance).get(portal.chat, "")
        return {
            "network": portal.instance,
            "channel": portal.chat_name,
            "room": portal.room,
            "state": "paused" if portal.paused else str(state),
            "reason": shut or trouble or reason,
            "created_by": portal.created_by,
        }
