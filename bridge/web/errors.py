"""Errors of the web: ``{"errcode", "error"}`` for programs, a page with it for people."""

import logging
from collections.abc import Awaitable, Callable

import orjson
from aiohttp import web

from bridge.net.openid import OpenIdRefused
from bridge.sdk.errors import TemporaryFailure, TrestleError
from bridge.web.pages import page

log = logging.getLogger(__name__)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_BEGUN = web.RequestKey("begun", web.StreamResponse)
"""Under which a request has the answer that has begun."""
_FOR_PROGRAMS = ("/_trestle/", "/_matrix/")
_WORDS = {
    404: ("M_UNRECOGNIZED", "There is nothing here."),
    405: ("M_UNRECOGNIZED", "That cannot be done here."),
    413: ("M_TOO_LARGE", "That is too long."),
}


class ApiError(Exception):
    """An answer that is an error (client-server API, "Standard error response")."""

    def __init__(self, status: int, errcode: str, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.errcode = errcode
        self.reason = reason


@web.middleware
async def errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn what a handler raises into an answer; what was not meant to be raised is logged."""
    try:
        return await handler(request)
    except ApiError as error:
        found = error
    except OpenIdRefused as error:
        found = ApiError(401, "M_UNKNOWN_TOKEN", str(error))
    except TemporaryFailure as error:
        log.warning("%s", error, extra={"event": "web_unavailable"})
        found = ApiError(503, "M_UNKNOWN", "This does not work at the moment; try again soon.")
    except web.HTTPException as error:
        errcode, words = _WORDS.get(error.status, ("M_UNKNOWN", error.reason))
        found = ApiError(error.status, errcode, words)
        return await _answer(request, found, allow=error.headers.get("Allow"))
    except TrestleError as error:
        found = ApiError(400, "M_INVALID_PARAM", str(error))
    except Exception as error:  # Nobody outside is to see what went wrong.
        log.error("a page failed", exc_info=error, extra={"event": "web_failed"})
        found = ApiError(500, "M_UNKNOWN", "Trestle failed at this; its log says more.")
    return await _answer(request, found)


async def note_begun(request: web.Request, response: web.StreamResponse) -> None:
    """Take note that an answer begins (a signal, ``on_response_prepare``): it is the only one."""
    request[_BEGUN] = response


async def _answer(
    request: web.Request, error: ApiError, allow: str | None = None
) -> web.StreamResponse:
    begun: web.StreamResponse | None = request.get(_BEGUN)
    if begun is not None:
        # A second answer would be read as the rest of the first; whoever reads must see the break.
        if request.transport is not None and not request.transport.is_closing():
            log.warning(
                "an answer breaks off: %s", error.reason, extra={"event": "web_broken_off"}
            )
            request.transport.abort()
        return begun  # Else whoever asked has hung up, and nothing is wrong here.
    response: web.Response
    if request.path.startswith(_FOR_PROGRAMS):
        body = orjson.dumps({"errcode": error.errcode, "error": error.reason})
        response = web.Response(status=error.status, body=body, content_type="application/json")
    else:
        response = await page("error.html", {"reason": error.reason}, status=error.status)
    if allow is not None:
        response.headers["Allow"] = allow
    return response
