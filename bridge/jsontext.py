"""JSON as text and back, for whatever a homeserver may have sent.

orjson is fast but narrower than what we take in (lone surrogates, numbers of more than 64 bits,
some hundred levels of nesting): what it refuses is written and read slowly instead.
"""

import json
from typing import Any

import orjson


def encode(value: Any) -> bytes:
    """Write whatever was read from JSON; :func:`decode` gives the same back.

    Raises ``TypeError`` for what is no JSON at all.
    """
    try:
        return orjson.dumps(value)
    except TypeError:
        return _write_slowly(value).encode("ascii")


def decode(raw: bytes) -> Any:
    """Read what :func:`encode` wrote. Raises ``ValueError`` for what is no JSON."""
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError:
        try:
            return json.loads(raw)
        except RecursionError as error:
            raise ValueError("it is nested too deeply") from error


class _Said(str):
    """A piece that is written as it is."""

    __slots__ = ()


def _write_slowly(value: Any) -> str:
    """Write however deep it is: the standard library's writer follows Python's own stack."""
    pieces: list[str] = []
    left = [value]
    while left:
        one = left.pop()
        if isinstance(one, _Said):
            pieces.append(one)
        elif isinstance(one, dict):
            left.append(_Said("}"))
            for at, (name, inner) in reversed(list(enumerate(one.items()))):
                left += [inner, _Said(f"{',' if at else ''}{json.dumps(name)}:")]
            left.append(_Said("{"))
        elif isinstance(one, list | tuple):
            left.append(_Said("]"))
            for at, inner in reversed(list(enumerate(one))):
                left += [inner, _Said("," if at else "")]
            left.append(_Said("["))
        else:
            pieces.append(json.dumps(one))
    return "".join(pieces)
