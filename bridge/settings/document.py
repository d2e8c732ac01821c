"""A file of settings as plain values that are safe to walk, whatever they mean; and how they are
spelled."""

import os
import re
from pathlib import Path

from ruamel.yaml import YAML
from ruamel.yaml.constructor import DuplicateKeyError
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.representer import RoundTripRepresenter

from bridge.sdk.errors import ConfigError
from bridge.wholefile import read_whole

_INSTALLED = Path("/etc/trestle/config.yaml")
"""Where install.md puts the settings. It is only suggested: people must say which they mean."""
_ODD = re.compile(r"[\x00\ud800-\udfff]")
_DEEPEST = 50
"""How many values may stand inside each other. Ours need five."""


class Representer(RoundTripRepresenter):
    """Spells nothing as ``null``, here alone: what is added to a representer is its class's."""


Representer.add_representer(
    type(None), lambda own, _: own.represent_scalar("tag:yaml.org,2002:null", "null")
)


def read_bytes(path: Path) -> tuple[bytes, int]:
    """Give what is in the file, and its mode. Raises ``ConfigError`` if it cannot be read."""
    try:
        return read_whole(path)
    except FileNotFoundError as error:
        installed = path != _INSTALLED and os.path.exists(_INSTALLED)
        way = (
            f"`-c {_INSTALLED}` names the service's" if installed else "`trestle init` writes one"
        )
        raise ConfigError(f"there is no {path}; {way}") from error
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from error


def read_text(path: Path) -> str:
    """Give the file's text. Raises ``ConfigError`` if it cannot be read or is not UTF-8."""
    try:
        return read_bytes(path)[0].decode()
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8 text; save it as that") from error


def parse(data: bytes | str, name: str) -> object:
    """Parse YAML. Raises ``ConfigError`` with its ``name`` and the line that is wrong.

    What comes of it is safe to walk: no value is inside itself or very deep, and no text holds
    what no path and no line may.
    """
    try:
        document = YAML(typ="safe", pure=True).load(data)
        _refuse_odd(document, name)
    except DuplicateKeyError as error:
        raise ConfigError(f"{name}{_place(error)}: a key stands there twice") from error
    except RecursionError as error:
        raise ConfigError(f"{name} holds values inside values, too deep or without end") from error
    except (YAMLError, ValueError, TypeError) as error:
        raise ConfigError(f"{name}{_place(error)} is not YAML: {_problem(error)}") from error
    return document


def _refuse_odd(document: object, name: str) -> None:
    """Look at each value once a level, however often it is named."""
    level = {0: document}
    for _ in range(_DEEPEST):
        below: dict[int, object] = {}
        for value in level.values():
            if isinstance(value, str) and _ODD.search(value):
                raise ConfigError(
                    f"{name} holds a NUL (\\0) or half a character, which no text may hold"
                )
            if isinstance(value, dict):
                below |= {id(one): one for one in (*value, *value.values())}
            elif isinstance(value, list | tuple | set):
                below |= {id(one): one for one in value}
        level = below
    if level:
        raise RecursionError


def _place(error: Exception) -> str:
    mark = error.problem_mark if isinstance(error, MarkedYAMLError) else None
    return "" if mark is None else f", line {mark.line + 1}"


def _problem(error: Exception) -> str:
    # Only the parser's own words: its context would quote the file, tokens and all.
    problem = error.problem if isinstance(error, MarkedYAMLError) else None
    if problem is None and not isinstance(error, YAMLError | UnicodeError):
        return "it holds a number or a date that there cannot be"
    return problem or "it holds characters that YAML does not allow"
