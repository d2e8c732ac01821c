"""Listeners that nobody must reach, and names that lead to them."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import ThreadedResolver

from bridge.demo.processes import free_port

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\nConnection: close\r\n\r\ncanary"


@dataclass
class Canary:
    """Counts who comes to a port of this machine, by IPv4 and, where there is one, IPv6."""

    port: int
    visits: int = 0
    sees_ipv6: bool = False

    async def meet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Count a connection and answer it."""
        self.visits += 1
        with contextlib.suppress(OSError):
            await reader.readline()
            writer.write(ANSWER)
            await writer.drain()
        writer.close()


@asynccontextmanager
async def canary() -> AsyncIterator[Canary]:
    """Have one until the block ends."""
    made = Canary(free_port())
    async with contextlib.AsyncExitStack() as stack:
        for host in ("127.0.0.1", "::1"):
            try:
                server = await asyncio.start_server(made.meet, host, made.port)
            except OSError:
                continue  # A machine without IPv6.
            await stack.enter_async_context(server)
            made.sees_ipv6 = host == "::1"
        yield made


@dataclass
class Names(AbstractResolver):
    """Answers look-ups with what a name means by now; numbers are read by the system."""

    meanings: dict[str, list[Sequence[str]]] = field(default_factory=dict)
    """For each name its answers, one after the other; the last one stays."""
    asked: int = 0

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Give the answer of this moment."""
        answers = self.meanings.get(host)
        if answers is None:
            return await ThreadedResolver().resolve(host, port, family)
        self.asked += 1
        addresses = answers.pop(0) if len(answers) > 1 else answers[0]
        return [
            ResolveResult(
                hostname=host, host=address, port=port, proto=0, flags=socket.AI_NUMERICHOST,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
            )
            for address in addresses
        ]  # fmt: skip

    async def close(self) -> None:
        """Nothing is open."""
