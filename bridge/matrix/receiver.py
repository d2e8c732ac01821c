"""The door for the homeserver: the appservice API, on a listener of its own.

Implements the application service API of the Matrix specification (transactions, ping, queries,
third-party networks), also under its legacy and unstable paths. The token is checked before a
byte of the body is read. Answers other than 2xx are given only for a bad token, a body that is
no transaction, or a database that is away: anything else would stop the homeserver's queue.
"""

import asyncio
import logging
import math
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any, Protocol, TypeVar
from urllib.parse import unquote

import orjson

from bridge.matrix.answer import DONE, Answer, answer_error
from bridge.matrix.authorization import Authorization
from bridge.matrix.body import Unreadable, parse_transaction, read_object
from bridge.matrix.client import reason_of
from bridge.matrix.listener import BrokenOff, Listener, Request, cannot_listen
from bridge.model import Transaction
from bridge.sdk.errors import TemporaryFailure, TrestleError
from bridge.settings.records import AppserviceSettings
from bridge.telemetry import Telemetry

log = logging.getLogger(__name__)

_T = TypeVar("_T")

_QUERY_LIMIT = 4.5
"""Seconds for an answer to a query: the homeserver's own queue stands still meanwhile."""

_READ_FIRST = {404, 405, 413, 415}
"""Refusals of the homeserver's own requests, which it should see rather than a broken pipe."""

_DROP_LIMIT = 10.0
"""Seconds for reading a body that is dropped."""

_THREAD_FROM = 1024 * 1024
_TRANSACTIONS = "/_matrix/app/v1/transactions"
_RETRY_AFTER = {"Retry-After": "2"}
_NONE = b"[]"
_CHARSET = re.compile(r"charset\s*=\s*[\"']?([^\s;\"']*)", re.IGNORECASE)


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


Handler = Callable[[Request, tuple[str, ...]], Awaitable[bytes | None]]
"""Answers one kind of request: with JSON, or with nothing to say."""


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
        """A body has ``body_limit`` seconds to arrive, the next request's head ``idle_limit``.

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
        self._listener: Listener | None = None
        self._warned_at = -60.0
        self.address = settings.listen
        self.turned_away = False
        """A transaction was refused that would be taken later."""
        self._taken_at = self._refused_at = -math.inf
        self._seconds = telemetry.acknowledge_seconds

    async def start(self) -> None:
        """Listen. Raises ``ConfigError`` when the address is taken."""
        listener = Listener(self._serve, self._idle_limit)
        try:
            self.address = await listener.start(self._settings.listen)
        except OSError as error:
            raise cannot_listen(self._settings.listen, error, "appservice.listen") from error
        self._listener = listener

    async def stop(self, limit: float = 3.0) -> None:
        """Stop listening; requests under way have ``limit`` seconds to be answered."""
        listener, self._listener = self._listener, None
        if listener is not None:
            await listener.stop(limit)

    def is_fed(self, seconds: float) -> bool:
        """Whether a transaction was taken within ``seconds``, and none was refused since."""
        return self._taken_at > max(self._refused_at, time.monotonic() - seconds)

    # --- every request ---

    async def _serve(self, request: Request) -> Answer:
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
        return DONE if answer is None else Answer(body=answer)

    async def _refusal(self, request: Request, error: Refused) -> Answer:
        if error.status in _READ_FIRST:
            await _drop_body(request)
        # What was not read is not waited for either.
        return answer_error(
            error.status, error.errcode, str(error), closes=not request.is_whole,
            headers=error.headers,
        )  # fmt: skip

    def _authorize(self, request: Request) -> None:
        # Most requests have no query; parsing the URL for it would cost more than all the rest.
        query = _parameter(request, "access_token") if "?" in request.target else None
        refusal = self._authorization.check(request.all_headers("authorization"), query)
        if refusal is None:
            return
        self._telemetry.auth_failures.inc()
        self._telemetry.transactions.labels(outcome="refused").inc()
        now = time.monotonic()
        if now - self._warned_at > 60:
            self._warned_at = now
            log.warning(
                "a request with a wrong token, or none, from %s; more like it are counted only",
                request.peer, extra={"event": "token_refused"},
            )  # fmt: skip
        raise Refused(refusal.status, refusal.errcode, refusal.reason)

    def _route(self, request: Request) -> tuple[Handler, tuple[str, ...]]:
        """Find what a path means. The raw path is cut, so that an encoded slash stays inside."""
        start, _, last = request.target.rpartition("/")
        if start == _TRANSACTIONS and last.isalnum() and request.method == "PUT":
            return self._transaction, (last,)  # Nearly all requests are this one.
        parts = request.target.partition("?")[0].split("/")[1:]
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

    async def _transaction(self, request: Request, arguments: tuple[str, ...]) -> None:
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
            raise self._unavailable(str(error)) from error
        except Exception as error:
            # An error of the database that we do not know, say. Nothing is lost: it is repeated.
            log.error("a transaction is not stored", exc_info=error,
                      extra={"event": "not_landed"})  # fmt: skip
            raise self._unavailable("Trestle failed at storing it; its log says more.") from error
        if transaction.events:
            self._taken_at = time.monotonic()

    def _unavailable(self, reason: str) -> Refused:
        self.turned_away = True
        self._refused_at = time.monotonic()
        self._telemetry.transactions.labels(outcome="unavailable").inc()
        return Refused(503, "M_UNKNOWN", reason, _RETRY_AFTER)

    async def _body(self, request: Request) -> bytes:
        limit = self._settings.max_body_bytes
        _check_form(request)
        if request.length > limit:
            raise _too_large(limit)
        if request.is_whole:
            return request.take()
        _let_go_on(request)
        chunks: list[bytes] = []
        size = 0
        try:
            async with asyncio.timeout(self._body_limit):
                async for chunk in request.pieces():
                    size += len(chunk)
                    if size > limit:
                        raise _too_large(limit)
                    chunks.append(chunk)
        except TimeoutError as error:
            raise _Incomplete(408, "M_UNKNOWN", "The body took too long to arrive.") from error
        except OSError as error:
            raise _Incomplete(400, "M_NOT_JSON", "The body broke off.") from error
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    async def _ping(self, request: Request, arguments: tuple[str, ...]) -> None:
        read_object(await self._body(request))

    async def _user(self, request: Request, arguments: tuple[str, ...]) -> None:
        if not await _limited(self._answers.knows_user(arguments[0]), False):
            raise Refused(404, "M_NOT_FOUND", "There is no such user here.")

    async def _alias(self, request: Request, arguments: tuple[str, ...]) -> None:
        if not await _limited(self._answers.knows_alias(arguments[0]), False):
            raise Refused(404, "M_NOT_FOUND", "There is no such room here.")

    async def _protocol(self, request: Request, arguments: tuple[str, ...]) -> bytes:
        protocol = self._answers.protocol(arguments[0])
        if protocol is None:
            raise _no_protocol()
        return orjson.dumps(protocol)

    async def _lookup(self, request: Request, arguments: tuple[str, ...]) -> bytes:
        what, name = arguments
        if self._answers.protocol(name) is None:
            raise _no_protocol()
        fields = {key: value[:1000] for key, value in request.query}
        ask = self._answers.find_users if what == "user" else self._answers.find_locations
        return await _limited(_written(ask(name, fields)), _NONE)

    async def _reverse_lookup(self, request: Request, arguments: tuple[str, ...]) -> bytes:
        if arguments[0] == "user":
            question = self._answers.read_user(_parameter(request, "userid") or "")
        else:
            question = self._answers.read_location(_parameter(request, "alias") or "")
        found = await _limited(_written(question), _NONE)
        if found == _NONE:
            raise Refused(404, "M_NOT_FOUND", "That is none of ours.")
        return found


def _parameter(request: Request, name: str) -> str | None:
    """The first parameter of that name in the query."""
    return next((value for key, value in request.query if key == name), None)


async def _drop_body(request: Request) -> None:
    """Read the rest of a body that nobody wants: whoever still sends may miss the answer."""
    if request.header("expect") is not None:
        return  # It is not being sent: we were asked first.
    with suppress(TimeoutError, BrokenOff):
        async with asyncio.timeout(_DROP_LIMIT):
            async for _ in request.pieces():
                pass


def _let_go_on(request: Request) -> None:
    expectation = request.header("expect")
    if expectation is None:
        return
    if expectation.lower() != "100-continue":
        raise Refused(417, "M_UNKNOWN", "Only 100-continue may be expected of us.")
    if request.may_wait:
        request.let_go_on()


def _check_form(request: Request) -> None:
    """Refuse a body in a form that is none of JSON's (RFC 8259, 8.1)."""
    if any(value.lower() != "identity" for value in request.all_headers("content-encoding")):
        raise Refused(
            415, "M_UNKNOWN", "Compressed bodies are not understood; no homeserver sends them."
        )
    for value in request.all_headers("content-type"):
        if (charset := _CHARSET.search(value)) is not None:
            _check_charset(charset[1])


def _check_charset(charset: str) -> None:
    if charset.lower() not in {"utf-8", "utf8", "us-ascii"}:
        raise Refused(400, "M_NOT_JSON", "The body is not in UTF-8, as JSON is.")


async def _written(question: Awaitable[list[dict[str, Any]]]) -> bytes:
    return orjson.dumps(await question)


async def _limited(question: Awaitable[_T], otherwise: _T) -> _T:
    """Answer in time: a homeserver that waits for us holds up everybody."""
    try:
        async with asyncio.timeout(_QUERY_LIMIT):
            return await question
    except (TimeoutError, TrestleError) as error:
        why = reason_of(error, None)
        log.warning("a question is left open: %s", why, extra={"event": "query_failed"})
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
