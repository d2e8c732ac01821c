"""Reads config.yaml into :class:`Settings`. Whatever is wrong is named by its path."""

import dataclasses
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from bridge.logs import levels_by_logger
from bridge.model import Permission
from bridge.sdk.errors import ConfigError
from bridge.sdk.ids import InstanceId
from bridge.sdk.secret import Secret
from bridge.settings.confidential import exposure, is_exposed, read_secret
from bridge.settings.document import parse, read_bytes
from bridge.settings.records import (
    EVERYWHERE,
    RECEIVER,
    Address,
    AppserviceSettings,
    DatabaseSettings,
    HomeserverSettings,
    Key,
    LogLevel,
    LogSettings,
    ModuleSettings,
    OpsSettings,
    RoomSettings,
    Settings,
    WebSettings,
    keys_of,
    name_in_file,
)
from bridge.settings.rules import take_rules
from bridge.settings.values import (
    accepts_none,
    join,
    levels,
    list_of_texts,
    permissions,
    room,
    scalar,
    several,
    slips_of_the_pen,
    token,
    unknown_key,
)

_Record = TypeVar("_Record")

_INSTANCE = re.compile(r"[a-z][a-z0-9]{0,15}")
_PASSWORD = re.compile(r"(?i)[?&](ssl)?password=")


@dataclass(slots=True)
class Reading:
    """What came of reading a file of settings."""

    settings: Settings | None = None
    """None if there are problems."""
    problems: list[ConfigError] = field(default_factory=list)
    """Everything that is wrong, in the file's order of sections."""
    origins: dict[str, str] = field(default_factory=dict)
    """Where the value of a key comes from; what is not in it is the default."""

    def get(self) -> Settings:
        """Give the settings. Raises the first problem."""
        if self.settings is None:
            raise self.problems[0]
        return self.settings


def load(path: Path) -> Settings:
    """Read the file. Raises ``ConfigError`` with the path of the key that is wrong.

    A secret may also stand in a file (``as_token_file``) or in an environment variable
    (``TRESTLE_APPSERVICE_AS_TOKEN``); the variable beats the file of settings.
    """
    return read(path).get()


def read(path: Path) -> Reading:
    """Read the file to its end. Raises ``ConfigError`` if it cannot be read or is no YAML."""
    data, mode = read_bytes(path)
    return read_document(
        parse(data, str(path)),
        folder=path.absolute().parent,
        environment=os.environ,
        exposed=path if is_exposed(mode) else None,
    )


def state_dir_of(path: Path) -> Path:
    """Where a file of settings has its state, whatever else is wrong with it.

    Raises ``ConfigError`` if it cannot be read or is no YAML.
    """
    document = parse(read_bytes(path)[0], str(path))
    named = document.get("state_dir") if isinstance(document, dict) else None
    return path.absolute().parent / (named if isinstance(named, str) else "state")


@dataclass(frozen=True, slots=True)
class Essentials:
    """What it takes to find everything that is kept."""

    database: DatabaseSettings
    state_dir: Path
    server_name: str


def read_essentials(path: Path) -> Essentials:
    """Read only these from a file of settings, whatever else is wrong with it.

    Raises ``ConfigError`` for what is wrong with them.
    """
    document = parse(read_bytes(path)[0], str(path))
    sections = document if isinstance(document, dict) else {}
    reading = Reading()
    reader = _Reader(path.absolute().parent, os.environ, None, reading)
    homeserver = reader.record(HomeserverSettings, sections.get("homeserver"), "homeserver")
    database = reader.record(DatabaseSettings, sections.get("database"), "database")
    if homeserver is None or database is None:
        raise reading.problems[0]
    return Essentials(database, state_dir_of(path), homeserver.server_name)


def read_settings(
    document: object, *, folder: Path, environment: Mapping[str, str] | None = None
) -> Settings:
    """Check a parsed document. Relative paths in it begin at ``folder``."""
    return read_document(document, folder=folder, environment=environment).get()


def read_document(
    document: object,
    *,
    folder: Path,
    environment: Mapping[str, str] | None = None,
    exposed: Path | None = None,
) -> Reading:
    """Check a parsed document to its end. ``exposed`` is its file, if everybody can read it."""
    reading = Reading()
    document = {} if document is None else document
    if not isinstance(document, dict):
        reading.problems.append(ConfigError("the settings must be keys and values, "
                                            "for example `homeserver:`"))  # fmt: skip
        return reading
    # A key that begins with x- is the admin's own, a place for anchors.
    document = {key: one for key, one in document.items() if not str(key).startswith("x-")}
    reader = _Reader(folder, environment or {}, exposed, reading)
    reading.problems += slips_of_the_pen(environment or {})
    settings = reader.record(Settings, document, "")
    # Of one key the first complaint is enough.
    first: dict[str, ConfigError] = {}
    for problem in reading.problems:
        first.setdefault(str(problem.path), problem)
    reading.problems = list(first.values())
    reading.settings = None if reading.problems else settings
    return reading


def check_value(path: str, value: object) -> None:
    """Check one value by its dotted path. Raises ``ConfigError``."""
    section, name = path.split(".")
    key, hint, _ = keys_of(keys_of(Settings)[section][1])[name]
    scalar(hint, key, value, path)


class _Reader:
    """Turns parsed YAML into records by their types; what is wrong goes into the reading."""

    def __init__(
        self,
        folder: Path,
        environment: Mapping[str, str],
        exposed: Path | None,
        reading: Reading,
    ) -> None:
        self._folder = folder
        self._environment = environment
        self._exposed = exposed
        self._problems = reading.problems
        self._origins = reading.origins

    def record(self, kind: type[_Record], document: object, path: str) -> _Record | None:
        """Read a record whose keys are the document's; None if something in it is wrong."""
        document = {} if document is None else document
        if not isinstance(document, dict):
            self._problems.append(ConfigError("must be keys and values", path=path))
            return None
        before = len(self._problems)
        keys = keys_of(kind)
        self._refuse_unknown(document, set(_spellings(keys)), path)
        found: dict[str, Any] = {}
        for name, (key, hint, one) in keys.items():
            try:
                self._read_key(found, name, key, hint, one, document, path)
            except ConfigError as error:
                self._problems.append(error)
        if len(self._problems) > before:
            return None
        try:
            return kind(**_finish(kind, found, self._folder))
        except ConfigError as error:
            self._problems.append(error)
            return None

    def _read_key(
        self,
        found: dict[str, Any],
        name: str,
        key: Key,
        hint: Any,
        one: "dataclasses.Field[Any]",
        document: Mapping[Any, object],
        path: str,
    ) -> None:
        spelled = name_in_file(name, key)
        value = self._find(spelled, key, document, path)
        if value is None and not (name in document and accepts_none(hint)):
            if one.default is one.default_factory is dataclasses.MISSING:
                raise ConfigError("is missing", path=join(path, spelled))
            return
        found[name] = self._read(hint, key, value, join(path, spelled))
        for more in key.also:
            extra = self._find(more, key, document, path)
            if extra is not None:
                found[name] += self._read(hint, key, extra, join(path, more))

    def _find(self, name: str, key: Key, document: Mapping[Any, object], path: str) -> object:
        value = document.get(name)
        where = join(path, name)
        if name in document:
            self._origins[where] = "config"
        if not key.private:
            return value
        variable = "TRESTLE_" + where.replace(".", "_").upper()
        given = self._environment.get(variable)
        if given is not None:
            self._origins[where] = f"environment {variable}"
            return given
        file = document.get(f"{name}_file")
        if file is None:
            self._refuse_exposed(value, where)
            return value
        if value is not None:
            raise ConfigError(f"give either {name} or {name}_file, not both", path=where)
        if not isinstance(file, str):
            raise ConfigError("must be the path of a file", path=f"{where}_file")
        self._origins[where] = f"file {self._folder / file}"
        return read_secret(self._folder / file, f"{where}_file")

    def _refuse_exposed(self, value: object, where: str) -> None:
        if self._exposed is None or not isinstance(value, str):
            return
        if where.startswith("database.") and not has_password(value):
            return
        raise ConfigError(exposure(self._exposed, "secrets"), path=where)

    def _read(self, hint: Any, key: Key, value: object, path: str) -> Any:
        if dataclasses.is_dataclass(hint) and isinstance(hint, type):
            return self.record(hint, value, path)
        if hint == Mapping[str, Permission]:
            return dict(permissions(value, path))
        if hint == Mapping[InstanceId, ModuleSettings]:
            return {one.instance: one for one in self._modules(value, path)}
        if hint == Mapping[str, LogLevel]:
            return dict(levels(value, path))
        if hint == tuple[RoomSettings, ...]:
            return tuple(_rooms(value, path))
        if hint == tuple[Secret, ...]:
            return (token(value, path),)
        if hint in (tuple[str, ...], Mapping[str, str]):
            return several(hint == Mapping[str, str], value, path)
        return scalar(hint, key, value, path)

    def _modules(self, document: object, path: str) -> Iterator[ModuleSettings]:
        if not isinstance(document, dict):
            raise ConfigError("must name instances, for example `dice: {module: dice}`", path=path)
        for name, options in document.items():
            where = join(path, str(name))
            try:
                yield self._module(name, options, where)
            except ConfigError as error:
                self._problems.append(error)

    def _module(self, name: object, options: object, where: str) -> ModuleSettings:
        if not isinstance(name, str) or not _INSTANCE.fullmatch(name):
            raise ConfigError(
                "an instance's id is a lower-case letter, then lower-case letters and digits, at "
                "most 16 in all",
                path=where,
            )
        if not isinstance(options, dict) or not isinstance(options.get("module"), str):
            raise ConfigError("must say which module it is: `module: irc`", path=where)
        rules, rest = take_rules(options, where, permissions)
        start = f"TRESTLE_MODULES_{name.upper()}_"
        return ModuleSettings(
            instance=InstanceId(name),
            module=options["module"],
            options={key: self._settle(key, value) for key, value in rest.items()},
            environment={
                variable.removeprefix(start): Secret(text)
                for variable, text in self._environment.items()
                if variable.startswith(start)
            },
            exposed=self._exposed,
            rules=rules,
        )

    def _settle(self, key: str, value: object) -> object:
        """Make the path of a ``*_file`` option begin at the settings' folder."""
        if isinstance(value, dict):
            return {name: self._settle(str(name), one) for name, one in value.items()}
        if isinstance(value, list):
            return [self._settle("", one) for one in value]
        if key.endswith("_file") and isinstance(value, str):
            return str(self._folder / value)
        return value

    def _refuse_unknown(self, document: Mapping[Any, object], known: set[str], path: str) -> None:
        for name in document:
            if name not in known:
                where = join(path, str(name))
                self._problems.append(ConfigError(unknown_key(str(name), known), path=where))


def _rooms(document: object, path: str) -> Iterator[RoomSettings]:
    if not isinstance(document, list):
        raise ConfigError('must be a list of rooms, `- room: "#lobby:example.org"` first',
                          path=path)  # fmt: skip
    known, seen = {"room", "bridge", "bots"}, set[str]()
    for number, one in enumerate(document):
        where = f"{path}[{number}]"
        if not isinstance(one, dict):
            raise ConfigError("must be keys and values: room, bridge, bots", path=where)
        for name in one:
            if name not in known:
                raise ConfigError(unknown_key(str(name), known), path=join(where, str(name)))
        place = room(one.get("room"), join(where, "room"))
        if place in seen:
            raise ConfigError(f"{place} stands there twice; put it into one entry", path=where)
        seen.add(place)
        bridge = one.get("bridge") or {}
        if not isinstance(bridge, dict):
            raise ConfigError(
                'must be networks and their chats, for example `libera: "#lobby"`',
                path=join(where, "bridge"),
            )
        yield RoomSettings(
            room=place,
            bridge={
                InstanceId(str(name)): list_of_texts(chats, f"{where}.bridge.{name}")
                for name, chats in bridge.items()
            },
            bots=tuple(
                InstanceId(bot) for bot in list_of_texts(one.get("bots") or [], f"{where}.bots")
            ),
        )


def has_password(url: str) -> bool:
    """Whether the URL of a database holds a password, or may."""
    try:
        return bool(urlsplit(url).password) or bool(_PASSWORD.search(url))
    except ValueError:
        return True


def _spellings(keys: Mapping[str, tuple[Key, Any, Any]]) -> Iterator[str]:
    for name, (key, _, _) in keys.items():
        for one in (name_in_file(name, key), *key.also):
            yield one
            if key.private:
                yield f"{one}_file"


def _finish(kind: type, found: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Fill in what depends on other keys, and refuse what does not go together."""
    if kind is Settings:
        modules = {name: one.module for name, one in found.get("modules", {}).items()}
        levels_by_logger(found.get("logging", LogSettings()).levels, modules)
        _refuse_one_place_twice(found)
        found["state_dir"] = (folder / found.get("state_dir", "state")).absolute()
    if kind is LogSettings and found.get("file") is not None:
        found["file"] = (folder / found["file"]).absolute()
    if kind is AppserviceSettings:
        if found["as_token"] in found["hs_tokens"]:
            raise ConfigError("must differ from hs_token", path="appservice.as_token")
        if "url" not in found:
            found["url"] = _reach(found.get("listen", RECEIVER))
    return found


def _refuse_one_place_twice(found: Mapping[str, Any]) -> None:
    """Two listeners cannot be at one address."""
    web, ops = found.get("web", WebSettings()), found.get("ops", OpsSettings())
    places = {"appservice.listen": found["appservice"].listen, "ops.listen": ops.listen}
    if web.manager_url is not None:
        places["web.listen"] = web.listen
    if web.public_url is not None:
        places["web.public_listen"] = web.public_listen
    seen: dict[Address, str] = {}
    for path, place in places.items():
        if place is None or place.port == 0:
            continue
        for other, its_path in seen.items():
            hosts = {place.host, other.host}
            if place.port == other.port and (len(hosts) == 1 or hosts & EVERYWHERE):
                raise ConfigError(f"is where {its_path} listens; give it another port", path=path)
        seen[place] = path


def _reach(listen: Address) -> str:
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(listen.host, listen.host)  # noqa: S104
    return f"http://{Address(host, listen.port)}"
