"""Changing some of a room's power levels, and leaving the rest as it is at that moment."""

from collections.abc import Mapping
from typing import Any

from bridge.matrix.client import HomeserverClient, path
from bridge.matrix.namespaces import Namespaces
from bridge.matrix.rooms import RoomQuestions
from bridge.sdk.ids import RoomId, UserId


class Powers:
    """Reads and writes in one go, as late as can be: what people changed meanwhile stays."""

    def __init__(
        self, client: HomeserverClient, rooms: RoomQuestions, namespaces: Namespaces
    ) -> None:
        self._client = client
        self._rooms = rooms
        self._namespaces = namespaces

    async def change(
        self, room: RoomId, user: UserId, wanted: Mapping[str, int], all_of: str = ""
    ) -> None:
        """Give people these levels, as ``user``; with ``all_of`` that instance's others none.

        Nobody is touched who stands as high as ``user``, and nobody is lifted above. Does
        nothing where nothing is different. Raises :class:`MatrixError`.
        """
        levels = await self._rooms.state(room, "m.room.power_levels")
        if levels is None:
            return
        own = await self._rooms.level(room, user)
        changed = self._change(levels, wanted, all_of, own)
        if changed != levels:
            place = path("v3", "rooms", room, "state", "m.room.power_levels", "")
            await self._client.request("PUT", place, user=user, content=changed)

    def _change(
        self, levels: dict[str, Any], wanted: Mapping[str, int], all_of: str, own: float
    ) -> dict[str, Any]:
        users = levels.get("users")
        users = dict(users) if isinstance(users, dict) else {}
        found = levels.get("users_default")
        default = found if isinstance(found, int) else 0
        others = {
            user: default for user in users
            if all_of and (ghost := self._namespaces.parse_ghost(user)) and ghost[0] == all_of
        }  # fmt: skip
        for user, level in {**others, **wanted}.items():
            now = users.get(user, default)
            if not isinstance(now, int) or now >= own or level > own:
                continue
            if level > default:
                users[user] = level
            else:
                users.pop(user, None)
        return {**levels, "users": users}
