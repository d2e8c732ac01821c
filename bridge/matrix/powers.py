"""Changing some of a room's power levels, and leaving the rest as it is at that moment."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from bridge.matrix.client import HomeserverClient, path
from bridge.matrix.namespaces import Namespaces
from bridge.matrix.rooms import RoomQuestions
from bridge.matrix.standing import level_of
from bridge.sdk.ids import RoomId, UserId


@dataclass(frozen=True, slots=True, kw_only=True)
class Speaking:
    """Who may say something in a room."""

    level: int
    """What speaking takes while not everybody may."""
    is_limited: bool | None = None
    """True: it takes that from now on, if everybody may speak; False: no more, if it still does;
    None: it stays as it is."""
    voices: Mapping[str, bool]
    """Who is lifted to the level if they stand below it (true), or no longer stands there."""


class Powers:
    """Reads and writes in one go, as late as can be: what people changed meanwhile stays."""

    def __init__(
        self, client: HomeserverClient, rooms: RoomQuestions, namespaces: Namespaces
    ) -> None:
        self._client = client
        self._rooms = rooms
        self._namespaces = namespaces

    async def change(
        self, room: RoomId, user: UserId, wanted: Mapping[str, int], all_of: str = "",
        speaking: Speaking | None = None,
    ) -> None:  # fmt: skip
        """Give people these levels, as ``user``; with ``all_of``, that instance's others get none.

        Nobody is touched who stands as high as ``user``, and nobody is lifted above. Does
        nothing where nothing is different. Raises :class:`MatrixError`.
        """
        standing = await self._rooms.standing(room)
        levels, own = standing.levels, standing.of(user)
        if levels is None:
            return
        changed = self._change(levels, wanted, all_of, own)
        if speaking is not None and speaking.level <= own:
            changed = change_speaking(changed, speaking, own, standing.creators)
        if changed != levels:
            place = path("v3", "rooms", room, "state", "m.room.power_levels", "")
            await self._client.request("PUT", place, user=user, content=changed)

    def _change(
        self, levels: dict[str, Any], wanted: Mapping[str, int], all_of: str, own: float
    ) -> dict[str, Any]:
        users = levels.get("users")
        users = dict(users) if isinstance(users, dict) else {}
        default = level_of(levels.get("users_default")) or 0
        others = {
            user: default for user in users
            if all_of and (ghost := self._namespaces.parse_ghost(user)) and ghost[0] == all_of
        }  # fmt: skip
        for user, level in {**others, **wanted}.items():
            now = level_of(users.get(user, default))
            if now is None or now >= own or level > own:
                continue
            if level > default:
                users[user] = level
            else:
                users.pop(user, None)
        return {**levels, "users": users}


def change_speaking(
    levels: dict[str, Any], wanted: Speaking, own: float, above: Collection[str]
) -> dict[str, Any]:
    """The levels, changed in what speaking takes and in who may. What people set otherwise stays,
    and nobody is touched who stands as high as ``own`` or is ``above``."""
    users = dict(levels["users"])
    default = level_of(levels.get("users_default")) or 0
    for user, may in wanted.voices.items():
        now = level_of(users.get(user, default))
        if now is None or now >= own or user in above:
            continue
        if may and now < wanted.level:
            users[user] = wanted.level
        elif not may and now == wanted.level > default:
            users.pop(user)
    changed = {**levels, "users": users}
    if wanted.is_limited is not None:
        before, after = (0, wanted.level) if wanted.is_limited else (wanted.level, 0)
        if level_of(levels.get("events_default", 0)) == before:
            changed["events_default"] = after
    return changed
