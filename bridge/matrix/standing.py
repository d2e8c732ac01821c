"""Who has which power in a room, as its levels and its creation say (room versions up to 12)."""

import math
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from bridge.sdk.ids import UserId

_PRIVILEGING = {"org.matrix.hydra.11", "org.matrix.msc4242.12"}
"""Unstable room versions that privilege creators: MSC4289's own, and one made of version 12."""

_WRITTEN_LEVEL = re.compile(r"\s*-?[0-9]{1,18}\s*")


class Standing(NamedTuple):
    """What two state events of a room say; None for one that is not there."""

    levels: dict[str, Any] | None
    """The content of ``m.room.power_levels``."""
    creation: Mapping[str, Any] | None
    """``m.room.create``, with its sender."""

    @property
    def creators(self) -> set[UserId]:
        """Who stands above all levels, and so may stand in no list of them."""
        content = (self.creation or {}).get("content")
        if not isinstance(content, dict) or not _privileges_creators(content.get("room_version")):
            return set()
        more = content.get("additional_creators")
        named = (
            [UserId(one) for one in more if isinstance(one, str)] if isinstance(more, list) else []
        )
        return {*self._creator, *named}

    @property
    def named(self) -> set[UserId]:
        """All who have a level of their own, or need none."""
        found = {*self.creators, *map(UserId, self._users)}
        return found if self.levels is not None else {*found, *self._creator}

    def of(self, user: str) -> float:
        """How much power the user has; without end for creators of a room of version 12."""
        if user in self.creators:
            return math.inf
        if self.levels is None:
            # Without power levels the creator alone has power (Matrix specification 10.4).
            return 100 if user in self._creator else 0
        level = level_of(self._users.get(user))
        return (level_of(self.levels.get("users_default")) or 0) if level is None else level

    def needed(self, action: str) -> int:
        """How much it takes for ``action``, as in :meth:`may`."""
        levels = self.levels or {}
        if action == "invite":
            return level_of(levels.get("invite")) or 0
        if action in {"kick", "ban", "redact"}:
            level = level_of(levels.get(action))
        else:
            events = levels.get("events")
            level = level_of(events.get(action) if isinstance(events, dict) else None)
            level = level_of(levels.get("state_default")) if level is None else level
        return 50 if level is None else level

    def may(self, user: str, action: str) -> bool:
        """Whether the user has the power for ``action``: invite, kick, ban, redact, or the type
        of a state event to send."""
        power = self.of(user)
        return power > 0 if self.levels is None else power >= self.needed(action)

    @property
    def _creator(self) -> set[UserId]:
        """Who made the room; nobody where that cannot be seen."""
        sender = (self.creation or {}).get("sender")
        return {UserId(sender)} if isinstance(sender, str) else set()

    @property
    def _users(self) -> Mapping[str, Any]:
        users = (self.levels or {}).get("users")
        return users if isinstance(users, dict) else {}


def _privileges_creators(version: object) -> bool:
    """Whether the creators of a room of that version stand above its levels (MSC4289).

    Those of an unknown version do not: whoever is taken for one of them is never demoted.
    """
    if not isinstance(version, str):
        return False
    if version in _PRIVILEGING:
        return True
    return version.isascii() and version.isdecimal() and int(version[:9]) >= 12


def level_of(value: object) -> int | None:
    """A level as a number; old rooms hold them as texts. None if it is none."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value
    if isinstance(value, str) and _WRITTEN_LEVEL.fullmatch(value):
        return int(value)
    return None
