"""Reads config.yaml into :class:`Settings`. Whatever is wrong is named by its path."""

import dataclasses
import difflib
import os
import re
import stat
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin, get_type_hints
from urllib.parse import urlsplit

from pydantic import BaseModel, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.constructor import DuplicateKeyError
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from bridge.model import Permission
from bridge.rules import take_rules
from bridge.sdk.errors import ConfigError
from bridge.sdk.ids import InstanceId
from bridge.sdk.secret import Secret
from bridge.settings import (
    RECEIVER,
    Address,
    AppserviceSettings,
    Key,
    ModuleSettings,
    Settings,
)

_Model = TypeVar("_Model", bound=BaseModel)
_Record = TypeVar("_Record")

_PLACEHOLDER = re.compile(
    r"(?i)change[ _-]?me|replace[ _-]?me|your[ _-]token|^<.*>$|^\.\.\.$|^x{3,}$"
)
_INSTANCE = re.compile(r"[a-z][a-z0-9]{0,15}")
_LOCALPART = re.compile(r"[a-z0-9._=/+-]+")
_SERVER = re.compile(r"(?:[A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?")
_SHORTEST_TOKEN = 16
_CONTAINER_SECRETS = ("/run/secrets/", "/var/run/secrets/")


def load(path: Path) -> Settings:
    """Read the file. Raises ``ConfigError`` with the path of the key that is wrong.

    A secret may also stand in a file (``as_token_file``) or in an environment variable
    (``TRESTLE_APPSERVICE_AS_TOKEN``); the variable beats the file of settings.
    """
    return read_settings(_parse(path), folder=path.absolute().parent, environment=os.environ)


def read_settings(
    document: object, *, folder: Path, environment: Mapping[str, str] | None = None
) -> Settings:
    """Check a parsed document. Relative paths in it begin at ``folder``."""
    if document is None:
        document = {}
    if not isinstance(document, dict):
        raise ConfigError("the settings must be keys and values, `homeserver:` for one")
    for path, text in _texts(document, ""):
        _refuse_placeholder(text, path)
    return _Reader(folder, environment or {}).record(Settings, document, "")


def keys_of(record: type) -> dict[str, tuple[Key, Any, dataclasses.Field[Any]]]:
    """Give each documented key of a settings record: its words, its type, its field."""
    hints = get_type_hints(record, include_extras=True)
    fields = {one.name: one for one in dataclasses.fields(record)}
    found = {}
    for name, hint in hints.items():
        if get_origin(hint) is Annotated and isinstance(hint.__metadata__[0], Key):
            found[name] = (hint.__metadata__[0], hint.__origin__, fields[name])
    return found


def check_value(path: str, value: object) -> None:
    """Check one value by its dotted path. Raises ``ConfigError``."""
    section, name = path.split(".")
    key, hint, _ = keys_of(keys_of(Settings)[section][1])[name]
    _scalar(hint, key, value, path)


def check_options(model: type[_Model], options: Mapping[str, object], path: str) -> _Model:
    """Check a module's options against its own model. Raises ``ConfigError`` with the path.

    ``<option>_file`` gives an option's text by a file, for secrets.
    """
    given = dict(options)
    known = set(model.model_fields)
    for name in options:
        base = name.removesuffix("_file")
        if base == name or name in known or base not in known:
            continue
        where = f"{path}.{name}"
        if base in given:
            raise ConfigError(f"give either {base} or {name}, not both", path=where)
        given[base] = _read_secret(Path(str(given.pop(name))), where)
    try:
        return model.model_validate(given)
    except ValidationError as error:
        raise _translate(error, model, path) from error


class _Reader:
    """Turns parsed YAML into records by their types."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self._folder = folder
        self._environment = environment

    def record(self, kind: type[_Record], document: object, path: str) -> _Record:
        """Read a record whose keys are the document's."""
        if document is None:
            document = {}
        if not isinstance(document, dict):
            raise ConfigError("here must be keys and values", path=path)
        keys = keys_of(kind)
        _refuse_unknown(document, set(_spellings(keys)), path)
        found: dict[str, Any] = {}
        for name, (key, hint, field) in keys.items():
            value = self._find(_name_in_file(name, key), key, document, path)
            if value is None and not (name in document and _accepts_none(hint)):
                if field.default is field.default_factory is dataclasses.MISSING:
                    raise ConfigError("is missing", path=_join(path, _name_in_file(name, key)))
                continue
            found[name] = self._read(hint, key, value, _join(path, _name_in_file(name, key)))
            for more in key.also:
                extra = self._find(more, key, document, path)
                if extra is not None:
                    found[name] += self._read(hint, key, extra, _join(path, more))
        return kind(**_finish(kind, found, self._folder))

    def _find(self, name: str, key: Key, document: Mapping[Any, object], path: str) -> object:
        value = document.get(name)
        if not key.private:
            return value
        where = _join(path, name)
        given = self._environment.get("TRESTLE_" + where.replace(".", "_").upper())
        if given is not None:
            return given
        file = document.get(f"{name}_file")
        if file is None:
            return value
        if value is not None:
            raise ConfigError(f"give either {name} or {name}_file, not both", path=where)
        if not isinstance(file, str):
            raise ConfigError("must be the path of a file", path=f"{where}_file")
        return _read_secret(self._folder / file, f"{where}_file")

    def _read(self, hint: Any, key: Key, value: object, path: str) -> Any:
        if dataclasses.is_dataclass(hint) and isinstance(hint, type):
            return self.record(hint, value, path)
        if hint == Mapping[str, Permission]:
            return dict(_permissions(value, path))
        if hint == Mapping[InstanceId, ModuleSettings]:
            return {one.instance: one for one in self._modules(value, path)}
        if hint == tuple[Secret, ...]:
            return (_token(value, path),)
        if hint in (tuple[str, ...], Mapping[str, str]):
            return _several(hint == Mapping[str, str], value, path)
        return _scalar(hint, key, value, path)

    def _modules(self, document: object, path: str) -> Iterator[ModuleSettings]:
        if not isinstance(document, dict):
            raise ConfigError("must name instances, `dice: {module: dice}` for one", path=path)
        for name, options in document.items():
            where = _join(path, str(name))
            if not isinstance(name, str) or not _INSTANCE.fullmatch(name):
                raise ConfigError(
                    "an instance's id has a small letter first, then small letters and digits, "
                    "at most 16 in all",
                    path=where,
                )
            if not isinstance(options, dict) or not isinstance(options.get("module"), str):
                raise ConfigError("must say which module it is: `module: irc`", path=where)
            rules, rest = take_rules(options, where, _permissions)
            yield ModuleSettings(
                instance=InstanceId(name),
                module=options["module"],
                options={key: self._settle(key, value) for key, value in rest.items()},
                rules=rules,
            )

    def _settle(self, key: str, value: object) -> object:
        """Make the path of a ``*_file`` option begin at the settings' folder."""
        if key.endswith("_file") and isinstance(value, str):
            return str(self._folder / value)
        return value


def _parse(path: Path) -> object:
    try:
        with path.open("rb") as file:
            document = YAML(typ="safe", pure=True).load(file)
            mode = os.fstat(file.fileno()).st_mode
    except FileNotFoundError as error:
        raise ConfigError(f"there is no {path}; `trestle init` writes one") from error
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from error
    except DuplicateKeyError as error:
        raise ConfigError(f"{path}{_place(error)}: a key stands there twice") from error
    except (YAMLError, ValueError) as error:
        raise ConfigError(f"{path}{_place(error)} is not YAML: {_problem(error)}") from error
    if mode & stat.S_IROTH and _holds_secrets(document):
        raise ConfigError(
            f"everybody on this machine can read {path}, and it holds tokens; "
            f"run `chmod 600 {path}`"
        )
    return document


def _holds_secrets(document: object) -> bool:
    appservice = document.get("appservice") if isinstance(document, dict) else None
    return isinstance(appservice, dict) and bool(
        appservice.keys() & {"as_token", "hs_token", "hs_token_old"}
    )


def _place(error: Exception) -> str:
    mark = error.problem_mark if isinstance(error, MarkedYAMLError) else None
    return "" if mark is None else f", line {mark.line + 1}"


def _problem(error: Exception) -> str:
    # Only the parser's own words: its context would quote the file, tokens and all.
    problem = error.problem if isinstance(error, MarkedYAMLError) else None
    return problem or "it holds characters that YAML does not allow"


def _read_secret(path: Path, where: str) -> str:
    try:
        mode = path.stat().st_mode
        text = path.read_text("utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise ConfigError(f"{path} cannot be read: {reason}", path=where) from error
    # The modes of a container's secrets are the container runtime's.
    if mode & stat.S_IROTH and not str(path).startswith(_CONTAINER_SECRETS):
        raise ConfigError(
            f"everybody on this machine can read {path}; run `chmod 600 {path}`", path=where
        )
    if not text:
        raise ConfigError(f"{path} is empty", path=where)
    return text


def _refuse_placeholder(text: str, path: str) -> None:
    if _PLACEHOLDER.search(text.strip()):
        raise ConfigError(f"{text!r} is a placeholder; put your own value here", path=path)


def _texts(value: object, path: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, dict):
        for name, inner in value.items():
            yield from _texts(inner, _join(path, str(name)))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _texts(inner, f"{path}[{index}]")


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _name_in_file(name: str, key: Key) -> str:
    # ``hs_tokens`` is a tuple for the program and ``hs_token``, ``hs_token_old`` for the admin.
    return name.removesuffix("s") if key.also else name


def _spellings(keys: Mapping[str, tuple[Key, Any, Any]]) -> Iterator[str]:
    for name, (key, _, _) in keys.items():
        for one in (_name_in_file(name, key), *key.also):
            yield one
            if key.private:
                yield f"{one}_file"


def _refuse_unknown(document: Mapping[Any, object], known: set[str], path: str) -> None:
    for name in document:
        if name in known:
            continue
        raise ConfigError(_unknown(str(name), known), path=_join(path, str(name)))


def _unknown(name: str, known: Iterable[str]) -> str:
    known = sorted(known)
    near = difflib.get_close_matches(name, known, n=1)
    if near:
        return f"there is no such key; did you mean {near[0]}?"
    for section, (_, hint, _) in keys_of(Settings).items():
        if dataclasses.is_dataclass(hint) and name in keys_of(hint):  # type: ignore[arg-type]
            return f"there is no such key here; it belongs under {section}"
    return f"there is no such key; there are {', '.join(known)}"


def _accepts_none(hint: Any) -> bool:
    return type(None) in get_args(hint)


def _token(value: object, path: str) -> Secret:
    if not isinstance(value, str):
        raise ConfigError("must be text; put it in quotes", path=path)
    if len(value) < _SHORTEST_TOKEN or not value.isascii() or not value.isprintable():
        raise ConfigError(
            f"is no token: it needs at least {_SHORTEST_TOKEN} plain characters; "
            "`trestle init` makes random ones",
            path=path,
        )
    _refuse_placeholder(value, path)  # It may come from a file or the environment.
    return Secret(value)


def _permissions(value: object, path: str) -> Iterator[tuple[str, Permission]]:
    if not isinstance(value, dict):
        raise ConfigError('must be keys and values, `"example.org": user` for one', path=path)
    for who, level in value.items():
        where = _join(path, str(who))
        if not _is_person_or_server(str(who)):
            raise ConfigError(
                "must be `*`, a server name or a Matrix id like @you:example.org", path=where
            )
        if not isinstance(level, str) or level.upper() not in Permission.__members__:
            raise ConfigError(f"{level!r} is no level: none, relay, user or admin", path=where)
        yield str(who), Permission[level.upper()]


def _is_person_or_server(who: str) -> bool:
    if who.startswith("@"):
        localpart, colon, server = who[1:].partition(":")
        return bool(localpart and colon and _SERVER.fullmatch(server))
    return who == "*" or bool(_SERVER.fullmatch(who))


def _scalar(hint: Any, key: Key, value: object, path: str) -> object:
    if value is None and _accepts_none(hint):
        return None
    kind = get_args(hint)[0] if _accepts_none(hint) else hint
    if kind is Secret:
        return _token(value, path)
    if kind is bool:
        return _boolean(value, path)
    if kind in (int, float):
        return _number(kind, value, path)
    if not isinstance(value, str):
        raise ConfigError("must be text; put it in quotes", path=path)
    if get_origin(kind) is Literal:
        return _choice(get_args(kind), value, path)
    if kind is Address:
        return _address(value, path)
    if kind is Path:
        return Path(value)
    return _check_shape(key.shape, value, path)


def _several(pairs: bool, value: Any, path: str) -> Any:
    """Read a list of texts, or pairs of them."""
    kind: Any = dict if pairs else list
    if not isinstance(value, kind):
        raise ConfigError(f"must be {'pairs, {a: b}' if pairs else 'a list, [a, b]'}", path=path)
    texts = [*value, *value.values()] if pairs else value
    if not all(isinstance(text, str) for text in texts):
        raise ConfigError("must hold texts; put them in quotes", path=path)
    return dict(value) if pairs else tuple(value)


def _boolean(value: object, path: str) -> bool:
    if not isinstance(value, bool):
        raise ConfigError(f"must be true or false, not {value!r}", path=path)
    return value


def _number(kind: type, value: object, path: str) -> float:
    whole = kind is int
    if isinstance(value, bool) or not isinstance(value, int if whole else int | float):
        raise ConfigError(f"must be a {'whole ' if whole else ''}number", path=path)
    if not 0 < value < float("inf"):
        raise ConfigError("must be more than 0", path=path)
    return value if whole else float(value)


def _choice(choices: tuple[str, ...], value: str, path: str) -> str:
    if value.lower() not in choices:
        raise ConfigError(f"{value!r} is none of {', '.join(choices)}", path=path)
    return value.lower()


def _address(value: str, path: str) -> Address:
    host, colon, port = value.rpartition(":")
    if not colon or not host or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise ConfigError(
            f"{value!r} is no address; write host:port, 127.0.0.1:29333 say", path=path
        )
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ConfigError(f"{value!r}: put the IPv6 address in [ ]", path=path)
    return Address(host, int(port))


def _check_shape(shape: str, value: str, path: str) -> str:
    match shape:
        case "url":
            return _check_url(value, path)
        case "server" if not _SERVER.fullmatch(value):
            raise ConfigError(
                f"{value!r} is no server name; it is what stands behind the colon of your "
                "Matrix ids, without https://",
                path=path,
            )
        case "localpart" if not _LOCALPART.fullmatch(value):
            raise ConfigError(
                "may hold a-z, 0-9 and . _ = / + - only: it is part of Matrix ids", path=path
            )
        case "database" if value != "embedded":
            _check_database(value, path)
    if not value:
        raise ConfigError("is empty", path=path)
    return value


def _check_url(value: str, path: str) -> str:
    try:
        parts = urlsplit(value)
        fine = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        fine = False
    if not fine:
        raise ConfigError(f"{value!r} is no URL; it begins with https:// or http://", path=path)
    if parts.query or parts.fragment or parts.username:
        raise ConfigError("must end with its path: no ?, # or user name", path=path)
    return value.rstrip("/")


def _check_database(value: str, path: str) -> None:
    if not re.match("postgres(ql)?://.", value):
        raise ConfigError("must be `embedded` or begin with postgresql://", path=path)
    try:
        hosts = urlsplit(value).netloc.rpartition("@")[2].split(",")
        fine = all(urlsplit(f"//{host}").port != 0 for host in hosts)
    except ValueError:
        fine = False
    if not fine:  # What is wrong may be the password; so nothing of it is quoted.
        raise ConfigError(
            "is no URL of a Postgres: postgresql://user:password@host:5432/name, with special "
            "characters in the password percent-encoded",
            path=path,
        )


def _finish(kind: type, found: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Fill in what depends on other keys, and refuse what does not go together."""
    if kind is Settings:
        found["state_dir"] = (folder / found.get("state_dir", "state")).absolute()
    if kind is AppserviceSettings:
        if found["as_token"] in found["hs_tokens"]:
            raise ConfigError("must differ from hs_token", path="appservice.as_token")
        if "url" not in found:
            found["url"] = _reach(found.get("listen", RECEIVER))
    return found


def _reach(listen: Address) -> str:
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(listen.host, listen.host)  # noqa: S104
    return f"http://{Address(host, listen.port)}"


def _translate(error: ValidationError, model: type[BaseModel], path: str) -> ConfigError:
    first = error.errors(include_url=False, include_input=False)[0]
    where = path
    for step in first["loc"]:
        where = f"{where}[{step}]" if isinstance(step, int) else _join(where, step)
    match first["type"]:
        case "missing":
            reason = "is missing"
        case "extra_forbidden" if len(first["loc"]) == 1:
            reason = _unknown(str(first["loc"][0]), _option_names(model))
        case "extra_forbidden":
            reason = "there is no such key"
        case "list_type" | "tuple_type" | "set_type":
            reason = "must be a list"
        case "model_type" | "model_attributes_type" | "dict_type":
            reason = "must be keys and values"
        case "string_type":
            reason = "must be text; put it in quotes"
        case "value_error" | "assertion_error":
            reason = str(first["ctx"]["error"])
        case _:
            message = first["msg"].removeprefix("Input should ")
            reason = f"must {message}" if message != first["msg"] else message
    return ConfigError(reason, path=where)


def _option_names(model: type[BaseModel]) -> Iterator[str]:
    for name, field in model.model_fields.items():
        yield field.alias or name
