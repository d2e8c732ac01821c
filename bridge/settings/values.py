"""Single values of the settings: each is right, or a sentence says at which path it is not."""

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, get_args, get_origin
from urllib.parse import unquote, urlsplit

from bridge.model import Permission
from bridge.sdk.errors import ConfigError
from bridge.sdk.secret import Secret
from bridge.settings.records import Address, Key, LogLevel, name_in_file, sections

_PLACEHOLDER = re.compile(
    r"(?i)(change|replace)[ _-]?me([ _-][a-z]+)*"
    r"|(your[ _-])+(as[ _-]|hs[ _-])?(token|password)([ _-]here)?"
    r"|<[a-z _-]+>|\.\.\.|x{3,}"
)
"""Whole texts only: a real secret may hold any of these words."""
_LOCALPART = re.compile(r"[a-z0-9._=/+-]+")
_SERVER = re.compile(r"(?:[A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?")
_ROOM = re.compile(r"#[^:\s]+:\S+|![^\s]+")
_SHORTEST_TOKEN = 16


def join(path: str, name: str) -> str:
    """The path of a key inside the one at ``path``."""
    return f"{path}.{name}" if path else name


def accepts_none(hint: Any) -> bool:
    """Whether the type has ``null`` among its values."""
    return type(None) in get_args(hint)


def is_placeholder(value: object) -> bool:
    """Whether it is a text that waits to be replaced."""
    return isinstance(value, str) and _PLACEHOLDER.fullmatch(value.strip()) is not None


def refuse_placeholder(value: object, path: str) -> None:
    """Raise ``ConfigError`` for a text that waits to be replaced. It may be a secret: no quote."""
    if is_placeholder(value):
        raise ConfigError("is a placeholder; put your own value here", path=path)


def unknown_key(name: str, known: Iterable[str]) -> str:
    """Say that there is no such key, with the likeliest way out."""
    known = sorted(known)
    near = difflib.get_close_matches(name, known, n=1)
    if near:
        return f"there is no such key; did you mean {near[0]}?"
    for section, keys in sections().items():
        if name in keys:
            return f"there is no such key here; it belongs under {section}"
    return f"there is no such key; the keys here are {', '.join(known)}"


def slips_of_the_pen(environment: Mapping[str, str]) -> Iterator[ConfigError]:
    """Give an error for each environment variable that is nearly one of ours.

    Others of our prefix may have a meaning elsewhere, as ``TRESTLE_DATABASE_PORT`` in Kubernetes.
    """
    for section, keys in sections().items():
        start = f"TRESTLE_{section}_".upper()
        known = [
            one.upper() for name, (key, _, _) in keys.items() if key.private
            for one in (name_in_file(name, key), *key.also)
        ]  # fmt: skip
        for variable in sorted(environment):
            rest = variable.removeprefix(start)
            near = difflib.get_close_matches(rest, known, n=1, cutoff=0.75)
            if rest != variable and rest not in known and near:
                reason = f"the variable {variable} is set, but means nothing; did you mean "
                yield ConfigError(f"{reason}{start}{near[0]}?", path=section)


def list_of_texts(value: object, path: str) -> tuple[str, ...]:
    """Read one text, or a list of them."""
    found = [value] if isinstance(value, str) else value
    if not isinstance(found, list) or not all(isinstance(one, str) and one for one in found):
        raise ConfigError("must be a text or a list of texts; put each in quotes", path=path)
    return tuple(found)


def room(value: object, path: str) -> str:
    """Read a room's alias or id (a room of version 12 has no server in its id)."""
    if not isinstance(value, str) or not _ROOM.fullmatch(value):
        raise ConfigError(
            'must be a room\'s alias or id, for example "#lobby:example.org", in quotes', path=path
        )
    return value


def token(value: object, path: str) -> Secret:
    """Read a token: long enough, plain characters, no placeholder."""
    if not isinstance(value, str):
        raise ConfigError("must be text; put it in quotes", path=path)
    refuse_placeholder(value, path)
    if len(value) < _SHORTEST_TOKEN or not value.isascii() or not value.isprintable():
        raise ConfigError(
            f"is no token: it needs at least {_SHORTEST_TOKEN} plain characters; "
            "`trestle init` makes random ones",
            path=path,
        )
    return Secret(value)


def permissions(value: object, path: str) -> Iterator[tuple[str, Permission]]:
    """Read who has which level."""
    if not isinstance(value, dict):
        raise ConfigError('must be keys and values, for example `"example.org": user`', path=path)
    for who, level in value.items():
        where = join(path, str(who))
        if not isinstance(who, str) or not _is_person_or_server(who):
            raise ConfigError(
                "must be `*`, a server name or a Matrix id like @you:example.org; a `*` inside "
                "one has no meaning",
                path=where,
            )
        if not isinstance(level, str) or level.upper() not in Permission.__members__:
            raise ConfigError(f"{level!r} is no level: none, relay, user or admin", path=where)
        yield str(who), Permission[level.upper()]


def levels(value: object, path: str) -> Iterator[tuple[str, str]]:
    """Read log levels by part of the program."""
    if not isinstance(value, dict):
        raise ConfigError("must be keys and values, for example `irc: debug`", path=path)
    for part, level in value.items():
        yield str(part), _choice(get_args(LogLevel), str(level), join(path, str(part)))


def several(pairs: bool, value: Any, path: str) -> Any:
    """Read a list of texts, or pairs of them."""
    kind: Any = dict if pairs else list
    if not isinstance(value, kind):
        raise ConfigError(f"must be {'pairs, {a: b}' if pairs else 'a list, [a, b]'}", path=path)
    texts = [*value, *value.values()] if pairs else value
    if not all(isinstance(text, str) for text in texts):
        raise ConfigError("must hold texts; put them in quotes", path=path)
    return dict(value) if pairs else tuple(value)


def _is_person_or_server(who: str) -> bool:
    if who.startswith("@"):
        localpart, colon, server = who[1:].partition(":")
        named = localpart and colon and "*" not in localpart
        return bool(named and _SERVER.fullmatch(server))
    return who == "*" or bool(_SERVER.fullmatch(who))


def scalar(hint: Any, key: Key, value: object, path: str) -> object:
    """Read one value by its type and the key's shape. Raises ``ConfigError``."""
    if key.private or is_placeholder(key.example):
        refuse_placeholder(value, path)
    if value is None and accepts_none(hint):
        return None
    kind = get_args(hint)[0] if accepts_none(hint) else hint
    if kind is Secret:
        return token(value, path)
    if kind is bool:
        return _boolean(value, path)
    if kind in (int, float):
        return _number(kind, value, path, least=key.least)
    if not isinstance(value, str):
        raise ConfigError("must be text; put it in quotes", path=path)
    if get_origin(kind) is Literal:
        return _choice(get_args(kind), value, path)
    if kind is Address:
        return _address(value, path)
    if kind is Path:
        return Path(value)
    return _check_shape(key.shape, value, path)


def _boolean(value: object, path: str) -> bool:
    if not isinstance(value, bool):
        raise ConfigError(f"must be true or false, not {value!r}", path=path)
    return value


def _number(kind: type, value: object, path: str, *, least: float) -> float:
    whole = kind is int
    if isinstance(value, bool) or not isinstance(value, int if whole else int | float):
        raise ConfigError(f"must be a {'whole ' if whole else ''}number", path=path)
    if not 0 < value < float("inf"):
        raise ConfigError("must be more than 0", path=path)
    if value < least:
        raise ConfigError(f"must be {least:g} or more", path=path)
    return value if whole else float(value)


def _choice(choices: tuple[str, ...], value: str, path: str) -> str:
    if value.lower() not in choices:
        raise ConfigError(f"{value!r} is none of {', '.join(choices)}", path=path)
    return value.lower()


def _address(value: str, path: str) -> Address:
    host, colon, port = value.rpartition(":")
    if not colon or not host or not re.fullmatch("[0-9]{1,5}", port) or int(port) > 65535:
        raise ConfigError(
            f"{value!r} is no address; write host:port, for example 127.0.0.1:29333", path=path
        )
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ConfigError(f"{value!r}: put the IPv6 address in [ ]", path=path)
    _refuse_impossible(host, path)
    return Address(host, int(port))


def _refuse_impossible(host: str, path: str) -> None:
    if not _is_possible(host):
        raise ConfigError(f"there can be no host {host!r}", path=path)


def _is_possible(host: str) -> bool:
    """Whether a host can have that name or address: of others not even a look-up just fails.

    A folder of sockets in place of a database's host (``%2Frun%2Fpostgresql``) can be any.
    """
    if unquote(host).startswith("/"):
        return True
    try:
        host.encode("idna")
    except UnicodeError:  # A part of it is empty or too long.
        return False
    return bool(host) and not re.search(r"\s", host)


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
    _refuse_impossible(parts.hostname or "", path)
    if parts.query or parts.fragment or parts.username:
        raise ConfigError("must end with its path: no ?, # or user name", path=path)
    return value.rstrip("/")


def _check_database(value: str, path: str) -> None:
    if not re.match("postgres(ql)?://.", value):
        raise ConfigError("must be `embedded` or begin with postgresql://", path=path)
    try:
        places = urlsplit(value).netloc.rpartition("@")[2].split(",")
        hosts = [urlsplit(f"//{place}") for place in places]
        fine = all(one.port != 0 and _is_possible(one.hostname or "local") for one in hosts)
    except ValueError:
        fine = False
    if not fine:  # What is wrong may be the password; so nothing of it is quoted.
        raise ConfigError(
            "is no URL of a Postgres: postgresql://user:password@host:5432/name, with special "
            "characters in the password percent-encoded",
            path=path,
        )
