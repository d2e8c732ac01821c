"""The HTTP server under the receiver: what aiohttp would say in its own way, it says in ours.

Requests that are no HTTP get the JSON error that Matrix asks for, and no line in the log quotes
them: strangers can send them.
"""

import errno
import logging
import time
from collections.abc import Awaitable, Callable
from email.utils import formatdate

import orjson
from aiohttp import web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.web_protocol import RequestHandler
from aiohttp.web_request import BaseRequest

from bridge.sdk.errors import ConfigError
from bridge.settings import Address

log = logging.getLogger(__name__)

JSON = {"Content-Type": "application/json"}

_LONGEST_LINE = 16384


class Done(web.StreamResponse):
    """``200 {}`` on a connection that stays open.

    Nearly every answer is this one; it is written as it stands, without headers being put
    together for it.
    """

    _second = 0
    _bytes = b""

    async def prepare(self, request: BaseRequest) -> AbstractStreamWriter | None:
        """Write it, all at once."""
        second = int(time.time())  # noqa: TID251 - for a header, which nobody decides anything on
        if second != Done._second:
            date = formatdate(second, usegmt=True)
            Done._second, Done._bytes = (
                second,
                (
                    "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n"
                    f"Date: {date}\r\n\r\n{{}}"
                ).encode(),
            )
        self._eof_sent = self._keep_alive = True
        if request.transport is not None:
            request.transport.write(Done._bytes)
        return None


class Connection(RequestHandler):
    """One connection."""

    def handle_error(
        self,
        request: BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer what is no HTTP (400), or what we failed at (500); then close."""
        if status >= 500:
            log.error("a request failed", exc_info=exc, extra={"event": "request_failed"})
            reason = "Trestle failed at it; its log says more."
        else:
            log.debug("what came in is no HTTP", extra={"event": "no_http"})
            reason = "The request is no proper HTTP."
        if request.writer.output_size > 0:
            raise ConnectionError("the answer has begun already")
        return answer_error(status, "M_UNKNOWN", reason, close=True)


class Listener(web.Server):
    """Makes the connections. ``idle_limit`` seconds has the next request's head to arrive."""

    def __init__(
        self, handler: Callable[[BaseRequest], Awaitable[web.StreamResponse]], idle_limit: float
    ) -> None:
        super().__init__(handler)
        self._idle_limit = idle_limit

    def __call__(self) -> RequestHandler:
        """Make one for a client that connects."""
        return Connection(
            self, loop=self._loop,
            access_log=None,  # type: ignore[arg-type]
            max_line_size=_LONGEST_LINE, max_field_size=_LONGEST_LINE,
            lingering_time=0.0, auto_decompress=False, keepalive_timeout=self._idle_limit,
        )  # fmt: skip


def cannot_listen(address: Address, error: OSError, path: str) -> ConfigError:
    """Say why nobody can listen there, and the way out; ``path`` names the key."""
    match error.errno:
        case errno.EADDRINUSE:
            reason = (
                f"{address} is taken by another program, or by a Trestle that runs already; "
                "choose another port"
            )
        case errno.EADDRNOTAVAIL:
            reason = f"{address.host} is no address of this machine; 127.0.0.1 and 0.0.0.0 are"
        case errno.EACCES:
            reason = f"this user may not listen on {address}; choose a port above 1023"
        case _:
            reason = f"nobody can listen on {address}: {error.strerror or error}"
    return ConfigError(reason, path=path)


def answer_error(
    status: int, errcode: str, reason: str, *, close: bool, **headers: str
) -> web.Response:
    """Make the answer that is an error (client-server API, "Standard error response")."""
    body = orjson.dumps({"errcode": errcode, "error": reason})
    response = web.Response(status=status, body=body, headers={**JSON, **headers})
    if close:
        response.force_close()
    return response
