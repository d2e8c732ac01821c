"""The keys of a module in config.yaml that are the core's, not the module's own."""

from collections.abc import Callable, Iterable, Mapping
from enum import StrEnum
from typing import TypeVar

from bridge.model import Announce, InstanceRules, Members, Permission, Puppets
from bridge.sdk.errors import ConfigError
from bridge.sdk.module import CORE_KEYS
from bridge.settings.aliasformat import check_template
from bridge.settings.nameformat import PLAIN, check_format

_Choice = TypeVar("_Choice", bound=StrEnum)

_FORMER_FULL = "all"
"""What `members: full` was called before."""

Levels = Callable[[object, str], Iterable[tuple[str, Permission]]]
"""Reads levels, given with their path. Raises ``ConfigError``."""


class _Place(StrEnum):
    ROOM = "room"
    DIRECT = "direct"


def take_rules(
    options: Mapping[str, object], path: str, levels: Levels
) -> tuple[InstanceRules, dict[str, object]]:
    """Read the core's keys; give them, and the options that are left.

    Raises ``ConfigError`` with the path of the key that is wrong.
    """
    rest = {str(key): value for key, value in options.items() if key not in CORE_KEYS}
    place = _choose(_Place, options, "announce_in", path, _Place.ROOM)
    rules = InstanceRules(
        permissions=dict(levels(options["permissions"], f"{path}.permissions"))
        if "permissions" in options
        else {},
        puppets=_choose(Puppets, options, "puppets", path, Puppets.AUTOMATIC),
        relay_name=_read_text(
            check_format, options.get("relay_name", PLAIN), f"{path}.relay_name"
        ),
        announce=_choose(Announce, options, "announce", path, Announce.FIRST),
        announce_direct=place is _Place.DIRECT,
        alias_template=_read_text(check_template, template, f"{path}.alias_template")
        if (template := options.get("alias_template")) is not None
        else "",
        members=_read_members(options, path),
        privacy=_read_switch(options.get("privacy", False), f"{path}.privacy"),
        **{
            key: _read_count(options[key], f"{path}.{key}")
            for key in ("most_rooms", "alias_rooms_hourly")
            if key in options
        },
    )
    return rules, rest


def _read_text(check: Callable[[str], str], value: object, path: str) -> str:
    try:
        return check(str(value))
    except ValueError as error:
        raise ConfigError(str(error), path=path) from error


def _read_members(options: Mapping[str, object], path: str) -> Members:
    if options.get("members") == _FORMER_FULL:
        return Members.FULL
    return _choose(Members, options, "members", path, Members.SPEAKERS)


def _read_switch(value: object, path: str) -> bool:
    if not isinstance(value, bool):
        raise ConfigError("must be true or false", path=path)
    return value


def _read_count(value: object, path: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ConfigError("must be a whole number, 0 or more", path=path)
    return value


def _choose(
    kind: type[_Choice], options: Mapping[str, object], key: str, path: str, default: _Choice
) -> _Choice:
    value = options.get(key, default)
    if value not in list(kind):
        names = ", ".join(one.value for one in kind)
        raise ConfigError(f"{value!r} is none of {names}", path=f"{path}.{key}")
    return kind(str(value))
