"""What our listeners answer, and how it is written (RFC 9112)."""

import time
from collections.abc import AsyncGenerator, Mapping
from email.utils import formatdate
from http import HTTPStatus
from types import MappingProxyType
from typing import NamedTuple

import orjson

_NO_HEADERS: Mapping[str, str] = MappingProxyType({})


class Answer(NamedTuple):
    """What is answered: JSON, where nothing else is said."""

    status: int = 200
    body: bytes = b"{}"
    headers: Mapping[str, str] = _NO_HEADERS
    closes: bool = False
    """The connection ends with it."""
    kind: str = "application/json"
    more: AsyncGenerator[bytes, None] | None = None
    """What is said in place of the body, piece by piece as it comes; not to ``HEAD``."""


DONE = Answer()
"""Nearly every answer."""


def answer_error(
    status: int,
    errcode: str,
    reason: str,
    *,
    closes: bool,
    headers: Mapping[str, str] = _NO_HEADERS,
) -> Answer:
    """Make the answer that is an error (client-server API, "Standard error response")."""
    body = orjson.dumps({"errcode": errcode, "error": reason})
    return Answer(status, body, headers, closes)


class _Date:
    """The header of that name, made once a second."""

    second = 0
    line = ""


def _date() -> str:
    second = int(time.time())  # noqa: TID251 - for a header, which nobody decides anything on
    if second != _Date.second:
        _Date.second, _Date.line = second, f"Date: {formatdate(second, usegmt=True)}\r\n"
    return _Date.line


def encode(answer: Answer, is_last: bool, *, has_body: bool = True) -> bytes:
    """Write it; of one that goes on piece by piece only the head."""
    more = "".join(f"{name}: {value}\r\n" for name, value in answer.headers.items())
    closing = "Connection: close\r\n" if is_last else ""
    length = f"Content-Length: {len(answer.body)}"
    if answer.more is not None:
        length, has_body = "Transfer-Encoding: chunked", False
    head = (
        f"HTTP/1.1 {answer.status} {HTTPStatus(answer.status).phrase}\r\n"
        f"Content-Type: {answer.kind}\r\n{length}\r\n{_date()}{more}"
        f"{closing}\r\n"
    )
    return head.encode("ascii") + (answer.body if has_body else b"")
