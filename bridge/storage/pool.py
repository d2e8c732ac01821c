"""An open database: our own server or one by URL, migrated, locked for us, a pool a role."""

import asyncio
import contextlib
import errno
import fcntl
import logging
import os
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import date, timedelta
from pathlib import Path
from urllib.parse import parse_qs

import asyncpg

from bridge.model import Clock
from bridge.sdk.errors import ConfigError, NotNow, TemporaryFailure
from bridge.settings.records import DatabaseSettings
from bridge.storage.door import AWAY, IS_AWAY, at_the_door, first_line
from bridge.storage.files import make_state_dir
from bridge.storage.lock import InstanceLock
from bridge.storage.partitions import AHEAD, has_partitions, make_partitions
from bridge.storage.postgres import EmbeddedPostgres, name_of, version_of
from bridge.storage.roles import (
    STATEMENT_LIMIT,
    Access,
    Pool,
    access_by_url,
    embedded_access,
    have_roles,
    refuse_unbound,
)
from bridge.storage.schema import CORE, OWNER, SUBJECT, Connection, migrate, refuse_another_schema
from bridge.storage.switch import refuse_undecided, settle, settle_by_rows

log = logging.getLogger(__name__)

_OPEN_LIMIT = 20.0
_START_AGAIN = 1.0
_COVER_LIMIT = 30.0
_PASSING = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EMFILE})
"""What may be well the next time that a folder is asked for."""
_TRACES = ("keys/audit", "audit.head", "postgres/owner.password")
"""Files that only an installation that was at work has."""


class Database:
    """An open database: migrated, locked for us, with a pool for each role."""

    def __init__(
        self, clock: Clock, access: Access, server: EmbeddedPostgres | None = None
    ) -> None:
        self.clock = clock
        self._access = access
        self._server = server
        self._lock = InstanceLock(access)
        self._trouble = ""
        """Why our own server did not start again, as it was logged."""
        self._covered = self.covered_until = date.min
        self._covering = asyncio.Lock()
        self.cover_limit = _COVER_LIMIT
        self.owner_limit = STATEMENT_LIMIT
        self.core: Pool
        self.subject: Pool
        self.up = True
        """False from the loss of the lock's connection until the lock is ours again."""

    @classmethod
    @asynccontextmanager
    async def open(
        cls, settings: DatabaseSettings, state_dir: Path, clock: Clock, *, as_it_is: bool = False
    ) -> AsyncIterator["Database"]:
        """Open it, and close everything on the way out.

        ``as_it_is``: it is neither made nor brought to this version's schema, but refused.

        Raises ``ConfigError`` with the way out: unreachable, a newer schema, another instance
        at work, a proxy in between that would break the lock.
        """
        async with contextlib.AsyncExitStack() as stack:
            stack.enter_context(only_one(state_dir))
            settle(state_dir)
            server = None
            if settings.url == "embedded":
                refuse_undecided(state_dir)
                if as_it_is:
                    refuse_none(state_dir)
                server = EmbeddedPostgres(state_dir)
                server.log.tidy(clock.today())
                stack.push_async_callback(server.stop)
                await server.start(make=not was_at_work(state_dir))
                with told_as_settings(settings):
                    access = await embedded_access(server, state_dir)
            else:
                access = access_by_url(settings)
            database = cls(clock, access, server)
            stack.push_async_callback(database._close)
            with told_as_settings(settings):
                await database._prepare(state_dir, as_it_is=as_it_is)
            yield database

    @property
    def epoch(self) -> int:
        """Stands in every write of state: a predecessor's late writes have no effect."""
        return self._lock.epoch

    @property
    def generation(self) -> int:
        """One more each time that the database is restored from a backup."""
        return self._lock.generation

    async def guard(self) -> None:
        """Hold the lock, through outages too; start our own server again when it ends.

        Runs until cancelled. Raises ``ConfigError`` when another instance took over: then this
        one must end.
        """
        while True:
            await self._lock.hold(self._server.end_if_it_waits if self._server else None)
            self.up = False
            log.warning("the database is away", extra={"event": "database_away"})
            while not await self._come_back():
                await asyncio.sleep(0.2)
            self.up, self._trouble = True, ""
            log.info("the database is back", extra={"event": "database_back"})

    async def connection(self) -> Connection:
        """Open a connection of the core's beside the pool."""
        return await self._access.connect(CORE)

    @asynccontextmanager
    async def as_owner(self) -> AsyncIterator[Connection]:
        """A connection as the owner of the tables, each of whose commands raises
        ``TimeoutError`` after ``owner_limit`` seconds."""
        owner = await self._access.connect(OWNER, limit=self.owner_limit)
        try:
            yield owner
            await owner.close(timeout=self.owner_limit)
        finally:
            owner.terminate()  # Of a server that says nothing no leave can be taken.

    @asynccontextmanager
    async def as_subject(self, subject: str) -> AsyncIterator[Connection]:
        """A database transaction that sees the rows of one person and no others."""
        with at_the_door():
            async with self.subject.acquire() as connection, connection.transaction():
                await connection.execute("SELECT set_config('trestle.subject', $1, true)", subject)
                yield connection  # type: ignore[misc]

    async def cover(self, today: date) -> None:
        """Have the tables of today and a week ahead. Costs nothing if they are known to be.

        Those of later days can wait while somebody reads the tables, for a backup say.
        Raises ``TemporaryFailure``, after ``cover_limit`` seconds at the latest.
        """
        if today != self._covered:
            # Whoever stores something asks for a new day's tables, and they are made only once.
            with at_the_door():
                async with asyncio.timeout(self.cover_limit), self._covering:
                    await self._cover(today)

    async def time_difference(self) -> float:
        """Seconds by which the database's clock is ahead of ours."""
        with at_the_door():
            theirs = await self.core.fetchval("SELECT clock_timestamp()")
        return float((theirs - self.clock.now()).total_seconds())

    def tidy_log(self) -> None:
        """Turn the log of our own server if the day is over. Call it every hour."""
        if self._server is not None:
            self._server.log.tidy(self.clock.today())

    async def _cover(self, today: date) -> None:
        if today == self._covered:
            return
        async with self.as_owner() as owner:
            is_ahead = await _have_tables(owner, today)
        if is_ahead:
            self._covered = today
            self.covered_until = today + timedelta(days=AHEAD)
        else:
            self.covered_until = max(self.covered_until, today)

    # --- opening and closing ---

    async def _prepare(self, state_dir: Path, *, as_it_is: bool) -> None:
        async with asyncio.timeout(_OPEN_LIMIT):
            # First of all: a newer instance must not change the tables under an older one.
            await self._lock.take()
            if self._access.by_url:
                await have_roles(self._access)
        async with self.as_owner() as owner:
            await settle_by_rows(state_dir, owner)
            await (refuse_another_schema(owner) if as_it_is else migrate(owner))
        async with asyncio.timeout(_OPEN_LIMIT):
            await self._lock.begin()
            self.core = await self._access.pool(CORE, size=8)
            self.subject = await self._access.pool(SUBJECT, size=4)
            for pool in (self.core, self.subject):
                async with pool.acquire() as connection:
                    await refuse_unbound(connection)  # type: ignore[arg-type]

    async def _come_back(self) -> bool:
        if self._server is not None and not self._server.is_running:
            try:
                await self._server.start(tries=4, make=False)
            except ConfigError as error:
                # It ran before, so this can pass: a full disk gets room again.
                trouble = re.sub(r"\d+", "", str(error))  # The numbers of processes differ.
                if trouble != self._trouble:
                    log.error("%s", error, extra={"event": "database_start_failed"})
                self._trouble = trouble
                await asyncio.sleep(_START_AGAIN)
                return False
        return await self._lock.take_again()

    async def _close(self) -> None:
        for name in ("core", "subject"):
            pool: Pool | None = getattr(self, name, None)
            if pool is None:
                continue
            try:
                async with asyncio.timeout(3):
                    await pool.close()
            except (*AWAY, TimeoutError):
                pool.terminate()
        if self._server is not None and not self._lock.is_held:
            await self._server.stop(at_once=True)
        with contextlib.suppress(*AWAY):
            await self._lock.release()


async def _have_tables(owner: Connection, today: date) -> bool:
    """Make the tables of today and a week ahead; False if those of later days must wait."""
    try:
        await make_partitions(owner, today)
    except asyncpg.LockNotAvailableError:
        if not await has_partitions(owner, today):
            raise
        return False
    return True


@contextlib.contextmanager
def told_as_settings(settings: DatabaseSettings) -> Iterator[None]:
    """Whatever keeps us from opening the database is a matter of settings, or passes."""
    try:
        yield
    except asyncpg.InsufficientPrivilegeError as error:
        raise ConfigError(
            f"the database does not let us: {error}. `trestle init --print-sql` prints what "
            "its admin must run",
            path="database.url",
        ) from error
    except asyncpg.DuplicateTableError as error:
        raise ConfigError(
            f"the database is somebody else's: {error}. Give Trestle one of its own",
            path="database.url",
        ) from error
    except (asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError) as error:
        raise NotNow(
            "somebody else is at work on the database's tables, a backup say; wait for its end, "
            "or end their sessions",
            path="database.url",
        ) from error
    except asyncpg.ReadOnlySQLTransactionError as error:
        raise NotNow(
            f"the database at {_place(settings)} lets nobody write: {error}. It may be a standby, "
            "or its disk is full, or its admin wants it so",
            path="database.url",
        ) from error
    except asyncpg.InvalidAuthorizationSpecificationError as error:
        raise ConfigError(f"the database refuses us: {error}", path="database.url") from error
    except asyncpg.InvalidCatalogNameError as error:
        raise ConfigError(f"{error}; make it, or name another", path="database.url") from error
    except TimeoutError as error:
        raise NotNow(
            f"no Postgres answers at {_place(settings)}; is the address right?",
            path="database.url",
        ) from error
    except (*AWAY, TemporaryFailure) as error:
        raise NotNow(
            f"the database at {_place(settings)} cannot be reached: {_reason(error)}; is it "
            "running, and the address right?",
            path="database.url",
        ) from error


def _reason(error: BaseException) -> str:
    """Why it failed: the system's own word, since asyncpg joins several into a long text."""
    if str(error).startswith(IS_AWAY) and error.__cause__ is not None:
        error = error.__cause__  # That it is away is said already.
    if isinstance(error, OSError) and error.errno is not None:
        return os.strerror(error.errno) if error.errno > 0 else str(error.strerror)
    return first_line(error)


def was_at_work(state_dir: Path) -> bool:
    """Whether there must be a database: then a new one would lock out the old one."""
    return any((state_dir / name).exists() for name in _TRACES)


def _place(settings: DatabaseSettings) -> str:
    """Where the database is, without its password."""
    if settings.url == "embedded":
        return "its socket"
    rest = settings.url.partition("://")[2].rpartition("@")[2]
    place, _, query = rest.partition("?")
    hosts = parse_qs(query).get("host", [])
    return ", ".join(hosts) if hosts else place.partition("/")[0] or "its socket"


def refuse_none(state_dir: Path) -> None:
    """Raise ``ConfigError`` if there is no embedded database yet."""
    if version_of(state_dir) is None:
        raise ConfigError(
            f"there is no embedded database in {state_dir}; the first start of Trestle makes it",
            path="state_dir",
        )


def refuse_another_owner(state_dir: Path) -> None:
    """Raise ``ConfigError`` if what we make there would be another user's than what is there.

    Nothing is said of a folder that is not there.
    """
    try:
        owner = state_dir.stat().st_uid
    except FileNotFoundError:
        return
    if owner != os.geteuid():
        who = name_of(owner)
        raise ConfigError(
            f"{state_dir} belongs to {who}, who could not read what is made there now; run this "
            f"as that user (runuser -u {who} -- trestle ...)",
            path="state_dir",
        )


class AtWork(NotNow):
    """Another Trestle is at work in the state directory."""


@contextlib.contextmanager
def only_one(state_dir: Path) -> Iterator[None]:
    """Hold the state directory's lock file; it ends with the process, however that ends.

    Raises :class:`AtWork`, and ``ConfigError`` if the directory cannot be used.
    """
    try:
        make_state_dir(state_dir)
        descriptor = os.open(state_dir / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        kind = NotNow if error.errno in _PASSING else ConfigError
        raise kind(
            f"{state_dir} cannot be used: {error.strerror}; it must be a folder that this user "
            "may write to",
            path="state_dir",
        ) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise AtWork(
            f"another Trestle is at work in {state_dir}; stop it first, or give this one a "
            "state_dir of its own",
            path="state_dir",
        ) from error
    try:
        yield
    finally:
        os.close(descriptor)
