"""One real Postgres a test run, and a fresh database in it for each test."""

import asyncio
import itertools
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import asyncpg

from bridge.demo.matrix_user import PATIENCE
from bridge.demo.processes import free_port
from bridge.settings.records import DatabaseSettings
from bridge.storage.postgres import EmbeddedPostgres
from bridge.storage.schema import Connection

WAITS = (
    "SELECT EXISTS (SELECT FROM pg_locks l JOIN pg_database d ON d.oid = l.database "
    "WHERE NOT l.granted AND d.datname = current_database())"
)
"""Whether a statement waits for a lock in this database."""


class Asked(Protocol):
    """A connection, or a pool of them."""

    async def fetchval(self, query: str, /) -> object: ...


async def until_one_waits(database: Asked) -> None:
    """Return when a statement waits for a lock in this database."""
    async with asyncio.timeout(PATIENCE):
        while not await database.fetchval(WAITS):
            await asyncio.sleep(0.01)


@asynccontextmanager
async def holding_up(database: Connection) -> AsyncIterator[None]:
    """Have what is to be stored of what comes in wait, until the block ends."""
    await database.execute("BEGIN; LOCK TABLE journal IN SHARE MODE")
    yield
    await database.execute("COMMIT")


async def cut_off(database: Connection) -> None:
    """Have what waits to be stored fail."""
    assert await database.fetchval(
        "SELECT count(pg_terminate_backend(pid)) FROM pg_locks "
        "WHERE NOT granted AND mode = 'RowExclusiveLock'"
    )


@dataclass(frozen=True, slots=True)
class Cluster:
    """A running server; its superuser may make databases."""

    server: EmbeddedPostgres
    numbers: "itertools.count[int]"
    port: int

    def url(self, name: str) -> str:
        """The URL of one of its databases."""
        return (
            f"postgresql://postgres:{self.server.password}@/{name}"
            f"?host={self.server.socket_dir}&port={self.port}"
        )

    def by_tcp(self, settings: DatabaseSettings) -> DatabaseSettings:
        """The same database by TCP."""
        user, _, rest = settings.url.partition("@/")
        return DatabaseSettings(url=f"{user}@127.0.0.1:{self.port}/{rest.partition('?')[0]}")

    async def execute(self, statement: str, database: str = "postgres") -> None:
        """Run a statement as the superuser."""
        connection = await asyncpg.connect(self.url(database))
        try:
            await connection.execute(statement)
        finally:
            await connection.close()

    async def fresh(self, template: str = "template1") -> DatabaseSettings:
        """Make an empty database, or a copy of one that nobody is connected to."""
        name = f"test_{next(self.numbers)}"
        # Files copied whole cost half of what writing each of their pages to the log does.
        await self.execute(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY file_copy")
        return DatabaseSettings(url=self.url(name))

    async def drop(self, settings: DatabaseSettings) -> None:
        """Take one of its databases away, whoever is still connected."""
        name = settings.url.partition("@/")[2].partition("?")[0]
        await self.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


@asynccontextmanager
async def run_cluster() -> AsyncIterator[Cluster]:
    """Run a server of our own kind in a temporary folder."""
    folder = Path(tempfile.mkdtemp(prefix="trestle-pg-"))
    folder.chmod(0o711)
    server = EmbeddedPostgres(folder)
    port = free_port()
    server.settings |= {"listen_addresses": "127.0.0.1", "port": str(port)}
    try:
        await server.start()
        cluster = Cluster(server, itertools.count(1), port)
        # It ends with the machine: hundreds of small databases are not worth the disk's time.
        await cluster.execute("ALTER SYSTEM SET fsync = off")
        await cluster.execute("SELECT pg_reload_conf()")
        yield cluster
    finally:
        await server.stop(at_once=True)  # What is in it is not needed any more.
        shutil.rmtree(folder, ignore_errors=True)
