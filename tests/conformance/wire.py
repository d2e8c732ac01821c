"""HTTP by hand, for requests that no proper client sends."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import orjson

from bridge.demo.matrix_user import PATIENCE
from bridge.settings.records import Address

BASE = "/_matrix/app/v1"
SOON = 20.0
"""Seconds: less than the head of a request is waited for, after which any connection is closed."""


def head(line: str, *headers: str) -> bytes:
    """The head of a request: ``PUT /path`` and header lines."""
    return "\r\n".join([f"{line} HTTP/1.1", "Host: hs", *headers, "", ""]).encode("latin-1")


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer as it came over the wire."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def errcode(self) -> Any:
        """What its JSON object calls the error."""
        return orjson.loads(self.body)["errcode"]


@dataclass(frozen=True, slots=True)
class Wire:
    """An open connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    def send(self, data: bytes) -> None:
        """Send bytes as they are."""
        self.writer.write(data)

    async def read(self, limit: float = PATIENCE) -> Reply:
        """The next answer."""
        async with asyncio.timeout(limit):
            lines = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            headers = {
                name.lower(): value.strip()
                for name, _, value in (line.partition(":") for line in lines[1:] if line)
            }
            body = await self.reader.readexactly(int(headers.get("content-length", "0")))
            return Reply(int(lines[0].split(" ")[1]), headers, body)

    async def is_closed(self, limit: float = SOON) -> bool:
        """Whether the other side closes the connection within the limit, saying nothing more."""
        try:
            async with asyncio.timeout(limit):
                return await self.reader.read() == b""
        except ConnectionError:
            return True
        except TimeoutError:
            return False


@asynccontextmanager
async def wire(address: Address) -> AsyncIterator[Wire]:
    """Connect until the block ends."""
    reader, writer = await asyncio.open_connection(*address)
    try:
        yield Wire(reader, writer)
    finally:
        writer.transport.abort()
