"""Tells a server which of us is behind a connection (RFC 1413).

Networks ban by user name and address. With an answer from here they can ban one person instead
of the whole bridge.
"""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from bridge.sdk.errors import ModuleNotReady

ASK_SECONDS = 10.0
"""How long one who asks may take."""
KNOWN_SECONDS = 1.0
"""How long an unknown connection is looked for: a server may ask before we know it is there."""
MOST_BYTES = 100
MOST_AT_ONCE = 200

_QUESTION = re.compile(rb"\s*(\d{1,5})\s*,\s*(\d{1,5})\s*\Z")


class Ident:
    """The listener of one address, and the connections that it knows."""

    def __init__(self) -> None:
        self._names: dict[tuple[int, int, str], str] = {}
        self.lock = asyncio.Lock()
        self._asking = 0
        self.users = 0
        self.port = 0
        self.server: asyncio.Server | None = None

    def know(self, local: tuple[str, int], remote: tuple[str, int], username: str) -> None:
        """Take note of a connection of ours."""
        self._names[local[1], remote[1], _plain(remote[0])] = username

    def forget(self, local: tuple[str, int], remote: tuple[str, int]) -> None:
        """Take note that it is gone."""
        self._names.pop((local[1], remote[1], _plain(remote[0])), None)

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one who asks, and only about connections between them and us."""
        self._asking += 1
        try:
            async with asyncio.timeout(ASK_SECONDS):
                if self._asking <= MOST_AT_ONCE:
                    asker = _plain(writer.get_extra_info("peername")[0])
                    question = (await reader.readuntil(b"\n")).rstrip(b"\r\n")
                    writer.write(await self.answer(question, asker))
                    await writer.drain()
        except (TimeoutError, OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass  # Whoever asked so gets no answer.
        finally:
            self._asking -= 1
            writer.close()

    async def answer(self, question: bytes, asker: str) -> bytes:
        """Return the answer to ``<our port> , <their port>``."""
        found = _QUESTION.match(question)
        ports = (int(found[1]), int(found[2])) if found else (0, 0)
        if not all(0 < port < 65536 for port in ports):
            return b"0, 0 : ERROR : INVALID-PORT\r\n"
        name = await self._find((*ports, asker))
        said = "ERROR : NO-USER" if name is None else f"USERID : UNIX : {name}"
        return f"{ports[0]}, {ports[1]} : {said}\r\n".encode()

    async def _find(self, key: tuple[int, int, str]) -> str | None:
        loop = asyncio.get_running_loop()
        end = loop.time() + KNOWN_SECONDS
        while key not in self._names and loop.time() < end:
            await asyncio.sleep(0.05)
        return self._names.get(key)


_LISTENERS: dict[tuple[str, int], Ident] = {}
"""A port can be listened on once in a process, whatever number of instances want it."""


@asynccontextmanager
async def listening(address: tuple[str, int]) -> AsyncIterator[Ident]:
    """Have the address listened on; instances and clients share it.

    Raises ``ModuleNotReady`` if that cannot be.
    """
    ident = _LISTENERS.setdefault(address, Ident())
    ident.users += 1
    try:
        if ident.server is None:
            await _listen(ident, address)
        yield ident
    finally:
        ident.users -= 1
        if not ident.users:
            _LISTENERS.pop(address, None)
            if ident.server is not None:
                ident.server.close()


async def _listen(ident: Ident, address: tuple[str, int]) -> None:
    async with ident.lock:
        if ident.server is not None:
            return
        host, port = address
        try:
            ident.server = await asyncio.start_server(
                ident.handle, host, port, limit=MOST_BYTES, reuse_address=True
            )
        except OSError as error:
            raise ModuleNotReady(
                f"ident_listen {host}:{port} cannot be listened on: {error.strerror}. Ports under "
                "1024 are the administrator's: listen on another and have 113 forwarded to it."
            ) from error
        ident.port = ident.server.sockets[0].getsockname()[1]


def _plain(host: str) -> str:
    # An IPv4 address as an IPv6 socket shows it, and a zone.
    return host.removeprefix("::ffff:").partition("%")[0]
