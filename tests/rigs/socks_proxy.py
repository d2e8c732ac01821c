"""A SOCKS 5 proxy as RFC 1928 and RFC 1929 have it: shares no code with the bridge."""

import asyncio
import struct
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress


class SocksProxy:
    """Connects to where its table of hosts says, and notes what it was asked."""

    def __init__(self, hosts: Mapping[str, str], sign_in: tuple[str, str] | None) -> None:
        self._hosts = hosts
        self._sign_in = sign_in
        self.port = 0
        self.asked: list[tuple[str, int]] = []
        self.refusal = 0
        """The number by which it refuses to connect, if it does."""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Take one connection."""
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            if await self._lets_in(reader, writer):
                await self._connect(reader, writer)
        writer.close()

    async def _lets_in(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        version, count = await reader.readexactly(2)
        ways = await reader.readexactly(count)
        way = 0 if self._sign_in is None else 2
        if version != 5 or way not in ways:
            writer.write(b"\x05\xff")
            return False
        writer.write(bytes([5, way]))
        if self._sign_in is None:
            return True
        _, length = await reader.readexactly(2)
        user = await reader.readexactly(length)
        (length,) = await reader.readexactly(1)
        password = await reader.readexactly(length)
        is_right = (user.decode(), password.decode()) == self._sign_in
        writer.write(bytes([1, not is_right]))
        return is_right

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        _, command, _, kind = await reader.readexactly(4)
        length = {1: 4, 4: 16}.get(kind) or (await reader.readexactly(1))[0]
        raw = await reader.readexactly(length)
        (port,) = struct.unpack("!H", await reader.readexactly(2))
        host = raw.decode() if kind == 3 else ".".join(map(str, raw))
        self.asked.append((host, port))
        refusal = self.refusal or (0 if command == 1 and host in self._hosts else 4)
        # From where it connects it says by a name, which is the longest way to say it.
        bound = b"\x03\x09localhost\x00\x01"
        if refusal:
            writer.write(bytes([5, refusal, 0]) + bound)
            return
        there, out = await asyncio.open_connection(self._hosts[host], port)
        writer.write(bytes([5, 0, 0]) + bound)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(_carry(reader, out))
            tasks.create_task(_carry(there, writer))


async def _carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while part := await reader.read(65536):
            writer.write(part)
            await writer.drain()
    writer.close()


@asynccontextmanager
async def socks_proxy(
    hosts: Mapping[str, str], sign_in: tuple[str, str] | None = None
) -> AsyncIterator[SocksProxy]:
    """Listen on a free port. ``hosts``: what it knows by which address."""
    proxy = SocksProxy(hosts, sign_in)
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
