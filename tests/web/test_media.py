"""Media that is passed on: what a visitor, or the homeserver, may do in the middle of it."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest

from bridge.demo.matrix_user import PATIENCE
from bridge.matrix.medialinks import Media
from bridge.sdk.ids import UserId
from bridge.sdk.secret import Secret
from tests.web.origins import open_origin

FILE = Media("good.example", "abc")


class Homeserver:
    """Sends a file without end, until it is told to break off."""

    def __init__(self) -> None:
        self.breaks_off = asyncio.Event()
        self.is_left = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: image/png\r\n")
        writer.write(b"Content-Length: 100000000\r\n\r\n")
        with suppress(ConnectionError):
            while not self.breaks_off.is_set():
                writer.write(b"x" * 65536)
                await writer.drain()
        writer.transport.abort()
        self.is_left.set()


@asynccontextmanager
async def passing_on(
    within: float = PATIENCE,
) -> AsyncIterator[tuple[Homeserver, str, tuple[str, int]]]:
    """The public origin before such a homeserver: with a link's path, and where it listens."""
    homeserver = Homeserver()
    server = await asyncio.start_server(homeserver.serve, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    bot = UserId("@bot:good.example")
    try:
        async with (
            open_origin(url, FILE, token=Secret("token"), bot=bot, within=within) as origin,
            asyncio.timeout(PATIENCE),
        ):
            yield homeserver, origin.path, origin.address
    finally:
        server.close()


async def begin(
    path: str, address: tuple[str, int]
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection(*address)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    await reader.readuntil(b"xxxx")
    return reader, writer


def complaints(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [one.getMessage() for one in caplog.records if one.levelno >= logging.WARNING]


async def test_a_visitor_who_goes_away_is_no_trouble_of_the_homeservers(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with passing_on() as (homeserver, path, address):
        _, writer = await begin(path, address)
        writer.transport.abort()
        await homeserver.is_left.wait()
    assert not complaints(caplog)


async def test_a_homeserver_that_breaks_off_is_told_of(caplog: pytest.LogCaptureFixture) -> None:
    async with passing_on() as (homeserver, path, address):
        reader, writer = await begin(path, address)
        homeserver.breaks_off.set()
        with suppress(ConnectionError):
            await reader.read()
        writer.transport.abort()
    assert complaints(caplog) == ["an answer breaks off: The homeserver is away; try again."]


async def test_a_visitor_who_reads_too_slowly_is_cut_off_and_it_is_no_failure(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with passing_on(within=0.3) as (homeserver, path, address):
        _, writer = await begin(path, address)
        await homeserver.is_left.wait()
        writer.transport.abort()
    assert complaints(caplog) == ["an answer breaks off: This takes too long; try again."]


async def test_behind_the_head_that_was_asked_for_alone_comes_nothing() -> None:
    async with passing_on() as (homeserver, path, address):
        reader, writer = await asyncio.open_connection(*address)
        for _ in range(2):
            writer.write(f"HEAD {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200 OK\r\n")
            assert b"Content-Length: 100000000\r\n" in head
            await homeserver.is_left.wait()
            homeserver.is_left.clear()
        writer.transport.abort()
