"""The HTTP server under the receiver: what aiohttp would say in its own way, it says in ours.

Requests that are no HTTP get the JSON error that Matrix asks for, and no line in the log quotes
them: strangers can send them.
"""

import logging
from collections.abc import Awaitable, Callable

import orjson
from aiohttp import web
from aiohttp.web_protocol import RequestHandler
from aiohttp.web_request import BaseRequest

log = logging.getLogger(__name__)

JSON = {"Content-Type": "application/json"}

_LONGEST_LINE = 16384


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


def answer_error(
    status: int, errcode: str, reason: str, *, close: bool, **headers: str
) -> web.Response:
    """Make the answer that is an error (client-server API, "Standard error response")."""
    body = orjson.dumps({"errcode": errcode, "error": reason})
    response = web.Response(status=status, body=body, headers={**JSON, **headers})
    if close:
        response.force_close()
    return response
