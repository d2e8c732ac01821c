"""The lock that makes us the only instance at work on a database."""

import asyncio
import logging
import secrets
from collections.abc import Callable

import asyncpg

from bridge.sdk.errors import ConfigError, NotNow
from bridge.storage.door import AWAY, BUSY
from bridge.storage.roles import Access, be_missed
from bridge.storage.schema import APPLICATION, BACKUP, CORE, OWNER, Connection
from bridge.waits import is_set_within

log = logging.getLogger(__name__)

LOCK = 7_218_450
"""The number of the lock in ``pg_locks``."""

_TAKE_LIMIT = 0.8
"""Seconds: a lock that was just let go is waited for, another instance is not."""

_MISSED = 11
"""Seconds after which the lock of a dead machine is free."""

_BEAT = 3.0
_AGAIN_LIMIT = 15.0
_OLDEST_SERVER = 15

_BROKEN_BY_POOLING = (
    asyncpg.DuplicatePreparedStatementError,
    asyncpg.InvalidSQLStatementNameError,
)


class InstanceLock:
    """A lock of a session, on a connection of its own that does nothing else."""

    def __init__(self, access: Access) -> None:
        self._access = access
        self._connection: Connection | None = None
        self._dropped = asyncio.Event()
        self.epoch = 0
        """Every write of state carries it; one more each time that the lock is taken."""
        self.generation = 0
        """One more each time that the database is restored from a backup."""
        self.limit = _AGAIN_LIMIT
        """Seconds for which a try to take it again may last."""

    async def take(self, *, alone: bool = False) -> None:
        """Take the lock. Raises ``ConfigError`` if another has it or it would mean nothing.

        What a predecessor left is ended; with ``alone`` a backup too that is being made.
        """
        connection = await self._log_in()
        names = (APPLICATION, *([BACKUP] if alone else []))
        try:
            await self._wait_for_turn(connection)
            ours = await connection.fetchval("SELECT pg_backend_pid()")
            await self._end(connection, ours, *names)
            await self._end_of_owner(ours, *names)
        except BaseException:
            connection.terminate()
            raise
        self._keep(connection)

    async def begin(self) -> None:
        """Begin an epoch: what an earlier holder still writes has no effect from now on."""
        connection = self._held()
        await self._access.become(CORE)(connection)
        self.epoch = await connection.fetchval(
            "UPDATE lease SET epoch = epoch + 1, owner = $1 WHERE shard = 0 RETURNING epoch",
            secrets.token_hex(8),
        )
        self.generation = await connection.fetchval("SELECT generation FROM instance_state")

    @property
    def is_held(self) -> bool:
        """Whether the connection is there."""
        return self._connection is not None and not self._dropped.is_set()

    async def hold(self, on_beat: Callable[[], None] | None = None) -> None:
        """Return when the connection is lost. Raises ``ConfigError`` when another took over.

        ``on_beat`` is called every few seconds.
        """
        while not self._dropped.is_set():
            if not await is_set_within(_BEAT, self._dropped):
                if on_beat is not None:
                    on_beat()
                await self._beat()

    async def take_again(self) -> bool:
        """Try to have the lock back after an outage, and to go on as if nothing had been.

        Raises ``ConfigError`` if another had it in the meantime.
        """
        try:
            async with asyncio.timeout(self.limit):
                connection = await self._log_in()
        except (*AWAY, *BUSY):
            return False
        try:
            async with asyncio.timeout(self.limit):
                held = await self._try(connection)
                await self._access.become(CORE)(connection)
                epoch = await connection.fetchval("SELECT epoch FROM lease WHERE shard = 0")
            self._check(epoch)
        except AWAY:
            connection.terminate()
            return False
        except BaseException:
            connection.terminate()
            raise
        if not held:
            connection.terminate()
            return False
        self._keep(connection)
        return True

    async def release(self) -> None:
        """Let go of it."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close(timeout=2)

    # --- inside ---

    def _held(self) -> Connection:
        if self._connection is None:
            raise RuntimeError("the lock is not taken")
        return self._connection

    def _keep(self, connection: Connection) -> None:
        self._connection = connection
        dropped = self._dropped = asyncio.Event()
        connection.add_termination_listener(lambda _: dropped.set())

    def _check(self, epoch: int | None) -> None:
        if epoch != self.epoch:
            raise ConfigError("another Trestle took over this database; this one ends")

    async def _beat(self) -> None:
        """Look whether the connection answers and the lock is still ours."""
        connection = self._held()
        try:
            async with asyncio.timeout(_BEAT):
                held = await connection.fetchval(
                    "SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND granted "
                    "AND objid = $1 AND pid = pg_backend_pid())",
                    LOCK,
                )
                epoch = await connection.fetchval("SELECT epoch FROM lease WHERE shard = 0")
        except AWAY:
            connection.terminate()
            self._dropped.set()
            return
        self._check(epoch)
        if not held:
            raise ConfigError(_PROXY, path="database.url")

    async def _log_in(self) -> Connection:
        connection = await self._access.log_in(CORE)
        try:
            refuse_old(connection)
            other = await self._access.log_in(CORE)
            await refuse_pooling_proxy(connection, other)
            await be_missed(connection, _MISSED)
        except BaseException:
            connection.terminate()
            raise
        return connection

    async def _wait_for_turn(self, connection: Connection) -> None:
        try:
            async with asyncio.timeout(_TAKE_LIMIT):
                while not await self._try(connection):
                    await asyncio.sleep(0.1)
        except TimeoutError as error:
            raise NotNow(
                "another Trestle is at work on this database; stop it first, or give this one a "
                "database of its own",
                path="database.url",
            ) from error

    async def _end(self, connection: Connection, ours: int, *names: str) -> None:
        """End the sessions of these names: what an instance left that is gone, or cut off.

        A migration, or a database transaction that a dead machine never ended, would hold up
        ours for hours. Whoever has the lock, in the session ``ours``, is the only one who has
        sessions.
        """
        await connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND usename = session_user "
            "AND application_name = ANY($1) AND pid NOT IN (pg_backend_pid(), $2)",
            names, ours,
        )  # fmt: skip

    async def _end_of_owner(self, ours: int, *names: str) -> None:
        """The same for a role of its own that owns the tables: no other may end its sessions."""
        as_role = self._access.parameters
        if not self._access.by_url or as_role[OWNER] == as_role[CORE]:
            return
        owner = await self._access.log_in(OWNER)
        try:
            # It may be the same role after all, by another way to the server.
            await self._end(owner, ours, *names)
        finally:
            owner.terminate()

    async def _try(self, connection: Connection) -> bool:
        return bool(await connection.fetchval("SELECT pg_try_advisory_lock($1)", LOCK))


def refuse_old(connection: Connection) -> None:
    """Raise ``ConfigError`` if the server lacks what our tables need."""
    version = connection.get_server_version().major
    if version < _OLDEST_SERVER:
        raise ConfigError(
            f"the database is Postgres {version}; Trestle needs {_OLDEST_SERVER} or newer",
            path="database.url",
        )


async def refuse_pooling_proxy(connection: Connection, other: Connection) -> None:
    """Raise ``ConfigError`` where a proxy hands sessions around: a lock would mean nothing.

    While ``other``, which ends here, is inside a database transaction, a proxy must give
    ``connection`` a different session, or give the other one the first one's.
    """
    try:
        mine = await connection.fetchval("SELECT pg_backend_pid()")
        token = secrets.token_hex(8)
        await connection.execute(f"SET trestle.probe = '{token}'")
        # No block whose end would wait for a rollback, though the caller's patience is over.
        await other.execute("BEGIN")
        theirs = await other.fetchval("SELECT pg_backend_pid()")
        again = await connection.fetchval("SELECT pg_backend_pid()")
        probe = await connection.fetchval("SELECT current_setting('trestle.probe', true)")
        if mine == theirs or mine != again or probe != token:
            raise ConfigError(_PROXY, path="database.url")
    except _BROKEN_BY_POOLING as error:
        raise ConfigError(_PROXY, path="database.url") from error
    except asyncpg.PostgresConnectionError as error:
        if "statement pooling" not in str(error):
            raise
        raise ConfigError(_PROXY, path="database.url") from error
    finally:
        other.terminate()


_PROXY = (
    "between us and the database stands a proxy that pools transactions or statements "
    "(PgBouncer's pool_mode = transaction); name the database itself, or a pool with "
    "pool_mode = session"
)
