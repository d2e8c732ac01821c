"""From the bytes of a transaction to its lists, or the reason why not."""

import json
import math
import re
from typing import Any

import orjson

from bridge.model import Source, Transaction
from bridge.sdk.errors import TrestleError

_DEEPEST = 900
"""Levels of nesting that Python's own parser survives."""

_TEXT = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"?', re.DOTALL)
"""A text in JSON, or one that does not end."""


class Unreadable(TrestleError):
    """The body is no transaction: HTTP status, errcode and a sentence for the answer."""

    def __init__(self, errcode: str, reason: str) -> None:
        super().__init__(reason)
        self.status = 400
        self.errcode = errcode


def read_json(body: bytes) -> Any:
    """Parse JSON; of duplicate keys the last wins. Raises :class:`Unreadable`."""
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        return _read_slowly(body)


def read_object(body: bytes) -> dict[str, Any]:
    """Parse a JSON object. Raises :class:`Unreadable`."""
    data = read_json(body)
    if not isinstance(data, dict):
        raise Unreadable("M_BAD_JSON", "the body is no JSON object")
    return data


def parse_transaction(
    body: bytes, transaction_id: str = "", source: Source = Source.TRANSACTION
) -> Transaction:
    """Read the body of ``PUT /transactions/{id}``. Raises :class:`Unreadable`.

    Ephemeral and to-device events, device lists and key counts are read under their stable and
    their unstable names (MSC2409, MSC3202, MSC4203). Lists that are none count as empty: they
    must not hold up the events beside them.
    """
    data = read_object(body)
    events = data.get("events")
    if not isinstance(events, list):
        raise Unreadable("M_BAD_JSON", "events is no list")
    if len(data) == 1:
        return Transaction(id=transaction_id, body=body, events=events, source=source)
    return Transaction(
        id=transaction_id,
        body=body,
        events=events,
        ephemeral=_either(data, "ephemeral", "de.sorunome.msc2409.ephemeral"),
        to_device=_either(data, "to_device", "de.sorunome.msc2409.to_device"),
        has_device_news=any(data.get(name) for name in _DEVICE_NEWS),
        source=source,
    )


_DEVICE_NEWS = tuple(
    prefix + name
    for prefix in ("", "org.matrix.msc3202.")
    for name in (
        "device_lists",
        "device_one_time_keys_count",
        "device_one_time_key_counts",  # Misspelt by some homeservers, as MSC3202 once was.
        "device_unused_fallback_key_types",
    )
)


def _either(data: dict[str, Any], *names: str) -> list[Any]:
    """The first list that is not empty: homeservers send the same under both names."""
    for name in names:
        value = data.get(name)
        if isinstance(value, list) and value:
            return value
    return []


def _read_slowly(body: bytes) -> Any:
    """What the fast parser refuses: is it legal after all (lone surrogates), or what is wrong?"""
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Unreadable("M_NOT_JSON", "the body is not UTF-8") from error
    if _depth(text) > _DEEPEST:
        raise Unreadable("M_BAD_JSON", "the body is nested too deeply")
    try:
        return json.loads(
            text, parse_constant=_no_constant, parse_int=_bounded, parse_float=_finite
        )
    except Unreadable:
        raise
    except (ValueError, RecursionError) as error:
        raise Unreadable("M_NOT_JSON", "the body is not JSON") from error


def _depth(text: str) -> int:
    """The deepest nesting."""
    deepest = depth = 0
    for character in _TEXT.sub("", text):
        if character in "[{":
            depth += 1
            deepest = max(deepest, depth)
        elif character in "]}":
            depth -= 1
    return deepest


def _no_constant(name: str) -> float:
    raise Unreadable("M_BAD_JSON", f"the body holds {name}, which JSON has not")


def _bounded(digits: str) -> int:
    if len(digits) > 30:
        raise Unreadable("M_BAD_JSON", "the body holds a number that is too long")
    return int(digits)


def _finite(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise Unreadable("M_BAD_JSON", "the body holds a number that is too large")
    return number
