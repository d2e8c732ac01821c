"""The network of the tutorial's bridge: what is written comes back."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class EchoServer:
    """Says back each line to who wrote it."""

    def __init__(self) -> None:
        self.port = 0
        self.heard: list[str] = []
        self._writers: set[asyncio.StreamWriter] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Take a connection."""
        self._writers.add(writer)
        try:
            async for line in reader:
                self.heard.append(line.decode())
                writer.write(line)
        except ConnectionError:
            pass  # A reset, which is one more way to be gone.
        finally:
            self._writers.discard(writer)
            writer.close()

    def say(self, line: bytes) -> None:
        """Write something to everybody who is connected."""
        for writer in self._writers:
            writer.write(line)

    def hang_up(self) -> None:
        """End every connection."""
        for writer in self._writers:
            writer.close()


@asynccontextmanager
async def echo_server() -> AsyncIterator[EchoServer]:
    """Listen on a free port of this machine."""
    echo = EchoServer()
    server = await asyncio.start_server(echo.serve, "127.0.0.1", 0)
    echo.port = server.sockets[0].getsockname()[1]
    try:
        yield echo
    finally:
        server.close()
        echo.hang_up()
        await server.wait_closed()
