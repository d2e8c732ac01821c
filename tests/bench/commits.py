"""What the least durable commit takes: a line that is stored takes longer than that."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from time import perf_counter

import asyncpg

from bridge.storage.postgres import EmbeddedPostgres

_BYTES = 900
"""As many as a sealed transaction of one line has."""


class Commits:
    """A table with one column and no index, in a server as Trestle starts it, and a connection."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection
        self.seconds: list[float] = []
        """What each took, from the statement to its answer."""

    async def take(self, number: int, pace: float) -> None:
        """Commit one row every ``pace`` seconds."""
        insert = await self._connection.prepare("INSERT INTO least VALUES ($1)")
        began, body = perf_counter(), os.urandom(_BYTES)
        for at in range(number):
            await asyncio.sleep(max(0.0, began + at * pace - perf_counter()))
            start = perf_counter()
            await insert.fetch(body)
            self.seconds.append(perf_counter() - start)


@asynccontextmanager
async def commits(folder: Path) -> AsyncIterator[Commits]:
    """Run a server in the folder, beside that of Trestle."""
    server = EmbeddedPostgres(folder)
    await server.start()
    try:
        connection = await asyncpg.connect(
            host=str(server.socket_dir), user="postgres", password=server.password,
            database="postgres",
        )  # fmt: skip
        await connection.execute("CREATE TABLE least (body bytea)")
        yield Commits(connection)
        await connection.close()
    finally:
        await server.stop(at_once=True)
