"""A web server that answers as it is told, on this machine."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from bridge.demo.processes import free_port

Script = Callable[[str, asyncio.StreamWriter], Awaitable[None]]
"""Writes the answer to a request, whose head it is given."""


@dataclass
class Scripted:
    """Serves bytes; ``heads`` are the requests that came, as they were."""

    port: int
    script: Script
    heads: list[str] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Read a request's head and let the script answer."""
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            self.heads.append(head)
            await self.script(head, writer)
            await writer.drain()
        writer.close()


@asynccontextmanager
async def scripted(script: Script) -> AsyncIterator[Scripted]:
    """Serve until the block ends."""
    made = Scripted(free_port(), script)
    server = await asyncio.start_server(made.serve, "127.0.0.1", made.port)
    try:
        yield made
    finally:
        server.close()


def plain(body: bytes = b"fine", status: str = "200 OK", **headers: str) -> bytes:
    """An answer's bytes; ``Content_Type`` becomes ``Content-Type``."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", "Connection: close"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode("utf-8") + b"\r\n\r\n" + body


def always(answer: bytes) -> Script:
    """Answer everything alike."""

    async def script(head: str, writer: asyncio.StreamWriter) -> None:
        writer.write(answer)

    return script
