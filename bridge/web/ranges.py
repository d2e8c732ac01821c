"""Which part of a file is given to whoever asks for one (RFC 9110, section 14).

Players of sound and films do, and some play nothing without. Few homeservers give parts, so that
they are cut out here of all that they send. Who asks for several at once is given everything.
"""

import re
from collections.abc import Mapping
from typing import NamedTuple

import aiohttp
from aiohttp import web

_OFFERED = {"Accept-Ranges": "bytes"}
_NOTHING = re.compile(r"bytes=-0+")
"""The last no bytes: aiohttp reads it as all."""


class Part(NamedTuple):
    """What is given."""

    status: int
    first: int
    """How much of what the homeserver sends comes before it, in bytes."""
    end: int | None
    """Where it ends there; None: it is not known where."""
    headers: Mapping[str, str]


def asked_in(request: web.Request) -> slice | None:
    """The part that is asked for; None for everything."""
    # With If-Range all is given where the file is another by now, and nothing says which it is.
    if request.method != "GET" or "Range" not in request.headers or "If-Range" in request.headers:
        return None
    if _NOTHING.fullmatch(request.headers["Range"]):
        return slice(0, 0)
    try:
        return request.http_range
    except ValueError:
        return None


def part_of(found: aiohttp.ClientResponse, asked: slice | None) -> Part:
    """What is given of a homeserver's answer, which may be the part already."""
    length = None if "Content-Encoding" in found.headers else found.content_length
    if found.status in (206, 416):
        said = {one: found.headers[one] for one in ("Content-Range",) if one in found.headers}
        return Part(found.status, 0, length if found.status == 206 else 0, _OFFERED | said)
    if length is None:
        return Part(200, 0, None, {"Accept-Ranges": "none"})
    if asked is None:
        return Part(200, 0, length, _OFFERED)
    first, end, _ = asked.indices(length)
    if first >= end:
        return Part(416, 0, 0, _OFFERED | {"Content-Range": f"bytes */{length}"})
    said = {"Content-Range": f"bytes {first}-{end - 1}/{length}"}
    return Part(206, first, end, _OFFERED | said)
