"""The settings as they take effect: each value, without its secrets, and where it comes from."""

import dataclasses
import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from ruamel.yaml import YAML

from bridge.config import Reading
from bridge.logs import redact
from bridge.running.workshop import model_of
from bridge.sdk.secret import Secret
from bridge.settings.document import Representer
from bridge.settings.options import check_module, variable_of
from bridge.settings.records import (
    Address,
    Key,
    ModuleSettings,
    RoomSettings,
    Settings,
    keys_of,
    name_in_file,
)
from bridge.upgrade.layout import Layout

_HIDDEN = "[hidden]"


@dataclass(frozen=True, slots=True)
class Shown:
    """One value that takes effect."""

    path: tuple[str, ...]
    value: Any
    """Plain: text, numbers, lists, keys and values; a secret is not in it."""
    source: str


def effective(reading: Reading, path: Path, text: str) -> Iterator[Shown]:
    """Give every setting in the order of the example. Raises what is wrong with them."""
    settings = reading.get()
    where = _Sources(reading, path, Layout(text))
    for name, (key, kind, _) in keys_of(Settings).items():
        value = getattr(settings, name)
        if isinstance(kind, type) and dataclasses.is_dataclass(kind):
            yield from _section(name, kind, value, where)
        elif name == "modules" and value:
            for module in value.values():
                yield from _module(module, where)
        elif name == "permissions" and value:
            for who, level in value.items():
                yield Shown((name, who), _plain(level), where.of((name, who)))
        else:
            yield Shown((name,), _masked(value, key), where.of((name,)))


def as_yaml(rows: Iterator[Shown]) -> str:
    """Write the rows as YAML that says behind each value where it comes from."""
    lines: list[str] = []
    last: tuple[str, ...] = ()
    for row in rows:
        for depth, step in enumerate(row.path[:-1]):
            if row.path[: depth + 1] != last[: depth + 1]:
                lines.append(f"{'  ' * depth}{_flow(step)}:")
        space = "  " * (len(row.path) - 1)
        lines.append(f"{space}{_flow(row.path[-1])}: {_flow(row.value)}  # {row.source}")
        last = row.path
    return "\n".join(lines) + "\n"


class _Sources:
    """Where values come from, in words."""

    def __init__(self, reading: Reading, path: Path, layout: Layout) -> None:
        self._origins = reading.origins
        self._file = path.name
        self._layout = layout

    def of(self, path: tuple[str, ...]) -> str:
        """Give the source of a key of the settings."""
        origin = self._origins.get(".".join(path))
        if origin is None and (path[:1] != ("permissions",) or len(path) == 1):
            return "default"
        return self.line(path) if origin in (None, "config") else str(origin)

    def option(self, module: ModuleSettings, name: str) -> str:
        """Give the source of a module's option."""
        if name.upper() in module.environment:
            return f"environment {variable_of(module.instance, name)}"
        if name in module.options:
            return self.line(("modules", module.instance, name))
        if f"{name}_file" in module.options:
            return f"file {module.options[f'{name}_file']}"
        return "default"

    def line(self, path: tuple[str, ...]) -> str:
        """Name the file and the line."""
        place = self._layout.find_in_use(path)
        return self._file if place is None else f"{self._file}, line {place.first + 1}"


def _section(name: str, kind: type, section: object, where: _Sources) -> Iterator[Shown]:
    for inner, (key, _, _) in keys_of(kind).items():
        value = getattr(section, inner)
        path = (name, name_in_file(inner, key))
        source = where.of(path)
        if path == ("appservice", "url") and source == "default":
            source = "from listen"
        yield Shown(path, _masked(value, key), source)
        for more in key.also:
            if where.of((name, more)) != "default":
                yield Shown((name, more), _HIDDEN, where.of((name, more)))


def _module(module: ModuleSettings, where: _Sources) -> Iterator[Shown]:
    start = ("modules", module.instance)
    yield Shown((*start, "module"), module.module, where.line((*start, "module")))
    read = check_module(model_of(module), module)
    for name, field in type(read).model_fields.items():
        spelled = field.alias or name
        value = _plain(getattr(read, name))
        yield Shown((*start, spelled), value, where.option(module, spelled))


def _masked(value: object, key: Key) -> Any:
    if key.private and isinstance(value, str):
        return redact(value)  # A database's URL, of which only the password is a secret.
    if isinstance(value, tuple) and value and isinstance(value[0], Secret):
        return _HIDDEN
    return _plain(value)


def _plain(value: object) -> Any:
    match value:
        case Secret():
            return _HIDDEN
        case RoomSettings():
            return {"room": value.room, "bridge": _plain(value.bridge), "bots": _plain(value.bots)}
        case BaseModel():
            return {name: _plain(getattr(value, name)) for name in type(value).model_fields}
        case Mapping():
            return {str(name): _plain(one) for name, one in value.items()}
        case Address() | Path():
            return str(value)
        case Enum():
            return value.name.lower()
        case list() | tuple() | set() | frozenset():
            return [_plain(one) for one in value]
        case None | bool() | int() | float() | str():
            return value
    return str(value)


def _flow(value: Any) -> str:
    yaml = YAML()
    yaml.default_flow_style = True
    yaml.width = 1_000_000
    yaml.Representer = Representer
    output = io.StringIO()
    yaml.dump(value, output)
    return output.getvalue().partition("\n")[0]
