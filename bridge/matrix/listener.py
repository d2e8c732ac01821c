"""The HTTP/1.1 server under our own doors (RFC 9112): for few clients, which ask often.

What is no HTTP gets the JSON error that Matrix asks for, and no line in the log quotes it:
strangers can send it. httptools' parser reads what comes (docs/adr/0013 says why so little).
"""

import asyncio
import errno
import logging
import os
import socket
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from pathlib import Path
from urllib.parse import parse_qsl

import httptools

from bridge.matrix.answer import Answer, answer_error, encode
from bridge.sdk.errors import ConfigError
from bridge.settings.records import Address

log = logging.getLogger(__name__)

_LONGEST_LINE = 16384
"""Bytes of a request's first line, and of a header."""
_LONGEST_HEAD = 65536
_READ_BYTES = 65536
_WRITE_SECONDS = 60.0
_STUBBORN = 1.0
"""Seconds in which a request that is told to end must do so."""
_MOST = 256
"""Connections at a time; a homeserver needs a few."""
_MOST_AHEAD, _PIECE = 64, 2048
"""Input that holds more than so many requests is read in pieces of so many bytes."""


class BrokenOff(OSError):
    """A body does not arrive whole."""


class Request:
    """One request, whose body may still be on its way."""

    def __init__(self, conversation: "_Conversation", method: str, target: str) -> None:
        self._conversation = conversation
        self._parts: list[bytes] = []
        self.method = method
        self.target = target
        """Path and query as they came, encoded."""
        self.raw_headers: list[tuple[bytes, bytes]] = []
        """Names in small letters. Few are ever read, so each is decoded when it is."""
        self.keeps_alive = False
        """More requests may follow on this connection."""
        self.may_wait = False
        """It is of a version that knows ``Expect``."""
        self.is_whole = False
        """All of the body is here."""

    def header(self, name: str) -> str | None:
        """The first header of that name (in small letters)."""
        return next(iter(self.all_headers(name)), None)

    def all_headers(self, name: str) -> list[str]:
        """All headers of that name (in small letters)."""
        wanted = name.encode()
        return [_read_text(value) for key, value in self.raw_headers if key == wanted]

    @property
    def query(self) -> list[tuple[str, str]]:
        """The parameters, in order."""
        query = self.target.partition("#")[0].partition("?")[2]
        return parse_qsl(query, keep_blank_values=True, errors="replace")

    @property
    def peer(self) -> str:
        """The address of whoever asks."""
        return self._conversation.peer

    @property
    def length(self) -> int:
        """Bytes of the body as announced; 0 if they are not."""
        length = self.header("content-length")
        return int(length) if length is not None else 0

    def take(self) -> bytes:
        """What has come of the body since."""
        parts, self._parts = self._parts, []
        return parts[0] if len(parts) == 1 else b"".join(parts)

    async def pieces(self) -> AsyncIterator[bytes]:
        """The body as it comes. Raises :class:`BrokenOff`; the wait is the caller's to limit."""
        while True:
            if self._parts:
                yield self.take()
            elif self.is_whole:
                return
            else:
                await self._conversation.hear_more()

    def let_go_on(self) -> None:
        """Tell a client that asks first to send its body (RFC 9110, 10.1.1)."""
        self._conversation.say(b"HTTP/1.1 100 Continue\r\n\r\n")

    def add(self, part: bytes) -> None:
        """Take the next piece of the body."""
        self._parts.append(part)


Handler = Callable[[Request], Awaitable[Answer]]


class Listener:
    """Takes connections and answers each request by ``handler``.

    A connection may rest for ``idle_limit`` seconds; a request's head has ``head_limit`` seconds
    to arrive once it has begun. ``name`` is what the log calls the listener.
    """

    def __init__(
        self, handler: Handler, idle_limit: float, *, head_limit: float = 30.0,
        name: str = "appservice",
    ) -> None:  # fmt: skip
        self._name = name
        self.handler = handler
        self.idle_limit = idle_limit
        self.head_limit = head_limit
        self.is_stopping = False
        self._warned_at = -60.0
        self._server: asyncio.Server | None = None
        self._conversations: dict[_Conversation, asyncio.Task[None] | None] = {}

    async def start(self, address: Address) -> Address:
        """Listen; returns where. Raises ``OSError``."""
        self._server = await asyncio.start_server(
            self._converse, *address, reuse_address=True, limit=_READ_BYTES
        )
        return Address(*self._server.sockets[0].getsockname()[:2])

    async def start_at(self, place: Path) -> None:
        """Listen on a socket that is made there, for nobody but us. Raises ``OSError``."""
        own = socket.socket(socket.AF_UNIX)
        try:
            before = os.umask(0o177)
            try:
                own.bind(str(place))
            finally:
                os.umask(before)
            self._server = await asyncio.start_unix_server(
                self._converse, sock=own, limit=_READ_BYTES
            )
        except BaseException:
            own.close()
            raise

    async def stop(self, limit: float) -> None:
        """Listen no more; requests under way have ``limit`` seconds to be answered."""
        self.is_stopping = True
        if self._server is not None:
            await self._close(self._server)
        for conversation in list(self._conversations):
            conversation.end_if_idle()
        tasks = [task for task in self._conversations.values() if task is not None]
        if not tasks:
            return
        _, late = await asyncio.wait(tasks, timeout=limit)
        for task in late:
            task.cancel()
        if late:
            await asyncio.wait(late, timeout=_STUBBORN)

    @staticmethod
    async def _close(server: asyncio.Server) -> None:
        # What was taken in this very turn of the loop would find its server closed, and stay open
        # with nobody to see to it. One more turn, in which no more is taken, has it in our hands.
        loop = asyncio.get_running_loop()
        for one in server.sockets:
            loop.remove_reader(one.fileno())
        await asyncio.sleep(0)
        server.close()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # What was taken before we stopped may begin only now.
        if self.is_stopping or not self._has_room():
            writer.transport.abort()
            return
        conversation = _Conversation(self, reader, writer)
        self._conversations[conversation] = asyncio.current_task()
        try:
            await conversation.run()
        finally:
            del self._conversations[conversation]

    def _has_room(self) -> bool:
        """Whether there may be one more: where there are many, the longest idle one must go."""
        if len(self._conversations) < _MOST:
            return True
        idle = [one for one in self._conversations if one.idle_since is not None]
        now = asyncio.get_running_loop().time()
        if now - self._warned_at > 60:
            self._warned_at = now
            log.warning(
                "there are %d connections to the %s listener: each further one closes the one "
                "that has rested longest",
                _MOST, self._name, extra={"event": "many_connections"},
            )  # fmt: skip
        if not idle:
            return False
        min(idle, key=lambda one: one.idle_since or 0.0).end_if_idle()
        return True


class _Conversation:
    """One connection: requests and their answers, one after another."""

    def __init__(
        self, listener: Listener, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._listener = listener
        self._reader = reader
        self._writer = writer
        self._parser = httptools.HttpRequestParser(self)
        self._requests: deque[Request] = deque()
        """Whose heads are read, and which are not answered yet."""
        self._spoiled = False
        """What came last is no HTTP, or the end."""
        self._head_bytes = 0
        """Of a head that has begun to arrive."""
        self._trailer_bytes = 0
        self._silent_bytes = 0
        """Of what came since the last piece of a body and is none itself."""
        self._has_begun = False
        """Part of a head is here."""
        self._unread = b""
        """What waits until the requests before it are answered."""
        self._raw = b""
        """What was read last, from the beginning of a head that has begun."""
        self._trouble = "The request is no proper HTTP."
        self._target = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._reading: Request | None = None
        """Whose body is arriving."""
        self.idle_since: float | None = None
        """Since when (loop time) nothing is being answered."""
        self._watch: asyncio.TimerHandle | None = None
        self._patience: asyncio.TimerHandle | None = None
        """With a head that has begun."""
        name = writer.get_extra_info("peername")
        self.peer = str(name[0]) if name else "?"

    # --- requests and answers ---

    async def run(self) -> None:
        """Answer what is asked until either side ends it."""
        try:
            while (request := await self._next()) is not None:
                answer = await self._answer(request)
                is_last = (
                    answer.closes
                    or not (request.keeps_alive and request.is_whole)
                    or self._listener.is_stopping
                )
                self.say(encode(answer, is_last, has_body=request.method != "HEAD"))
                await self._flush()
                if answer.more is not None:
                    async with aclosing(answer.more) as pieces:
                        if request.method != "HEAD":
                            await self._go_on(pieces)
                if is_last:
                    break
        except OSError:
            pass  # They hung up.
        finally:
            for timer in (self._watch, self._patience):
                if timer is not None:
                    timer.cancel()
            self._writer.close()

    async def _go_on(self, pieces: AsyncGenerator[bytes, None]) -> None:
        """Write what follows as it comes (RFC 9112, 7.1); whoever hangs up ends it."""
        while piece := await _next_of(pieces):
            await self._say_piece(piece)
        await self._say_piece(b"")

    async def _say_piece(self, piece: bytes) -> None:
        self.say(b"%x\r\n%s\r\n" % (len(piece), piece))
        await self._flush()
        if piece and self._writer.transport.is_closing():
            raise BrokenOff("nobody reads on")

    def say(self, data: bytes) -> None:
        """Write it."""
        self._writer.write(data)

    async def hear_more(self) -> None:
        """Read on. Raises :class:`BrokenOff` if a request's body ends before its time."""
        if self._spoiled:
            raise BrokenOff("what was being said broke off")
        await self._read()

    def end_if_idle(self) -> None:
        """End it unless a request is being answered."""
        if self.idle_since is not None:
            self._writer.close()

    async def _next(self) -> Request | None:
        if not self._requests and not self._spoiled:
            self._be_idle()
            while not self._requests and not self._spoiled:
                if self._has_begun and self._patience is None:
                    loop = asyncio.get_running_loop()
                    self._patience = loop.call_later(self._listener.head_limit, self._tire)
                await self._read()
            if self._patience is not None:
                self._patience.cancel()
                self._patience = None
            self.idle_since = None
        if self._requests:
            return self._requests.popleft()
        if not self._reader.at_eof():
            log.debug("what came in is no HTTP", extra={"event": "no_http"})
            said = answer_error(400, "M_UNKNOWN", self._trouble, closes=True)
            self.say(encode(said, is_last=True))
            await self._flush()
        return None

    async def _answer(self, request: Request) -> Answer:
        try:
            answer = await self._listener.handler(request)
            if answer.more is None or request.may_wait:
                return answer
            # HTTP/1.0 knows no pieces: it has them as one.
            async with aclosing(answer.more) as pieces:
                body = b"".join([piece async for piece in pieces])
            return answer._replace(body=body, more=None)
        except Exception as error:
            log.error("a request failed", exc_info=error, extra={"event": "request_failed"})
            return answer_error(
                500, "M_UNKNOWN", "Trestle failed at it; its log says more.", closes=True
            )

    async def _flush(self) -> None:
        if self._writer.transport.get_write_buffer_size():
            try:
                async with asyncio.timeout(_WRITE_SECONDS):
                    await self._writer.drain()
            except TimeoutError:
                self._writer.transport.abort()  # Nobody reads: what is left would stay for ever.

    # --- patience ---

    def _be_idle(self) -> None:
        loop = asyncio.get_running_loop()
        self.idle_since = loop.time()
        if not self._has_begun:
            self._raw = b""
        if self._watch is None:
            self._watch = loop.call_at(self.idle_since + self._listener.idle_limit, self._look)

    def _look(self) -> None:
        """End it if nothing was asked for too long: one timer looks for many requests."""
        loop = asyncio.get_running_loop()
        since = loop.time() if self.idle_since is None else self.idle_since
        due = since + self._listener.idle_limit
        if due <= loop.time():
            self._writer.close()
        else:
            self._watch = loop.call_at(due, self._look)

    def _tire(self) -> None:
        """End it: a head takes too long."""
        said = answer_error(408, "M_UNKNOWN", "The request took too long to arrive.", closes=True)
        self.say(encode(said, is_last=True))
        self._writer.close()

    # --- what is read ---

    async def _read(self) -> None:
        data, self._unread = self._unread, b""
        if not data:
            data = await self._reader.read(_READ_BYTES)
            if not data:
                self._spoiled = True
                return
        if len(data) > _PIECE and data.count(b"HTTP/1") > _MOST_AHEAD:
            # Whoever does not wait for answers must not fill the memory with requests.
            data, self._unread = data[:_PIECE], data[_PIECE:]
        self._raw = self._raw + data if self._has_begun else data
        if self._reading is None:
            self._head_bytes += len(data)
        else:
            self._silent_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._spoiled = True
        except httptools.HttpParserUpgrade:
            # We go on in HTTP/1.1, once: what follows may be written in something else.
            self._requests[-1].keeps_alive = False
        if self._reading is None:
            self._spoiled |= self._head_bytes > _LONGEST_HEAD
        else:
            self._spoiled |= self._silent_bytes > _LONGEST_HEAD

    # --- what the parser tells ---

    def on_message_begin(self) -> None:
        self._target, self._headers, self._has_begun = b"", [], True

    def on_url(self, url: bytes) -> None:
        self._target += url
        if len(self._target) > _LONGEST_LINE:
            raise ValueError("the first line is too long")

    def on_header(self, name: bytes, value: bytes) -> None:
        if len(name) + len(value) > _LONGEST_LINE:
            raise ValueError("a header is too long")
        if self._reading is not None:
            # Nothing that comes after a body counts (RFC 9110, 6.5.1).
            self._trailer_bytes += len(name) + len(value) + len(": \r\n")
            if self._trailer_bytes > _LONGEST_HEAD:
                raise ValueError("there is too much after the body")
            return
        self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        parser = self._parser
        target = self._target.decode("utf-8", "replace")
        request = Request(self, parser.get_method().decode(), target)
        request.raw_headers = self._headers
        request.may_wait = parser.get_http_version() == "1.1"
        names = [name for name, _ in self._headers]
        if self._target + b" HTTP/" not in self._raw:
            raise ValueError("another protocol, which the parser knows too")
        if request.may_wait and names.count(b"host") != 1:
            self._trouble = "A request names one Host."
            raise ValueError("no host, or several")
        request.keeps_alive = request.may_wait and parser.should_keep_alive()
        if parser.should_upgrade() and {b"content-length", b"transfer-encoding"} & {*names}:
            # The parser would take the body for something in the other protocol.
            self._trouble = "No other protocol is spoken here: send it without an upgrade."
            raise ValueError("an upgrade with a body")
        self._reading, self._head_bytes, self._trailer_bytes = request, 0, 0
        self._silent_bytes, self._has_begun = 0, False
        self._requests.append(request)

    def on_body(self, body: bytes) -> None:
        if self._reading is not None:
            self._reading.add(body)
            self._silent_bytes = 0

    def on_message_complete(self) -> None:
        if self._reading is not None:
            self._reading.is_whole = True
        self._reading = None


async def _next_of(pieces: AsyncGenerator[bytes, None]) -> bytes:
    """The next piece; empty after the last."""
    try:
        return await anext(pieces, b"")
    except Exception as error:
        # An OSError of its own, too: nobody hung up.
        log.error("an answer broke off", exc_info=error, extra={"event": "request_failed"})
        raise BrokenOff("it failed in the middle") from error


def _read_text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


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
