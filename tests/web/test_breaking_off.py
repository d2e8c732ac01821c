"""An answer that has begun is the only one: what fails then ends the connection."""

import asyncio
from contextlib import suppress

import pytest
from aiohttp import web

from bridge.web.errors import ApiError
from bridge.web.server import _app


@pytest.mark.parametrize("error", [RuntimeError("secret"), ApiError(404, "M_TOO_LARGE", "Large.")])
async def test_an_answer_that_fails_half_way_breaks_off(error: Exception) -> None:
    has_read = asyncio.Event()

    async def give(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        response.content_length = 1000
        await response.prepare(request)
        await response.write(b"the first half")
        await has_read.wait()
        raise error

    app = _app("https://public.example")
    app.router.add_get("/give", give)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        async with asyncio.timeout(20):
            reader, writer = await asyncio.open_connection(*runner.addresses[0][:2])
            writer.write(b"GET /give HTTP/1.1\r\nHost: x\r\n\r\n")
            await reader.readuntil(b"the first half")
            has_read.set()
            rest = b""
            with suppress(ConnectionError):
                while piece := await reader.read(1000):
                    rest += piece
            writer.transport.abort()
    finally:
        await runner.cleanup()
    assert rest == b""
