"""What every handler of the API begins and ends with: the token, and JSON."""

from typing import Any

import orjson
from aiohttp import web

from bridge.web.errors import ApiError

PREFIX = "/_trestle/v1"
MANAGER = "manager"
"""The scope of a token that may do everything its owner may."""


def bearer_of(request: web.Request) -> str:
    """The token that is shown. Raises :class:`ApiError` if there is none, or more than one."""
    shown = request.headers.getall("Authorization", [])
    scheme, _, token = shown[0].partition(" ") if len(shown) == 1 else ("", "", "")
    if scheme.lower() != "bearer" or not token.strip():
        raise ApiError(401, "M_MISSING_TOKEN", "Show your token as `Authorization: Bearer`.")
    return token.strip()


async def object_of(request: web.Request) -> dict[str, Any]:
    """The JSON object that was sent. A form, or JSON that calls itself text, is refused."""
    if request.content_type != "application/json":
        raise ApiError(415, "M_NOT_JSON", "Send JSON, as application/json.")
    try:
        body = orjson.loads(await request.read())
    except (web.RequestPayloadError, ConnectionError) as error:
        raise ApiError(400, "M_NOT_JSON", "What you sent did not arrive whole.") from error
    except orjson.JSONDecodeError as error:
        raise ApiError(400, "M_NOT_JSON", "That is no JSON.") from error
    if not isinstance(body, dict):
        raise ApiError(400, "M_BAD_JSON", "It must be a JSON object.")
    return body


def json_of(content: dict[str, Any], status: int = 200) -> web.Response:
    """The answer that says this."""
    return web.Response(body=orjson.dumps(content), content_type="application/json", status=status)
