"""Kept connections to one HTTP/1.1 server, for many small requests (RFC 9112).

Every message into Matrix is a request of its own. A client library for all of HTTP spends longer
on each than the homeserver takes to answer, so this does the little that is needed: a request is
one write, an answer is read by httptools' parser. (docs/adr/0012 says why.)
"""

import asyncio
import ssl
from collections.abc import Mapping
from math import inf
from typing import NamedTuple, NewType, cast

import httptools
from yarl import URL

from bridge.slots import Slots

_MOST = 64
"""Connections at once."""
_IDLE_SECONDS = 15.0
"""A connection that rested longer is not used again: the server may be about to close it."""
_CONNECT_SECONDS = 10.0
_SECONDS = 40.0
"""For all that a request takes, if nothing else is said."""
_PRECISION = 0.001
"""Of the loop's timers, in seconds."""
_LARGEST = 256 * 1024 * 1024
"""Bytes of an answer."""


Headers = NewType("Headers", str)
"""Whole lines of a request, made once for all requests that have them."""

NO_HEADERS = Headers("")


def write_headers(headers: Mapping[str, str]) -> Headers:
    """Write them. Raises ``ValueError`` for what would be more than so many lines."""
    lines = list(map(": ".join, headers.items()))
    _refuse_breaks("".join(lines))
    return Headers("".join(f"{line}\r\n" for line in lines))


class Answer(NamedTuple):
    """What the server answered."""

    status: int
    retry_after: str | None
    """This and ``date`` are the headers of these names."""
    date: str | None
    body: bytes


class NoAnswerError(OSError):
    """What came is no answer: the server hung up, or does not speak HTTP."""


class HungUpError(NoAnswerError):
    """The server hung up without a word; it may not even have seen the request."""


class Connections:
    """Connections to the server of one URL. Close it in the end."""

    def __init__(self, url: URL, *, idle_seconds: float = _IDLE_SECONDS) -> None:
        """A connection that rested for ``idle_seconds`` is not used again."""
        self._idle_seconds = idle_seconds
        self.made = 0
        """How many connections were made so far."""
        self._url = url
        self._host = cast(str, url.raw_host)
        self._tls = ssl.create_default_context() if url.scheme == "https" else None
        self._host_line = write_headers({"Host": url.raw_authority.rpartition("@")[2]})
        self._idle: list[_Connection] = []
        self._busy: set[_Connection] = set()
        self._slots = Slots(_MOST)
        self._looks_at = inf
        """When the first of those that are busy takes too long, or before that; a time of the
        loop, which has ``_next_look``."""
        self._next_look: asyncio.Handle | None = None

    async def ask(
        self, method: str, target: str, headers: Headers, body: bytes | None,
        *, seconds: float = _SECONDS,
    ) -> Answer:  # fmt: skip
        """Send one request; give the answer whatever its status. No redirect is followed.

        ``target`` is the encoded path with its query. Raises ``OSError`` if the server cannot be
        reached (``ssl.SSLError`` for its certificate), :class:`NoAnswerError` if what comes is
        none, and ``TimeoutError`` if connecting takes too long, or all of it more than
        ``seconds``. A request that may safely be repeated is sent once more if a kept connection
        turns out to have been closed.
        """
        until = asyncio.get_running_loop().time() + seconds
        request = _encode(method, target, self._host_line + headers, body)
        # As a rule there is one: a timeout costs as much as all else that is done for a request.
        if self._slots.is_any_free:
            await self._slots.take()
        else:
            await self._wait_for_slot(until)
        try:
            connection = self._take()
            if connection is not None and method != "POST":
                try:
                    return await self._ask(connection, request, until)
                except HungUpError:
                    connection = None
            return await self._ask(connection or await self._connect(until), request, until)
        finally:
            self._slots.give()

    async def close(self) -> None:
        """Hang up."""
        for connection in (*self._idle, *self._busy):
            connection.hang_up()
        self._idle.clear()
        if self._next_look is not None:
            self._next_look.cancel()
            self._next_look, self._looks_at = None, inf

    async def _wait_for_slot(self, until: float) -> None:
        async with asyncio.timeout_at(until):
            await self._slots.take()

    def _take(self) -> "_Connection | None":
        now = asyncio.get_running_loop().time()
        while self._idle:
            connection = self._idle.pop()
            if connection.is_open and now - connection.idle_since < self._idle_seconds:
                return connection
            connection.hang_up()
        return None

    async def _connect(self, until: float) -> "_Connection":
        loop = asyncio.get_running_loop()
        port = cast(int, self._url.port)  # Of a URL with http or https it is known.
        async with asyncio.timeout_at(min(until, loop.time() + _CONNECT_SECONDS)):
            _, made = await loop.create_connection(
                _Connection, self._host, port, ssl=self._tls,
                server_hostname=self._host if self._tls else None,
            )  # fmt: skip
        self.made += 1
        return made

    async def _ask(self, connection: "_Connection", request: bytes, until: float) -> Answer:
        self._busy.add(connection)
        try:
            self._look_by(until)
            answer = await connection.ask(request, until)
        except BaseException:
            # What comes later on this connection would be taken for the next answer.
            connection.hang_up()
            raise
        finally:
            self._busy.discard(connection)
        if connection.is_open:
            connection.idle_since = asyncio.get_running_loop().time()
            self._idle.append(connection)
        return answer

    def _look_by(self, until: float) -> None:
        """Look for those that take too long at that time of the loop, or before it."""
        # One timer for all: one for each costs more than to write its request.
        if until < self._looks_at:
            if self._next_look is not None:
                self._next_look.cancel()
            self._looks_at = until
            self._next_look = asyncio.get_running_loop().call_at(until, self._fail_late)

    def _fail_late(self) -> None:
        self._next_look, self._looks_at = None, inf
        now = asyncio.get_running_loop().time() + _PRECISION
        late = [connection for connection in self._busy if connection.until <= now]
        for connection in late:
            connection.fail(TimeoutError())
        rest = min((one.until for one in self._busy if one.until > now), default=None)
        if rest is not None:
            self._look_by(rest)


def _encode(method: str, target: str, headers: str, body: bytes | None) -> bytes:
    """Write a request; ``headers`` are whole lines. Raises ``ValueError`` for what would be more
    than one request."""
    _refuse_breaks(method + target)
    if " " in target:
        raise ValueError("a request holds what would break its lines")
    head = f"{method} {target} HTTP/1.1\r\n{headers}"
    if body is None:
        return f"{head}\r\n".encode("ascii")
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode("ascii") + body


def _refuse_breaks(said: str) -> None:
    if not said.isascii() or not said.isprintable():
        raise ValueError("a request holds what would break its lines")


class _Connection(asyncio.Protocol):
    """One request at a time, then its answer."""

    def __init__(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self._transport: asyncio.Transport | None = None
        self._waiter: asyncio.Future[Answer] | None = None
        self._begin()
        self.is_open = False
        self.idle_since = 0.0
        self.until = 0.0
        """Until when it may take to answer, by the loop's time."""

    def _begin(self) -> None:
        self._retry_after: str | None = None
        self._date: str | None = None
        self._body: list[bytes] = []
        self._size = 0
        self._heard = False
        self._has_length = False
        self._head_is_whole = False

    def ask(self, request: bytes, until: float) -> "asyncio.Future[Answer]":
        """Send it; gives what the answer will be, or a :class:`NoAnswerError`.

        Whoever watches over :attr:`until` has it :meth:`fail` by then. Raises
        :class:`HungUpError`.
        """
        if self._transport is None or not self.is_open:
            raise HungUpError("it hung up")
        self._begin()
        self._waiter, self.until = asyncio.get_running_loop().create_future(), until
        self._transport.write(request)
        return self._waiter

    def hang_up(self) -> None:
        """Close it; nothing is waited for."""
        self.is_open = False
        if self._transport is not None:
            self._transport.abort()

    def fail(self, error: OSError) -> None:
        """Have what was asked end with the error, and hang up."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(error)
        self.hang_up()

    # --- what the transport tells ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self.is_open = True

    def data_received(self, data: bytes) -> None:
        self._heard = True
        self._size += len(data)
        if self._waiter is None or self._waiter.done() or self._size > _LARGEST:
            # Nothing was asked, or too much is said.
            self.fail(NoAnswerError("its answer is too large"))
            return
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self.fail(NoAnswerError("its answer is no HTTP"))

    def eof_received(self) -> None:
        self.is_open = False

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_open = False
        if self._head_is_whole and not self._has_length and exc is None:
            self._finish()  # An old server says by closing that this was all.
        self.fail((NoAnswerError if self._heard else HungUpError)("it hung up"))

    # --- what the parser tells ---

    def on_message_begin(self) -> None:
        if self._waiter is None or self._waiter.done():
            self.hang_up()  # It would be taken for a part of the next answer.

    def on_header(self, name: bytes, value: bytes) -> None:
        match name.lower():
            case b"retry-after":
                self._retry_after = value.decode("latin-1")
            case b"date":
                self._date = value.decode("latin-1")
            case b"content-length" | b"transfer-encoding":
                self._has_length = True

    def on_headers_complete(self) -> None:
        self._head_is_whole = self._parser.get_status_code() >= 200

    def on_body(self, body: bytes) -> None:
        self._body.append(body)

    def on_message_complete(self) -> None:
        if self._parser.get_status_code() < 200:
            self._begin()  # Only the word that the answer is coming.
            return
        if not self._parser.should_keep_alive():
            self.is_open = False
        self._finish()

    def _finish(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            status, body = self._parser.get_status_code(), b"".join(self._body)
            self._waiter.set_result(Answer(status, self._retry_after, self._date, body))
        if not self.is_open and self._transport is not None:
            self._transport.close()
