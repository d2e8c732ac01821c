"""A look at the database that changes nothing, whether a Trestle is at work on it or not.

Everything is read inside database transactions that may not write, on connections of our own.
"""

import contextlib
import fcntl
import os
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import asyncpg

from bridge.model import Clock
from bridge.sdk.errors import ConfigError
from bridge.settings.records import DatabaseSettings
from bridge.storage.audit import Audit
from bridge.storage.door import first_line
from bridge.storage.lock import LOCK, refuse_old, refuse_pooling_proxy
from bridge.storage.pool import Database, only_one, told_as_settings
from bridge.storage.postgres import EmbeddedPostgres, socket_folder
from bridge.storage.roles import Access, Pool, access_by_url, access_to
from bridge.storage.schema import CORE, OWNER, SUBJECT, Connection, migrations, schema_version

_NAME = {"application_name": "trestle doctor"}
"""Not the name of a running Trestle's sessions: one that starts would end them."""

_CONNECT_LIMIT = 5.0
_STATEMENT_LIMIT = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What a database is like."""

    version: str
    encoding: str
    difference: float
    """Seconds by which its clock is ahead of ours."""
    size: int
    """Bytes."""
    data_directory: Path | None
    """Where it keeps its files, if it tells us; on its own machine."""
    is_standby: bool
    survives_power_cuts: bool
    """What it has committed is on its disk (``fsync`` and ``full_page_writes`` are on)."""
    in_use: bool
    """A Trestle holds the lock."""
    login: str
    is_superuser: bool
    connections: int
    """How many the role may have at once; negative for any number."""
    missing_roles: tuple[str, ...]
    refused_roles: tuple[tuple[str, str], ...]
    """Pairs of a role that we must act as, and which login may not."""
    may_make_roles: bool
    may_make_tables: bool
    unbound_roles: tuple[str, ...]
    """Those that row-level security does not bind."""
    schema: int | None
    """Its number; 0 for an empty database, None if we may not see it."""
    newest_schema: int
    """The number that this version of Trestle brings."""
    tables: tuple[str, ...]
    """What is there."""


@dataclass(frozen=True, slots=True)
class Looked:
    """What came of a look."""

    facts: Facts
    audit_faults: Sequence[str]
    """A sentence for each row of the audit that is not as it was written."""
    has_secrets: bool
    """Whether the vault holds anything, or did."""


def runs_in(state_dir: Path) -> bool:
    """Whether a Trestle is at work in the state directory.

    Raises ``ConfigError`` if we may not know.
    """
    try:
        descriptor = os.open(state_dir / "lock", os.O_RDONLY)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise ConfigError(
            f"{state_dir}/lock cannot be read: {error.strerror}; run this as Trestle's own user",
            path="state_dir",
        ) from error
    try:
        # Shared, and let go of at once: two of us do not get into each other's way.
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def has_embedded_data(state_dir: Path) -> bool:
    """Whether the embedded database was made already."""
    return (state_dir / "postgres" / "data" / "PG_VERSION").exists()


async def look(
    settings: DatabaseSettings, state_dir: Path, clock: Clock, *, is_running: bool
) -> Looked:
    """Look at the database; start the embedded one for that if no Trestle is running.

    The embedded one is never made (:func:`has_embedded_data`). Raises ``ConfigError`` with
    the way out: unreachable, too old, a proxy in between that would break the lock.
    """
    async with _reached(settings, state_dir, is_running=is_running) as access:
        with told_as_settings(settings), _told_as_foreign():
            async with (
                _session(access, CORE) as daily,
                _session(access, OWNER) as owner,
            ):
                refuse_old(daily)
                await refuse_pooling_proxy(daily, await _connect(access, CORE))
                facts = await _facts(daily, owner, clock, by_url=access.by_url)
                faults: list[str] = []
                secrets = False
                is_known = facts.schema is not None and 0 < facts.schema <= facts.newest_schema
                if is_known and (CORE, facts.login) not in facts.refused_roles:
                    faults = await _audit_faults(daily, access, state_dir, clock)
                    secrets = await _has_secrets(owner, facts)
    return Looked(facts, faults, secrets)


@contextlib.contextmanager
def _told_as_foreign() -> Iterator[None]:
    """Raise ``ConfigError`` if the database lacks what one of ours has."""
    try:
        yield
    except (asyncpg.UndefinedTableError, asyncpg.UndefinedColumnError) as error:
        raise ConfigError(
            f"the database is not as Trestle made it: {first_line(error)}; restore a backup",
            path="database.url",
        ) from error


@asynccontextmanager
async def _reached(
    settings: DatabaseSettings, state_dir: Path, *, is_running: bool
) -> AsyncIterator[Access]:
    if settings.url != "embedded":
        yield access_by_url(settings)
        return
    if is_running:
        yield access_to(socket_folder(state_dir), state_dir)
        return
    if state_dir.stat().st_uid != os.geteuid():
        raise ConfigError(
            f"the embedded database in {state_dir} is another user's, who could not use it if we "
            "started it; run this as the user who runs Trestle",
            path="state_dir",
        )
    with only_one(state_dir):
        server = EmbeddedPostgres(state_dir)
        try:
            await server.start(make=False)
            yield access_to(server.socket_dir, state_dir)
        finally:
            await server.stop()


async def _connect(access: Access, role: str) -> Connection:
    return await asyncpg.connect(
        **access.parameters[role], server_settings=_NAME, timeout=_CONNECT_LIMIT,
        command_timeout=_STATEMENT_LIMIT,
    )  # fmt: skip


@asynccontextmanager
async def _session(access: Access, role: str) -> AsyncIterator[Connection]:
    connection = await _connect(access, role)
    try:
        yield connection
    finally:
        with contextlib.suppress(TimeoutError, OSError, asyncpg.PostgresError):
            await connection.close(timeout=2)


# --- reading ---

_SERVER = """
SELECT current_setting('server_version') AS version,
    current_setting('server_encoding') AS encoding,
    clock_timestamp() AS now,
    pg_database_size(current_database()) AS size,
    (SELECT setting FROM pg_settings WHERE name = 'data_directory') AS data_directory,
    pg_is_in_recovery() AS is_standby,
    current_setting('fsync') = 'on' AND current_setting('full_page_writes') = 'on' AS durable,
    EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND granted AND classid = 0
        AND objid = $1 AND database = (SELECT oid FROM pg_database
            WHERE datname = current_database())) AS in_use,
    rolname AS login, rolsuper AS is_superuser, rolconnlimit AS connections
FROM pg_roles WHERE rolname = current_user
"""

_ROLES = """
SELECT rolname AS name, rolsuper OR rolbypassrls AS unbound,
    pg_has_role(current_user, oid, 'MEMBER') AS ours
FROM pg_roles WHERE rolname = ANY($1)
"""

_OWNER = """
SELECT current_user AS login, rolsuper OR rolcreaterole AS may_make_roles,
    CASE WHEN EXISTS (SELECT FROM pg_roles WHERE rolname = $1)
        THEN has_schema_privilege($1, 'public', 'CREATE') ELSE true END AS may_make_tables
FROM pg_roles WHERE rolname = current_user
"""

_TABLES = """
SELECT c.relname FROM pg_class c
WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition
ORDER BY 1
"""


async def _facts(daily: Connection, owner: Connection, clock: Clock, *, by_url: bool) -> Facts:
    async with daily.transaction(readonly=True):
        server = await daily.fetchrow(_SERVER, LOCK)
        ours = clock.now()
        roles = {row["name"]: row for row in await daily.fetch(_ROLES, [OWNER, CORE, SUBJECT])}
    async with owner.transaction(readonly=True):
        keeper = await owner.fetchrow(_OWNER, OWNER)
        keeps = await owner.fetch(_ROLES, [OWNER])
        tables = tuple(row["relname"] for row in await owner.fetch(_TABLES))
        schema = await _schema(owner)
    if server is None or keeper is None:
        raise RuntimeError("a session without a role")
    refused = [
        (name, str(server["login"]))
        for name in (CORE, SUBJECT)
        if name in roles and not roles[name]["ours"]
    ]
    refused += [(OWNER, str(keeper["login"])) for row in keeps if not row["ours"]]
    directory = server["data_directory"]
    return Facts(
        version=server["version"], encoding=server["encoding"],
        difference=(server["now"] - ours).total_seconds(), size=server["size"],
        data_directory=None if directory is None else Path(directory),
        is_standby=server["is_standby"], survives_power_cuts=server["durable"],
        in_use=server["in_use"], login=server["login"], is_superuser=server["is_superuser"],
        connections=server["connections"],
        missing_roles=tuple(name for name in (OWNER, CORE, SUBJECT) if name not in roles),
        refused_roles=tuple(refused) if by_url else (), may_make_roles=keeper["may_make_roles"],
        may_make_tables=keeper["may_make_tables"],
        unbound_roles=tuple(n for n in (CORE, SUBJECT) if n in roles and roles[n]["unbound"]),
        schema=schema, newest_schema=migrations()[-1][0], tables=tables,
    )  # fmt: skip


async def _schema(owner: Connection) -> int | None:
    try:
        async with owner.transaction():
            return await schema_version(owner)
    except asyncpg.InsufficientPrivilegeError:
        return None


async def _audit_faults(
    daily: Connection, access: Access, state_dir: Path, clock: Clock
) -> list[str]:
    if not (state_dir / "keys" / "audit").exists():
        return []  # Nothing was ever written to it; a look must not make its key.
    database = Database(clock, access)
    database.core = cast(Pool, daily)  # What it reads with: one connection answers as a pool does.
    async with daily.transaction(readonly=True, isolation="repeatable_read"):
        if access.by_url:
            await daily.execute(f"SET LOCAL ROLE {CORE}")
        return await Audit(database, state_dir).verify()


async def _has_secrets(owner: Connection, facts: Facts) -> bool:
    if "vault" not in facts.tables:
        return False
    async with owner.transaction(readonly=True):
        # Row-level security hides the rows from everybody but their subjects, not that there are
        # any: the table has a size from its first row on.
        return bool(await owner.fetchval("SELECT pg_relation_size('vault'::regclass) > 0"))
