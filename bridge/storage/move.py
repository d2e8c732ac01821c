"""Carrying the database elsewhere: to a server, back, or to another major version.

The rows are read at one moment, loaded in one database transaction, and read again there; only
when each table is what it was, the new one takes the old one's place. The old one stays.
"""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from bridge.model import Clock
from bridge.sdk.errors import ConfigError, TrestleError
from bridge.settings.records import DatabaseSettings
from bridge.storage.backup import Report, quiet
from bridge.storage.carry import Carried, Connect, Loader, Part, holds_rows, pipe, snapshot
from bridge.storage.lock import InstanceLock
from bridge.storage.pool import told_as_settings
from bridge.storage.postgres import EmbeddedPostgres, version_of
from bridge.storage.programs import MAJOR, find_programs
from bridge.storage.reach import alone_in, by_access, refuse_nothing, started
from bridge.storage.roles import access_by_url, embedded_access, have_roles
from bridge.storage.schema import OWNER, Connection
from bridge.storage.switch import (
    Switch,
    aside_name,
    decide,
    make_incoming,
    refuse_undecided,
    settle,
    undone_unless_decided,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Moved:
    """What was carried."""

    tables: int
    rows: int
    old: Path | None
    """Where the old database is, if it is ours."""


async def move_to_url(
    source: DatabaseSettings, target: DatabaseSettings, state_dir: Path, *, clock: Clock,
    report: Report = quiet,
) -> Moved:  # fmt: skip
    """Carry everything to an empty database by URL. Nothing says yet that it is the one to use.

    Raises ``TrestleError`` with the reason; then the target is as it was.
    """
    with alone_in(state_dir):
        async with (
            _source(source, state_dir) as connect,
            _target(target) as owner,
            owner.transaction(),
        ):
            moved = await _carry(connect, owner, clock, report)
    old = state_dir / "postgres" if source.url == "embedded" else None
    return Moved(tables=moved.tables, rows=moved.rows, old=old)


async def move_to_embedded(
    source: DatabaseSettings, state_dir: Path, *, clock: Clock, report: Report = quiet
) -> Moved:
    """Carry everything from a database by URL into the embedded one.

    An embedded database that was there before is put aside. Raises ``TrestleError``.
    """
    with alone_in(state_dir):
        async with _source(source, state_dir) as connect:
            moved = await _into_new(connect, state_dir, "move", clock, report)
        settle(state_dir)
    return moved


async def upgrade(
    state_dir: Path, *, clock: Clock, programs: Path | None = None, report: Report = quiet
) -> Moved | None:
    """Carry the embedded database over to our major version; None if it has it already.

    ``programs`` is where the old version's programs are, if somebody knows. Raises
    ``TrestleError`` if they are nowhere.
    """
    with alone_in(state_dir):
        refuse_undecided(state_dir)
        old = version_of(state_dir)
        if old is None:
            raise ConfigError(f"there is no embedded database in {state_dir}", path="state_dir")
        if old == MAJOR:
            return None
        if not old.isdigit() or int(old) > int(MAJOR):
            raise ConfigError(
                f"the embedded database was made by Postgres {old}, newer than ours ({MAJOR}); "
                "install the newer Trestle again",
                path="state_dir",
            )
        if find_programs(old, programs) is None:
            raise TrestleError(
                f"the database was made by Postgres {old}, whose programs are needed once to read "
                f"it and are not on this machine. Install them (Debian: postgresql-{old}), or "
                "name their folder with --programs; or restore a backup with `trestle restore "
                "--force FILE`, which needs no old programs"
            )
        server = EmbeddedPostgres(state_dir, major=old, programs=programs)
        async with started(server) as connect:
            moved = await _into_new(connect, state_dir, "upgrade", clock, report)
        settle(state_dir)  # Not before the old server has stopped.
    return moved


# --- inside ---


async def _into_new(
    connect: Connect, state_dir: Path, why: str, clock: Clock, report: Report
) -> Moved:
    """Carry everything into a new embedded database, and decide that it is the one."""
    switch = Switch(names=("postgres",), aside=aside_name(state_dir, why, clock.now()))
    with undone_unless_decided(state_dir), told_as_settings(DatabaseSettings()):
        new = await make_incoming(state_dir)
        server = EmbeddedPostgres(new)
        async with started(server):
            access = await embedded_access(server, new)
            owner = await access.connect(OWNER)
            try:
                async with owner.transaction():
                    moved = await _carry(connect, owner, clock, report)
            finally:
                await owner.close()
        decide(state_dir, switch)
    return Moved(tables=moved.tables, rows=moved.rows, old=state_dir / switch.aside)


@asynccontextmanager
async def _source(settings: DatabaseSettings, state_dir: Path) -> AsyncIterator[Connect]:
    """Have the database to read from, and nobody else at work with it."""
    async with AsyncExitStack() as stack:
        with told_as_settings(settings):
            refuse_undecided(state_dir)
            if settings.url == "embedded":
                server = refuse_nothing(state_dir)
                connect = await stack.enter_async_context(started(server))
            else:
                access = access_by_url(settings)
                lock = InstanceLock(access)
                await lock.take()
                stack.push_async_callback(lock.release)
                connect = by_access(access)
        yield connect


@asynccontextmanager
async def _target(settings: DatabaseSettings) -> AsyncIterator[Connection]:
    """Have an empty database by URL, and nobody else at work with it."""
    async with AsyncExitStack() as stack:
        with told_as_settings(settings):
            access = access_by_url(settings)
            lock = InstanceLock(access)
            await lock.take()
            stack.push_async_callback(lock.release)
            await have_roles(access)
            owner = await access.connect(OWNER)
            stack.push_async_callback(owner.close)
            if await holds_rows(owner, by_access(access)):
                raise TrestleError(
                    "the database to move to holds a Trestle's rows already; give it an empty "
                    "one, or drop those first"
                )
            yield owner


async def _carry(connect: Connect, owner: Connection, clock: Clock, report: Report) -> Moved:
    carried: dict[Part, Carried] = {}
    async with snapshot(connect, clock) as moment:
        contents = moment.contents
        loader = Loader(owner, clock)
        await loader.make_tables(contents.schema, contents.parts)
        for done, part in enumerate(await loader.in_order(contents.parts)):
            report(str(part), done, 2 * len(contents.parts))
            columns = contents.tables[part.table].columns
            carried[part] = await pipe(
                lambda write, part=part: moment.read(part, write),  # type: ignore[misc]
                lambda pieces, part=part, columns=columns: loader.load(part, columns, pieces),  # type: ignore[misc]
            )
        for done, (part, expected) in enumerate(carried.items(), len(carried)):
            report(f"checking {part}", done, 2 * len(carried))
            await loader.check(part, expected)
        await loader.finish(contents.sequences)
    return Moved(
        tables=len(contents.tables), rows=sum(one.rows for one in carried.values()), old=None
    )
