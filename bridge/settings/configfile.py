"""Changes one thing in the admin's config.yaml, and leaves every other byte as it is."""

import json
import os
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode

from bridge.sdk.errors import ConfigError
from bridge.wholefile import write_whole

_URL, _OWNER_URL = "TRESTLE_DATABASE_URL", "TRESTLE_DATABASE_OWNER_URL"


def with_database(text: str, value: str, *, key: str = "url") -> str:
    """The text of a config with another ``database.url``. Comments, order and style stay.

    With ``url_file`` as the ``key``, the value names the file that holds the URL. Raises
    ``ConfigError`` when only a person can do it: the URL comes from the environment, or the file
    uses YAML in unusual ways.
    """
    given = next((one for one in (_URL, _OWNER_URL) if one in os.environ), None)
    if given is not None:
        raise ConfigError(
            f"a URL comes from the environment variable {given}; unset it, for the service too"
            + (", and put the URL into the file" if given == _URL else ""),
            path="database.url",
        )
    changed = _change(text, key, value)
    expected = _parse(text)
    section = dict(expected.get("database") or {})
    for name in ("url", "url_file", "owner_url", "owner_url_file"):
        section.pop(name, None)
    expected["database"] = {**section, key: value}
    if changed is None or _parse(changed) != expected:
        raise ConfigError(
            "the file is written in a way that a program cannot safely change; move `url` under a "
            "plain `database:` of its own, without owner_url, anchors and tags",
            path="database.url",
        )
    return changed


def database_of(text: str) -> dict[str, Any]:
    """What a config says of its database, under the one key ``database``."""
    return {"database": _parse(text).get("database")}


def names_url_file(text: str) -> bool:
    """Whether a config keeps its database's URL in a file of its own."""
    section = _parse(text).get("database")
    return isinstance(section, dict) and section.get("url_file") is not None


def write_config(path: Path, text: str) -> None:
    """Write the file whole or not at all, with the mode and the owner that it has.

    Raises ``ConfigError`` if the folder refuses.
    """
    path = path.resolve()
    try:
        about = path.stat()
        write_whole(path, text.encode(), mode=about.st_mode & 0o777, owner=about)
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror}") from error


def _parse(text: str) -> dict[str, Any]:
    try:
        document = YAML(typ="safe", pure=True).load(text)
    except (YAMLError, ValueError):
        return {}
    return document if isinstance(document, dict) else {}


def _change(text: str, name: str, value: str) -> str | None:
    quoted = value if value == "embedded" else json.dumps(value, ensure_ascii=False)
    entry = f"{name}: {quoted}"
    try:
        root = YAML(pure=True).compose(text)
    except YAMLError:
        return None
    if not isinstance(root, MappingNode):
        return None
    section = _find(root, "database")
    if section is None:
        gap = "" if text.endswith("\n") else "\n"
        return f"{text}{gap}database:\n  {entry}\n"
    key, inner = section
    if isinstance(inner, ScalarNode) and not inner.value:
        return f"{text[: key.end_mark.index]}: {{{entry}}}{text[key.end_mark.index + 1 :]}"
    if not isinstance(inner, MappingNode) or inner.anchor:
        return None
    for owner in ("owner_url", "owner_url_file"):
        if _find(inner, owner) is not None:
            return None
    for old in ("url", "url_file"):
        found = _find(inner, old)
        if found is not None:
            start, end = found[0].start_mark.index, found[1].end_mark.index
            if text[end - 1] == "\n":  # A text in lines of its own ends behind the last one.
                end -= 1
            return f"{text[:start]}{entry}{text[end:]}"
    first = inner.value[0][0].start_mark if inner.value else None
    if first is None:
        end = inner.end_mark.index - 1
        return f"{text[:end]}{entry}{text[end:]}"
    join = ", " if inner.flow_style else "\n" + " " * first.column
    return f"{text[: first.index]}{entry}{join}{text[first.index :]}"


def _find(mapping: MappingNode, name: str) -> tuple[Node, Node] | None:
    for key, value in mapping.value:
        if isinstance(key, ScalarNode) and key.value == name:
            return key, value
    return None
