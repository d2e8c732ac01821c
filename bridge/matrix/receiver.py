"""The door for the homeserver: the appservice API, on a listener of its own.

Implements the application service API of the Matrix specification (transactions, ping, queries,
third-party networks), also under its legacy and unstable paths. The token is checked before a
byte of the body is read. Answers other than 2xx are given only for a bad token, a body that is
no transaction, or a database that is away: anything else would stop the homeserver's queue.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol
from urllib.parse import unquote

import orjson
from aiohttp import HttpVersion11, web
from aiohttp.web_request import BaseRequest

from bridge.matrix.authorization import Authorization
from bridge.matrix.body import Unreadable, parse_transaction, read_object
from bridge.matrix.listener import JSON, Done, Listener, answer_error, cannot_listen
from bridge.model import Transaction
from bridge.sdk.errors import TemporaryFailure, TrestleError
from bridge.settings import Address, AppserviceSettings
from bridge.telemetry import Telemetry

log = logging.getLogger(__name__)

_QUERY_LIMIT = 4.5
"""Seconds for an answer to a query: the homeserver's own queue stands still meanwhile."""

_READ_FIRST = {404, 405, 413, 415}
"""Refusals of the homeserver's own requests, which it should see rather than a broken pipe."""

_DROP_LIMIT = 10.0
"""Seconds for reading a body that is dropped."""

_THREAD_FROM = 1024 * 1024
_TRANSACTIONS = "/_matrix/app/v1/transactions"
_RETRY_AFTER = {"Retry-After": "2"}


class Intake(Protocol):
    """Where transactions go."""

    async def accept(self, transaction: Transaction) -> None:
        """Store it; returns after the commit, raises ``TemporaryFailure`` if it cannot."""
        ...


class Answers(Protocol):
    """Who answers the homeserver's questions."""

    async def knows_user(self, user_id: str) -> bool: ...
    async def knows_alias(self, alias: str) -> bool: ...
    def protocol(self, name: str) -> dict[str, Any] | None: ...
    async def find_users(
        self, protocol: str, fields: Mapping[str, str]
    ) -> list[dict[str, Any]]: ...
    async def find_locations(
        self, protocol: str, fields: Mapping[str, str]
    ) -> list[dict[str, Any]]: ...
    async def read_user(self, user_id: str) -> list[dict[str, Any]]: ...
    async def read_location(self, alias: str) -> list[dict[str, Any]]: ...


class Refused(TrestleError):
    """An answer that is an error (client-server API, "Standard error response")."""

    def __init__(
        self, status: int, errcode: str, reason: str, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(reason)
        self.status = status
        self.errcode = errcode
        self.headers = headers or {}


class _Incomplete(Refused):
    """The body did not arrive whole; the homeserver knows that and repeats it."""


Handler = Callable[[BaseRequest, tuple[str, ...]], Awaitable[Any]]


class Receiver:
    """An HTTP server for one homeserver."""

    def __init__(
        self,
        settings: AppserviceSettings,
        intake: Intake,
        answers: Answers,
        telemetry: Telemetry,
        *,
        body_limit: float = 60.0,
        idle_limit: float = 300.0,
    ) -> None:
        """``body_limit`` seconds has a body to arrive, ``idle_limit`` the next request's head.

        Homeservers keep idle connections too (Synapse for two minutes): ours is the longer wait,
        so that none is closed under a request on its way.
        """
        self._body_limit = body_limit
        self._idle_limit = idle_limit
        self._settings = settings
        self._intake = intake
        self._answers = answers
        self._telemetry = telemetry
        self._authorization = Authorization(
            settings.hs_tokens, legacy_query=settings.legacy_query_token
        )
        self._runner: web.ServerRunner | None = None
        self._warned_at = -60.0
        self.address = settings.listen
        self.turned_away = False
        """A transaction was refused that would be taken later."""
        self._seconds = telemetry.acknowledge_seconds

    async def start(self) -> None:
        """Listen. Raises ``ConfigError`` when the address is taken."""
        self._runner = web.ServerRunner(
            Listener(self._serve, self._idle_limit), handle_signals=False, shutdown_timeout=5
        )
        await self._runner.setup()
        host, port = self._settings.listen
        site = web.TCPSite(self._runner, host, port, reuse_address=True)
        try:
            await site.start()
        except OSError as error:
            await self.stop()
            raise cannot_listen(self._settings.listen, error, "appservice.listen") from error
        self.address = Address(*self._runner.addresses[0][:2])

    async def stop(self) -> None:
        """Stop listening; requests under way are answered."""
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()

    # --- every request ---

    async def _serve(self, request: BaseRequest) -> web.StreamResponse:
        began = time.perf_counter()
        try:
            self._authorize(request)
            handler, arguments = self._route(request)
            answer = await handler(request, arguments)
        except Refused as error:
            return await self._refusal(request, error)
        except Unreadable as error:
            return await self._refusal(request, Refused(error.status, error.errcode, str(error)))
        if handler == self._transaction:
            self._seconds.observe(time.perf_counter() - began)
        if answer is None and request.keep_alive:
            return Done()
        return web.Response(body=b"{}" if answer is None else orjson.dumps(answer), headers=JSON)

    async def _refusal(self, request: BaseRequest, error: Refused) -> web.Response:
        if error.status in _READ_FIRST:
            await _drop_body(request)
        # What was not read is not waited for either.
        is_read = not request.body_exists or request.content.is_eof()
        return answer_error(
            error.status, error.errcode, str(error), close=not is_read, **error.headers
        )

    def _authorize(self, request: BaseRequest) -> None:
        # Most requests have no query; parsing the URL for it would cost more than all the rest.
        query = request.query.get("access_token") if "?" in request.raw_path else None
        refusal = self._authorization.check(request.headers.getall("Authorization", ()), query)
        if refusal is None:
            return
        self._telemetry.auth_failures.inc()
        self._telemetry.transactions.labels(outcome="refused").inc()
        now = time.monotonic()
        if now - self._warned_at > 60:
            self._warned_at = now
            log.warning(
                "a request with a wrong token, or none, from %s; more like it are counted only",
                request.remote, extra={"event": "token_refused"},
            )  # fmt: skip
        raise Refused(refusal.status, refusal.errcode, refusal.reason)

    def _route(self, request: BaseRequest) -> tuple[Handler, tuple[str, ...]]:
        """Find what a path means. The raw path is cut, so that an encoded slash stays inside."""
        start, _, last = request.raw_path.rpartition("/")
        if start == _TRANSACTIONS and last.isalnum() and request.method == "PUT":
            return self._transaction, (last,)  # Nearly all requests are this one.
        parts = request.raw_path.partition("?")[0].split("/")[1:]
        if parts[:2] == ["_matrix", "app"]:
            version, parts = parts[2:3], parts[3:]
            if version not in (["v1"], ["unstable"]):
                raise _unrecognized()
            if version == ["unstable"] and parts[:1] != ["thirdparty"]:
                raise _unrecognized()
        elif parts[:1] == ["thirdparty"] or parts[:1] == ["ping"]:
            raise _unrecognized()  # These never had legacy paths.
        found = self._find(parts)
        if found is None:
            raise _unrecognized()
        method, handler, arguments = found
        if request.method != method:
            raise Refused(
                405, "M_UNRECOGNIZED", f"Only {method} is understood here.", {"Allow": method}
            )
        return handler, tuple(unquote(part) for part in arguments)

    def _find(self, parts: list[str]) -> tuple[str, Handler, list[str]] | None:
        match parts:
            case ["transactions", transaction_id] if transaction_id:
                return "PUT", self._transaction, [transaction_id]
            case ["users", user_id] if user_id:
                return "GET", self._user, [user_id]
            case ["rooms", alias] if alias:
                return "GET", self._alias, [alias]
            case ["ping"]:
                return "POST", self._ping, []
            case ["thirdparty", "protocol", name] if name:
                return "GET", self._protocol, [name]
            case ["thirdparty", ("user" | "location") as what, name] if name:
                return "GET", self._lookup, [what, name]
            case ["thirdparty", ("user" | "location") as what]:
                return "GET", self._reverse_lookup, [what]
        return None

    # --- what is asked ---

    async def _transaction(self, request: BaseRequest, arguments: tuple[str, ...]) -> None:
        try:
            body = await self._body(request)
            if len(body) < _THREAD_FROM:
                transaction = parse_transaction(body, arguments[0])
            else:
                transaction = await asyncio.to_thread(parse_transaction, body, arguments[0])
        except _Incomplete as error:
            log.info("a transaction is cut short: %s", error, extra={"event": "body_cut_short"})
            raise
        except (Unreadable, Refused) as error:
            self._telemetry.transactions.labels(outcome="unreadable").inc()
            log.error(
                "the homeserver sent what is no transaction, and will repeat it: %s", error,
                extra={"event": "transaction_unreadable"},
            )  # fmt: skip
            raise
        try:
            await self._intake.accept(transaction)
        except TemporaryFailure as error:
            self.turned_away = True
            self._telemetry.transactions.labels(outcome="unavailable").inc()
            raise Refused(503, "M_UNKNOWN", str(error), _RETRY_AFTER) from error

    async def _body(self, request: BaseRequest) -> bytes:
        limit = self._settings.max_body_bytes
        if request.headers.get("Content-Encoding", "identity").lower() != "identity":
            raise Refused(
                415, "M_UNKNOWN", "Compressed bodies are not understood; no homeserver sends them."
            )
        if (request.content_length or 0) > limit:
            raise _too_large(limit)
        if request.content.is_eof():
            return request.content.read_nowait()
        await _let_go_on(request)
        chunks: list[bytes] = []
        size = 0
        try:
            async with asyncio.timeout(self._body_limit):
                async for chunk in request.content.iter_any():
                    size += len(chunk)
                    if size > limit:
                        raise _too_large(limit)
                    chunks.append(chunk)
        except TimeoutError as error:
            raise _Incomplete(408, "M_UNKNOWN", "The body took too long to arrive.") from error
        except (web.RequestPayloadError, OSError) as error:
            raise _Incomplete(400, "M_NOT_JSON", "The body broke off.") from error
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    async def _ping(self, request: BaseRequest, arguments: tuple[str, ...]) -> None:
        read_object(await self._body(request))

    async def _user(self, request: BaseRequest, arguments: tuple[str, ...]) -> None:
        if not await _limited(self._answers.knows_user(arguments[0]), False):
            raise Refused(404, "M_NOT_FOUND", "There is no such user here.")

    async def _alias(self, request: BaseRequest, arguments: tuple[str, ...]) -> None:
        if not await _limited(self._answers.knows_alias(arguments[0]), False):
            raise Refused(404, "M_NOT_FOUND", "There is no such room here.")

    async def _protocol(self, request: BaseRequest, arguments: tuple[str, ...]) -> Any:
        protocol = self._answers.protocol(arguments[0])
        if protocol is None:
            raise _no_protocol()
        return protocol

    async def _lookup(self, request: BaseRequest, arguments: tuple[str, ...]) -> Any:
        what, name = arguments
        if self._answers.protocol(name) is None:
            raise _no_protocol()
        fields = {key: value[:1000] for key, value in request.query.items()}
        ask = self._answers.find_users if what == "user" else self._answers.find_locations
        return await _limited(ask(name, fields), [])

    async def _reverse_lookup(self, request: BaseRequest, arguments: tuple[str, ...]) -> Any:
        if arguments[0] == "user":
            found = await _limited(self._answers.read_user(request.query.get("userid", "")), [])
        else:
            found = await _limited(self._answers.read_location(request.query.get("alias", "")), [])
        if not found:
            raise Refused(404, "M_NOT_FOUND", "That is none of ours.")
        return found


async def _drop_body(request: BaseRequest) -> None:
    """Read what is left of a body that nobody wants: who is still sending may miss the answer."""
    if "Expect" in request.headers:
        return  # It is not being sent: we were asked first.
    try:
        async with asyncio.timeout(_DROP_LIMIT):
            async for _ in request.content.iter_any():
                pass
    except (TimeoutError, web.RequestPayloadError, OSError):
        return


async def _let_go_on(request: BaseRequest) -> None:
    """Tell a client that asks first to send its body (RFC 9110, 10.1.1)."""
    expectation = request.headers.get("Expect")
    if expectation is None:
        return
    if expectation.lower() != "100-continue":
        raise Refused(417, "M_UNKNOWN", "Only 100-continue may be expected of us.")
    if request.version >= HttpVersion11:
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0  # The answer has not begun by that.


async def _limited(question: Awaitable[Any], otherwise: Any) -> Any:
    """Answer in time: a homeserver that waits for us holds up everybody."""
    try:
        async with asyncio.timeout(_QUERY_LIMIT):
            return await question
    except (TimeoutError, TrestleError) as error:
        log.warning("a question is left open: %s", error, extra={"event": "query_failed"})
        return otherwise
    except Exception as error:
        log.error("a question failed", exc_info=error, extra={"event": "query_failed"})
        return otherwise


def _unrecognized() -> Refused:
    return Refused(404, "M_UNRECOGNIZED", "There is nothing at this path.")


def _no_protocol() -> Refused:
    return Refused(404, "M_NOT_FOUND", "No network here speaks that protocol.")


def _too_large(limit: int) -> Refused:
    return Refused(413, "M_TOO_LARGE", f"The body is longer than {limit} bytes.")
