"""Requests to the homeserver: the only place that holds the as_token.

No redirect is followed with the token, 429 is reported with its delay, every wait has a limit, and
the path is the same bytes at every attempt. (docs/adr/0002 says why this is not mautrix's client.)
"""

import logging
import os
import re
import socket
import ssl
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import cached_property, lru_cache
from typing import Any, NamedTuple
from urllib.parse import quote, urlencode

import orjson
from yarl import URL

from bridge.matrix.connections import Answer, Connections, Headers, write_headers
from bridge.sdk.errors import DeliveryError, PermanentFailure, TemporaryFailure, TrestleError
from bridge.sdk.ids import EventId, RoomId, UserId
from bridge.sdk.secret import Secret

log = logging.getLogger(__name__)

_SHORTEST_DELAY = 0.1
_LONGEST_DELAY = 3600.0
"""Seconds between which a delay is believed that the homeserver asks for."""

_JSON = "application/json"
_SAID = {"User-Agent": "Trestle", "Accept": _JSON, "Accept-Encoding": "identity"}

_OF_TOKEN = {"M_UNKNOWN_TOKEN", "M_MISSING_TOKEN"}

_TOO_LARGE = {413, 414}
"""What a proxy in front of the homeserver may say of the request itself."""

_ERRNO = re.compile(r"\[Errno (\d{1,4})\]")

NOT_REACHED = {
    "M_URL_NOT_SET": "the registration has no url; put in where the homeserver reaches us, and "
    "restart the homeserver",
    "M_CONNECTION_FAILED": "the homeserver cannot reach us at the registration's url; is the "
    "address right as seen from the homeserver (containers!), and no firewall in between?",
    "M_CONNECTION_TIMEOUT": "the homeserver's request to us took too long; what answers at the "
    "registration's url?",
    "M_BAD_STATUS": "something other than this Trestle answers at the registration's url, or the "
    "hs_token differs; compare the two files",
}
"""Errcodes of a ping that say that the homeserver answers and its request does not reach us."""

PING_ERRORS = NOT_REACHED | {
    "M_FORBIDDEN": "the homeserver knows this as_token under another id, or not at all; restart "
    "it after changing the registration",
    "M_UNKNOWN_TOKEN": "the homeserver does not know our as_token; name registration.yaml in its "
    "app_service_config_files, and restart it",
}


class Reply(NamedTuple):
    """An answer: the status and the JSON object in it."""

    status: int
    content: dict[str, Any]
    retry_after: float | None = None
    """Seconds that a refusal asks us to wait."""
    items: Sequence[Any] = ()
    """The JSON list, where the answer is one instead."""


class HomeserverAway(TemporaryFailure):
    """The homeserver has not decided on what it was asked: it is away, slow, failing, or busy.

    That says nothing of the database: whatever can do without the answer goes on.
    """


class MatrixError(TrestleError):
    """The homeserver said no, with an errcode (client-server API, "Standard error response")."""

    def __init__(
        self,
        status: int,
        errcode: str,
        message: str,
        retry_after: float | None = None,
        content: Mapping[str, Any] | None = None,
    ) -> None:
        said = f": {message[:200]}" if message else ""
        super().__init__(f"the homeserver answered {status} {errcode}{said}")
        self.status = status
        self.errcode = errcode
        self.message = message
        self.retry_after = retry_after
        self.content = content or {}
        """The whole answer; some errors have fields of their own."""

    @property
    def is_of_token(self) -> bool:
        """Whether it does not know the token just now, which says nothing of what was asked.

        Other words with a 401 are no such thing: ``M_USER_LOCKED`` is about the account
        (MSC3939), and another server's ``M_UNAUTHORIZED`` may be handed through.
        """
        return self.status == 401 and self.errcode in _OF_TOKEN


@lru_cache(1000)
def path(*parts: str) -> str:
    """Spell a path of the client API: each part percent-encoded whole, always the same way."""
    return "/_matrix/client/" + "/".join(map(quoted, parts))


def quoted(part: str) -> str:
    """Spell a part of a path by itself: one that is another each time."""
    return quote(part, safe="")


def event_id_of(reply: Mapping[str, Any]) -> EventId:
    """The id of what was put into a room.

    Raises :class:`HomeserverAway` if there is none: then it was not the homeserver that answered.
    """
    return EventId(_id_in(reply, "event_id"))


def room_id_of(reply: Mapping[str, Any]) -> RoomId:
    """The id of a room that was made or joined. Raises as :func:`event_id_of` does."""
    return RoomId(_id_in(reply, "room_id"))


def _id_in(reply: Mapping[str, Any], name: str) -> str:
    found = reply.get(name)
    if not isinstance(found, str) or not found or "\0" in found:
        raise HomeserverAway(f"the homeserver's answer has no {name}")
    return found


@lru_cache(1000)
def _masquerade(user: UserId, device: str | None) -> str:
    """The query that says as whom, and by which of their devices, something is done."""
    return urlencode({"user_id": user} | ({} if device is None else {"device_id": device}))


def _headers(token: Secret, kind: str | None) -> Headers:
    """What is said with a request; ``kind`` is that of its body, None if it has none."""
    headers = {"Authorization": f"Bearer {token.reveal()}", **_SAID}
    return write_headers(headers if kind is None else headers | {"Content-Type": kind})


class HomeserverClient:
    """Speaks to one homeserver as the appservice. Use it as an async context manager."""

    def __init__(self, url: str, as_token: Secret, *, timeout: float = 40.0) -> None:
        self._url = url.rstrip("/")
        self._token = as_token
        self._timeout = timeout
        self._base = URL(self._url)
        self._prefix = self._base.raw_path.rstrip("/")
        self._connections: Connections | None = None
        self.supports_device_id = True

    async def __aenter__(self) -> "HomeserverClient":
        self._connections = Connections(self._base)
        return self

    async def __aexit__(self, *_: object) -> None:
        connections, self._connections = self._connections, None
        if connections is not None:
            await connections.close()

    async def request(
        self,
        method: str,
        path: str,
        *,
        user: UserId | None = None,
        device: str | None = None,
        query: Mapping[str, str] | None = None,
        content: Mapping[str, Any] | bytes | None = None,
        timeout: float | None = None,
        token: Secret | None = None,
    ) -> dict[str, Any]:
        """Send one request as ``user``; give the JSON object of the answer.

        ``content`` is an object or its bytes; ``token`` is somebody's own, in place of ours.
        Raises :class:`MatrixError` when the homeserver says no, :class:`HomeserverAway` when it is
        away, slow or asks for patience, or when something else than it said no.
        """
        asked = [urlencode(query)] if query else []
        if user is not None:
            asked.append(_masquerade(user, device if self.supports_device_id else None))
        target = f"{path}?{'&'.join(asked)}" if asked else path
        body = content if isinstance(content, bytes | None) else orjson.dumps(content)
        if body is None and method in {"POST", "PUT"}:
            body = b"{}"
        return (await self._send(method, target, body, timeout, token)).content

    async def request_list(
        self, path: str, *, user: UserId, token: Secret | None = None
    ) -> Sequence[Any]:
        """Ask as ``user`` for what is answered by a JSON list. Raises as :meth:`request` does."""
        target = f"{path}?{urlencode({'user_id': user})}"
        return (await self._send("GET", target, None, None, token)).items

    @cached_property
    def _usual_headers(self) -> Headers:
        return _headers(self._token, _JSON)

    async def _send(
        self,
        method: str,
        target: str,
        body: bytes | None,
        timeout: float | None,
        token: Secret | None,
        *,
        kind: str = _JSON,
    ) -> Reply:
        if self._connections is None:
            raise HomeserverAway("the connection to the homeserver is closed")
        if token is None and body is not None and kind == _JSON:
            headers = self._usual_headers
        else:
            headers = _headers(token or self._token, None if body is None else kind)
        place = f"{self._prefix}{target}"
        try:
            answer = await self._connections.ask(
                method, place, headers, body, seconds=timeout or self._timeout
            )
        except (TimeoutError, OSError) as error:
            raise HomeserverAway(
                f"the homeserver cannot be reached: {reason_of(error, self._base.host)}"
            ) from error
        reply = _read(answer)
        if reply.status >= 300:
            raise refusal_of(reply)
        return reply

    async def upload(
        self, content: bytes, kind: str, name: str, *, user: UserId
    ) -> dict[str, Any]:
        """Put something into the media repository. Raises as :meth:`request` does."""
        place = "/_matrix/media/v3/upload?" + urlencode({"filename": name, "user_id": user})
        return (await self._send("POST", place, content, None, None, kind=kind)).content

    # --- questions about the homeserver itself ---

    async def versions(self) -> dict[str, Any]:
        """What the homeserver can do (``GET /_matrix/client/versions``)."""
        return await self.request("GET", path("versions"), timeout=10)

    async def whoami(
        self, user: UserId | None = None, device: str | None = None
    ) -> dict[str, Any]:
        """Whom the homeserver takes us for."""
        return await self.request(
            "GET", path("v3", "account", "whoami"), user=user, device=device, timeout=10
        )

    async def ping(self, appservice_id: str) -> float:
        """Have the homeserver call us; give the milliseconds it took (MSC2659).

        Raises :class:`MatrixError`; :data:`PING_ERRORS` explains each errcode. A good ping makes
        Synapse deliver at once what it holds back.
        """
        reply = await self.request(
            "POST", path("v1", "appservice", appservice_id, "ping"), content={}, timeout=70
        )
        duration = reply.get("duration_ms")
        return float(duration) if isinstance(duration, int | float) else 0.0


def refusal_of(reply: Reply) -> TrestleError:
    """Make the error that an answer other than a success stands for."""
    content = reply.content
    errcode = content.get("errcode")
    errcode = errcode if isinstance(errcode, str) else "M_UNKNOWN"
    message = str(content.get("error", ""))
    error = MatrixError(reply.status, errcode, message, reply.retry_after, content)
    if reply.status == 429 or errcode == "M_LIMIT_EXCEEDED":
        asked = "" if error.retry_after is None else f" for {error.retry_after:g} s"
        return HomeserverAway(
            f"the homeserver asks for patience{asked}", retry_after=error.retry_after
        )
    if reply.status >= 500 and errcode not in PING_ERRORS:
        return HomeserverAway(str(error), retry_after=error.retry_after)
    if 300 <= reply.status < 400:
        return HomeserverAway(
            "the homeserver's URL redirects; put the place it points to into homeserver.url"
        )
    if not isinstance(content.get("errcode"), str) and reply.status not in _TOO_LARGE:
        # Not the homeserver's own word: a firewall's, say, or a proxy's while it restarts.
        failure = HomeserverAway(
            f"something in front of the homeserver answered {reply.status}, without an errcode",
            retry_after=error.retry_after,
        )
        failure.__cause__ = error
        return failure
    return error


def failure_of(error: MatrixError, reason: str = "") -> DeliveryError:
    """What a refusal means for what was to be done; ``reason`` if there is more to say of it."""
    if error.is_of_token:
        return HomeserverAway(str(error))
    if reason:
        return PermanentFailure(reason)
    if error.errcode == "M_TOO_LARGE" or error.status == 413:
        return PermanentFailure("the message is too large for Matrix")
    return PermanentFailure(f"the homeserver refused it: {error.message or error.errcode}")


def heed_token(error: BaseException) -> None:
    """Raise ``HomeserverAway`` for a refusal that is of our token and says nothing of what was
    asked (:attr:`MatrixError.is_of_token`)."""
    if isinstance(error, MatrixError) and error.is_of_token:
        raise HomeserverAway(str(error)) from error


def reason_of(error: Exception, host: str | None) -> str:
    """Why a request did not get through, in words for an admin."""
    match error:
        case socket.gaierror():
            return f"the name {host} is not known"
        case ssl.SSLCertVerificationError():
            return f"its certificate is not trusted: {error}"
        case ssl.SSLError():
            return "there is no TLS behind it; is it http:// instead of https://?"
        case TimeoutError():
            return "no answer in time"
        case OSError() if (number := error.errno or _errno_in(error)) > 0:
            return os.strerror(number)
        case _:
            return (str(error) or type(error).__name__)[:200]


def _errno_in(error: OSError) -> int:
    """The first error's number, where several addresses were tried; 0 if there is none."""
    found = _ERRNO.search(str(error))
    return int(found[1]) if found else 0


def _read(answer: Answer) -> Reply:
    content = read_content(answer.status, answer.body)
    if isinstance(content, list):
        return Reply(answer.status, {}, None, content)
    if answer.status < 300:
        return Reply(answer.status, content)
    return Reply(answer.status, content, _delay_of(content, answer.retry_after, answer.date))


def read_content(status: int, raw: bytes) -> dict[str, Any] | list[Any]:
    """Parse the body of an answer; of a refusal that is no JSON, an empty object.

    Raises :class:`HomeserverAway` for a success that is no JSON.
    """
    try:
        content = orjson.loads(raw) if raw else {}
    except orjson.JSONDecodeError:
        if status < 300:
            raise HomeserverAway("the homeserver's answer is no JSON") from None
        content = {}
    return content if isinstance(content, dict | list) else {}


def _delay_of(content: Mapping[str, Any], header: str | None, date: str | None) -> float | None:
    """Read the delay that is asked for, bounded both ways; None for what is none.

    ``header`` is the answer's ``Retry-After``. Where that is a date (RFC 9110, 10.2.3), it is
    counted from the answer's own ``date``: our clocks may differ.
    """
    delay = content.get("retry_after_ms")
    if isinstance(delay, int | float) and not isinstance(delay, bool):
        seconds = delay / 1000
    elif header is None:
        return None
    elif header.isascii() and header.isdigit():
        seconds = float(header[:9])
    else:
        until, now = _moment(header), _moment(date or "")
        if until is None or now is None:
            return None
        seconds = (until - now).total_seconds()
    return min(max(seconds, _SHORTEST_DELAY), _LONGEST_DELAY)


def _moment(date: str) -> datetime | None:
    """Read a date of HTTP (RFC 9110, 5.6.7); None for what is none."""
    try:
        found = parsedate_to_datetime(date)
    except (ValueError, OverflowError):
        return None
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)
