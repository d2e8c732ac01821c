"""What a setting takes, and what holds without it, in words for tables and the command line."""

from collections.abc import Mapping, Sequence
from enum import Enum
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import SecretBytes, SecretStr

from bridge.sdk.secret import Secret
from bridge.settings.records import Address

_NAMES: Mapping[Any, str] = {
    bool: "true or false", int: "a whole number", float: "a number", Address: "host:port",
    Path: "a path", Secret: "a secret", SecretStr: "a secret", SecretBytes: "a secret",
    IPv4Network: "an IPv4 network", IPv6Network: "an IPv6 network",
}  # fmt: skip


def takes(hint: Any, text: str = "text") -> str:
    """Say which values a type has; ``text`` is what it is where it is a text."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return takes(inner[0], text)
    if origin is Literal:
        return ", ".join(f"`{one}`" for one in inner)
    if origin in (Union, UnionType):
        kinds = [takes(one, text) for one in inner if one is not type(None)]
        return " or ".join([*kinds, "`null`"] if type(None) in inner else kinds)
    kind = origin or hint
    if not isinstance(kind, type) or kind in _NAMES:
        return _NAMES.get(kind, text)
    if issubclass(kind, Enum):
        return ", ".join(f"`{one.value}`" for one in kind)
    if issubclass(kind, Mapping):
        return "keys and values, {a: b}"
    if issubclass(kind, Sequence | set | frozenset) and not issubclass(kind, str):
        return "a list, [a, b]"
    return text


def shown(value: object) -> str:
    """Say what holds without a setting: the value, "none" for nothing at all."""
    if isinstance(value, Enum):
        value = value.name.lower()
    if isinstance(value, bool):
        value = str(value).lower()
    if value is None:
        return "`null`"
    if isinstance(value, float):
        value = f"{value:g}" if value < 1_000_000 else value
    empty = isinstance(value, str | Mapping | Sequence | set | frozenset) and not value
    return "none" if empty else f"`{value}`"
