"""Connections to Postgres, each role with its own, and the lock that makes us the only one."""

import asyncio
import contextlib
import fcntl
import json
import logging
import os
import secrets
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import urlsplit

import asyncpg

from bridge.model import Clock
from bridge.sdk.errors import ConfigError, TemporaryFailure
from bridge.settings import DatabaseSettings
from bridge.storage.files import make_folder, write_private
from bridge.storage.postgres import EmbeddedPostgres
from bridge.storage.schema import CORE, OWNER, SUBJECT, Connection, migrate, roles_sql

log = logging.getLogger(__name__)

Pool: TypeAlias = "asyncpg.Pool[asyncpg.Record]"

_LOCK = 7_218_450
_AWAY = (
    OSError,
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.CannotConnectNowError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.TooManyConnectionsError,
    asyncpg.DiskFullError,
    asyncpg.OutOfMemoryError,
    asyncpg.QueryCanceledError,
)
"""What asyncpg raises when the database is away, starting, stopping or full."""


@contextlib.contextmanager
def at_the_door() -> Iterator[None]:
    """Translate a database that is away into ``TemporaryFailure``."""
    try:
        yield
    except _AWAY as error:
        raise TemporaryFailure(f"the database is away: {_first_line(error)}") from error


class Database:
    """An open database: migrated, locked for us, with a pool for each role."""

    def __init__(
        self, clock: Clock, connect: dict[str, dict[str, Any]], role_maker: str | None = None
    ) -> None:
        self.clock = clock
        self._role_maker = role_maker
        self._connect = connect
        self._lock: Connection | None = None
        self._dropped = asyncio.Event()
        self.core: Pool
        self.subject: Pool
        self.epoch = 0
        self.generation = 0
        self.up = True

    @classmethod
    @asynccontextmanager
    async def open(
        cls, settings: DatabaseSettings, state_dir: Path, clock: Clock
    ) -> AsyncIterator["Database"]:
        """Open it, and close everything on the way out.

        Raises ``ConfigError`` with the way out: unreachable, a newer schema, another instance
        at work, a proxy in between that would break the lock.
        """
        async with contextlib.AsyncExitStack() as stack:
            stack.enter_context(_only_one(state_dir))
            role_maker = None
            if settings.url == "embedded":
                server = EmbeddedPostgres(state_dir)
                await server.start()
                stack.push_async_callback(server.stop)
                connect = await _embedded_roles(server, state_dir)
            else:
                connect = _roles_of(settings)
                role_maker = settings.owner_url or settings.url
            database = cls(clock, connect, role_maker)
            await database._prepare()
            stack.push_async_callback(database._close)
            yield database

    async def guard(self) -> None:
        """Hold the lock. Runs until cancelled; raises ``ConfigError`` when another has it."""
        while True:
            await self._dropped.wait()
            self.up = False
            log.warning("the database is away", extra={"event": "database_away"})
            await self._take_lock_again()
            self.up = True
            log.info("the database is back", extra={"event": "database_back"})

    async def connection(self) -> Connection:
        """Open a connection of the core's beside the pool."""
        return await asyncpg.connect(**self._connect["core"])

    async def owner(self) -> Connection:
        """Open a connection as the owner of the tables, for partitions."""
        return await asyncpg.connect(**self._connect["owner"])

    def watch(self, connection: Connection, on_drop: Callable[[], None]) -> None:
        """Have ``on_drop`` called when the connection ends."""
        connection.add_termination_listener(lambda _: on_drop())

    async def time_difference(self) -> float:
        """Seconds by which the database's clock is ahead of ours."""
        with at_the_door():
            theirs = await self.core.fetchval("SELECT clock_timestamp()")
        return float((theirs - self.clock.now()).total_seconds())

    # --- opening and closing ---

    async def _prepare(self) -> None:
        try:
            async with asyncio.timeout(20):
                if self._role_maker is not None:
                    await _make_roles(self._role_maker)
                await self._migrate()
                await self._take_lock()
                self.core = await _pool(self._connect["core"], size=8)
                self.subject = await _pool(self._connect["subject"], size=4)
        except TimeoutError as error:
            raise ConfigError(
                "the database did not answer in 20 s", path="database.url"
            ) from error
        except asyncpg.InvalidPasswordError as error:
            raise ConfigError(f"the database refuses us: {error}", path="database.url") from error
        except asyncpg.InsufficientPrivilegeError as error:
            raise ConfigError(
                f"the database does not let us: {error}. `trestle init --print-sql` prints what "
                "its admin must run",
                path="database.url",
            ) from error
        except (*_AWAY, asyncpg.InvalidCatalogNameError) as error:
            raise ConfigError(
                f"the database cannot be reached: {_first_line(error)}", path="database.url"
            ) from error

    async def _migrate(self) -> None:
        owner = await asyncpg.connect(**self._connect["owner"])
        try:
            await migrate(owner)
        finally:
            await owner.close()

    async def _take_lock(self) -> None:
        connection = await self.connection()
        try:
            await self._refuse_pooling_proxy(connection)
            async with asyncio.timeout(1.5):
                while not await connection.fetchval("SELECT pg_try_advisory_lock($1)", _LOCK):
                    await asyncio.sleep(0.1)
        except TimeoutError as error:
            await connection.close()
            raise ConfigError(
                "another Trestle is at work on this database; stop it first, or give this one a "
                "database of its own",
                path="database.url",
            ) from error
        except BaseException:
            await connection.close()
            raise
        self.epoch = await connection.fetchval(
            "UPDATE lease SET epoch = epoch + 1, owner = $1, until = $2 WHERE shard = 0 "
            "RETURNING epoch",
            secrets.token_hex(8), self.clock.now(),
        )  # fmt: skip
        self.generation = await connection.fetchval("SELECT generation FROM instance_state")
        self._hold(connection)

    def _hold(self, connection: Connection) -> None:
        self._lock = connection
        self._dropped.clear()
        self.watch(connection, self._dropped.set)

    async def _refuse_pooling_proxy(self, connection: Connection) -> None:
        """A lock of a session means nothing where a proxy hands sessions around."""
        other = await self.connection()
        try:
            for _ in range(3):
                mine = await connection.fetchval("SELECT pg_backend_pid()")
                theirs = await other.fetchval("SELECT pg_backend_pid()")
                if mine == theirs:
                    raise ConfigError(
                        "between us and the database stands a proxy that pools transactions "
                        "(PgBouncer's pool_mode = transaction); name the database itself, or a "
                        "pool with pool_mode = session",
                        path="database.url",
                    )
        finally:
            await other.close()

    async def _take_lock_again(self) -> None:
        while True:
            await asyncio.sleep(0.2)
            try:
                connection = await self.connection()
                held = await connection.fetchval("SELECT pg_try_advisory_lock($1)", _LOCK)
                epoch = await connection.fetchval("SELECT epoch FROM lease WHERE shard = 0")
            except _AWAY:
                continue
            if epoch != self.epoch:
                await connection.close()
                raise ConfigError(
                    "another Trestle took over this database while we could not reach it"
                )
            if held:
                self._hold(connection)
                return
            await connection.close()

    async def _close(self) -> None:
        with contextlib.suppress(*_AWAY, TimeoutError):
            async with asyncio.timeout(5):
                await self.core.close()
                await self.subject.close()
                if self._lock is not None:
                    await self._lock.close()


async def _pool(connect: dict[str, Any], size: int) -> Pool:
    return await asyncpg.create_pool(
        **connect,
        min_size=1,
        max_size=size,
        max_inactive_connection_lifetime=0,
        command_timeout=30,
    )


@contextlib.contextmanager
def _only_one(state_dir: Path) -> Iterator[None]:
    """Hold the state directory's lock file; it ends with the process, however that ends."""
    state_dir.mkdir(mode=0o711, parents=True, exist_ok=True)
    descriptor = os.open(state_dir / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise ConfigError(
            f"another Trestle is at work in {state_dir}; stop it first, or give this one a "
            "state_dir of its own",
            path="state_dir",
        ) from error
    try:
        yield
    finally:
        os.close(descriptor)


async def _embedded_roles(server: EmbeddedPostgres, state_dir: Path) -> dict[str, dict[str, Any]]:
    """Have the roles and the database in our own server; give each role's connection."""
    path = state_dir / "keys" / "database"
    make_folder(path.parent)
    if not path.exists():
        names = (OWNER, CORE, SUBJECT)
        write_private(path, json.dumps({n: secrets.token_urlsafe(32) for n in names}).encode())
    passwords: dict[str, str] = json.loads(path.read_bytes())
    host = str(server.socket_dir)
    root: dict[str, Any] = {"user": "postgres", "password": server.password, "host": host}
    connection = await asyncpg.connect(**root, database="postgres")
    try:
        await connection.execute(roles_sql_without_schema())
        for role, password in passwords.items():
            # The password is ours and of an alphabet without quotes.
            await connection.execute(f"ALTER ROLE {role} LOGIN PASSWORD '{password}'")
        if not await connection.fetchval("SELECT 1 FROM pg_database WHERE datname = 'trestle'"):
            await connection.execute(f"CREATE DATABASE trestle OWNER {OWNER}")
    finally:
        await connection.close()
    return {
        name: {"user": role, "password": passwords[role], "host": host, "database": "trestle"}
        for name, role in (("owner", OWNER), ("core", CORE), ("subject", SUBJECT))
    }


async def _make_roles(dsn: str) -> None:
    """Have the three roles on a server by URL, if its role may make them."""
    connection = await asyncpg.connect(dsn, timeout=5)
    try:
        there = await connection.fetchval(
            "SELECT count(*) FROM pg_roles WHERE rolname = ANY($1) "
            "AND pg_has_role(current_user, oid, 'MEMBER')",
            [OWNER, CORE, SUBJECT],
        )
        if there < 3 or not await connection.fetchval(
            "SELECT has_schema_privilege($1, 'public', 'CREATE')", OWNER
        ):
            login = await connection.fetchval("SELECT current_user")
            await connection.execute(roles_sql(login=login))
    finally:
        await connection.close()


def roles_sql_without_schema() -> str:
    """The statements that make the three roles."""
    return "\n".join(line for line in roles_sql().splitlines() if "ON SCHEMA" not in line)


def _roles_of(settings: DatabaseSettings) -> dict[str, dict[str, Any]]:
    """Connections to a server by URL: the URL's role, acting as one of the three."""
    try:
        urlsplit(settings.url)
    except ValueError as error:
        raise ConfigError("it is not a URL", path="database.url") from error
    keepalives = {
        "tcp_keepalives_idle": "5",
        "tcp_keepalives_interval": "2",
        "tcp_keepalives_count": "3",
    }
    connect: dict[str, dict[str, Any]] = {}
    for name, role in (("owner", OWNER), ("core", CORE), ("subject", SUBJECT)):
        dsn = settings.owner_url or settings.url if name == "owner" else settings.url
        connect[name] = {"dsn": dsn, "server_settings": {**keepalives, "role": role}, "timeout": 5}
    return connect


def _first_line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
