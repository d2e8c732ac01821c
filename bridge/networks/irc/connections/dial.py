"""Making a connection: which server, from which address, with which certificate."""

import asyncio
import contextlib
import socket
import ssl
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from ipaddress import IPv6Address
from pathlib import Path

from bridge.networks.irc.connections.connection import GOODBYE_SECONDS, Connection
from bridge.networks.irc.connections.flood import Flood
from bridge.networks.irc.connections.ident import Ident
from bridge.networks.irc.connections.reader import Reader, reason_of
from bridge.networks.irc.connections.tls import make_context
from bridge.networks.irc.protocol import socks
from bridge.networks.irc.protocol.endings import BannedError
from bridge.networks.irc.protocol.handshake import Identity
from bridge.networks.irc.settings import IrcSettings, ServerSettings
from bridge.sdk.errors import LoginRequired, ModuleNotReady, PermanentFailure

Streams = tuple[Reader, asyncio.StreamWriter]
_FREEBIND = 78
"""``IPV6_FREEBIND`` of Linux, which Python has no name for."""


class Rotation:
    """The servers of a network, the one that served last first."""

    def __init__(self, servers: Sequence[ServerSettings]) -> None:
        self._servers = servers
        self._current = 0

    def in_turn(self) -> Iterator[ServerSettings]:
        """Yield each once, from the current one on."""
        first = self._current
        for step in range(len(self._servers)):
            yield self._servers[(first + step) % len(self._servers)]

    def failed(self, server: ServerSettings) -> None:
        """Go on to the next, if this is the current one."""
        # Many connections may fail at once: they are one failure.
        if self._servers[self._current] == server:
            self._current = (self._current + 1) % len(self._servers)


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """How one login gets there."""

    flood: tuple[int, float]
    """Lines at once, and lines a second after that."""
    source: IPv6Address | None = None
    ident: Ident | None = None
    certificate: Path | None = None
    kept_at: str = ""
    """The instance whose login keeps it itself; empty for one in a file that an admin named."""


async def connect(
    stack: contextlib.AsyncExitStack,
    settings: IrcSettings,
    identity: Identity,
    rotation: Rotation,
    way: Way,
    since: datetime | None = None,
) -> Connection:
    """Connect to the first server that answers, and sign in; the stack says goodbye at its end.

    ``since``: what was said well before that is a bouncer's playback; without it, whatever was
    said with a time may be.
    Raises ``ModuleNotReady`` or ``LoginRequired`` with a sentence.
    """
    server, connection = await _open_first(stack, settings, rotation, way, identity.username)
    try:
        try:
            async with asyncio.timeout(settings.connect_seconds):
                await connection.sign_in(identity)
                await connection.check_answers(since)
        except TimeoutError as error:
            rotation.failed(server)
            raise ModuleNotReady(
                f"{connection.server} did not {connection.awaited} within "
                f"{settings.connect_seconds:g} seconds."
            ) from error
        except ModuleNotReady:
            rotation.failed(server)
            raise
        except PermanentFailure as error:
            raise LoginRequired(
                f"{connection.server} cannot be signed in to so: {error}"
            ) from error
    except BaseException as error:
        await connection.close("The bridge could not sign in")
        if isinstance(error, BannedError):
            # Which kind of ban it is some say with their very last words.
            error.hear(connection.last_words)
        raise
    stack.push_async_callback(connection.close, "The bridge stops")
    return connection


async def _open_first(
    stack: contextlib.AsyncExitStack,
    settings: IrcSettings,
    rotation: Rotation,
    way: Way,
    username: str,
) -> tuple[ServerSettings, Connection]:
    failures = []
    for server in rotation.in_turn():
        try:
            streams = await stack.enter_async_context(open_server(server, settings, way, username))
        except ModuleNotReady as error:
            rotation.failed(server)
            failures.append(error)
        else:
            return server, Connection(streams, server, settings, Flood(*way.flood))
    if len(failures) == 1:
        raise failures[0]
    raise ModuleNotReady(" ".join(str(failure) for failure in failures)) from failures[-1]


@asynccontextmanager
async def open_server(
    server: ServerSettings, settings: IrcSettings, way: Way, username: str
) -> AsyncIterator[Streams]:
    """Connect to one server, without signing in. Raises ``ModuleNotReady`` with a sentence."""
    known: list[Callable[[], None]] = []
    """Has what ident knows of it forgotten; no stack, of which each connection would have one."""
    try:
        yield await _reach(server, settings, way, username, known)
    finally:
        for forget in known:
            forget()


async def _reach(
    server: ServerSettings,
    settings: IrcSettings,
    way: Way,
    username: str,
    known: list[Callable[[], None]],
) -> Streams:
    context = None
    if server.tls:
        context = await make_context(server, way.certificate, kept_at=way.kept_at)
    try:
        async with asyncio.timeout(settings.connect_seconds):
            ends = asyncio.get_running_loop().time() + settings.connect_seconds
            plug = await _plug(server, way, username, known, ends)
            return await _wrap(plug, server, context)
    except ssl.SSLCertVerificationError as error:
        raise ModuleNotReady(
            f"The certificate of {server.label} is not trusted: "
            f"{error.verify_message.rstrip('.')}. "
            "If it is your own, name its issuer with ca_file."
        ) from error
    except ssl.SSLError as error:
        raise ModuleNotReady(
            f"{server.label} does not speak TLS as we do: {reason_of(error)}. "
            "Is it the port for encrypted connections?"
        ) from error
    except TimeoutError as error:
        # Whose address it is, is for nobody to read who waits in a room for this connection.
        asked = " Is ipv6_prefix routed to this machine?" if way.source is not None else ""
        if server.proxy is not None:
            asked = " It is reached by a proxy."
        raise ModuleNotReady(
            f"{server.label} did not answer within {settings.connect_seconds:g} seconds.{asked}"
        ) from error
    except OSError as error:
        raise ModuleNotReady(f"{server.label} cannot be reached: {reason_of(error)}.") from error


async def _plug(
    server: ServerSettings,
    way: Way,
    username: str,
    known: list[Callable[[], None]],
    ends: float,
) -> socket.socket:
    """Connect a socket to the server, by its proxy if it has one."""
    proxy = server.proxy
    if proxy is None:
        return await _call(server.address, way, username, known, ends)
    try:
        plug = await _call((proxy.host, proxy.port), way, username, known, ends)
    except TimeoutError:
        raise
    except OSError as error:
        why = reason_of(error)
        raise socks.ProxyError(f"nor can its proxy: {why}") from error
    with contextlib.ExitStack() as entry:
        entry.callback(plug.close)
        try:
            await _ask(plug, socks.ask(*server.address, proxy.sign_in))
        except OSError as error:
            raise socks.ProxyError(f"its proxy: {reason_of(error)}") from error
        entry.pop_all()
    return plug


async def _ask(plug: socket.socket, talk: socks.Talk) -> None:
    """Say to the proxy what it is to be told. What comes after its answers is the server's."""
    loop = asyncio.get_running_loop()
    with contextlib.suppress(StopIteration):
        said, left = next(talk)
        while True:
            await loop.sock_sendall(plug, said)
            answer = b""
            while len(answer) < left:
                part = await loop.sock_recv(plug, left - len(answer))
                if not part:
                    raise socks.ProxyError("it ended the connection")
                answer += part
            said, left = talk.send(answer)


async def _call(
    address: tuple[str, int],
    way: Way,
    username: str,
    known: list[Callable[[], None]],
    ends: float,
) -> socket.socket:
    """Connect a socket to the first of a host's addresses that takes it.

    Each has its share of the time until ``ends`` (loop time): one that is silent must not keep
    us from the others.
    """
    host, port = address
    family = socket.AF_UNSPEC if way.source is None else socket.AF_INET6
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, family=family, type=socket.SOCK_STREAM)
    failure: OSError = OSError(f"{host} has no address that we could use")
    for number, (kind, _, _, _, place) in enumerate(found):
        share = (ends - loop.time()) / (len(found) - number)
        plug = socket.socket(kind, socket.SOCK_STREAM)
        with contextlib.ExitStack() as entry:
            entry.callback(plug.close)
            try:
                plug.setblocking(False)
                _know(plug, kind, (str(place[0]), port), way, username, known)
                async with asyncio.timeout(share):
                    await loop.sock_connect(plug, place)
            except OSError as error:
                failure = error
                continue
            entry.pop_all()  # It is the transport's now.
            return plug
    raise failure


def _know(
    plug: socket.socket,
    kind: int,
    remote: tuple[str, int],
    way: Way,
    username: str,
    known: list[Callable[[], None]],
) -> None:
    """Give the socket its own address, and have it known before the server can ask about it."""
    if way.source is not None:
        if sys.platform == "linux":
            # That it is routed to us is enough: it need not be on one of our interfaces. A kernel
            # that does not know this may have it there.
            with contextlib.suppress(OSError):
                plug.setsockopt(socket.IPPROTO_IPV6, _FREEBIND, 1)
        plug.bind((str(way.source), 0))
    elif way.ident is not None:
        plug.bind(("" if kind == socket.AF_INET else "::", 0))
    if way.ident is not None:
        local = plug.getsockname()[:2]
        way.ident.know(local, remote, username)
        known.append(partial(way.ident.forget, local, remote))


async def _wrap(
    plug: socket.socket, server: ServerSettings, context: ssl.SSLContext | None
) -> Streams:
    loop = asyncio.get_running_loop()
    reader = Reader(plug if context is None else None)
    protocol = asyncio.StreamReaderProtocol(reader)
    transport, _ = await loop.create_connection(
        lambda: protocol,
        sock=plug,
        ssl=context,
        server_hostname=None if context is None else server.host,
        ssl_shutdown_timeout=None if context is None else GOODBYE_SECONDS,
    )
    return reader, asyncio.StreamWriter(transport, protocol, reader, loop)
