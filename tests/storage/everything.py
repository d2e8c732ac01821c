"""A database with rows in every table, and all that is in one, to compare."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from bridge.model import AuditAction, Clock
from bridge.sdk.ids import UserId
from bridge.settings.records import DatabaseSettings
from bridge.storage.archive import Manifest, reading
from bridge.storage.audit import Audit
from bridge.storage.backup import Wanted, back_up
from bridge.storage.datamap import DATA_MAP
from bridge.storage.keys import DayKeys, EventKeys
from bridge.storage.labels import After, ByDay
from bridge.storage.partitions import make_partition
from bridge.storage.pool import Database
from bridge.storage.reach import readable
from bridge.storage.restore import SESSIONS, Restore, Restored
from bridge.storage.retention import Retention
from bridge.storage.schema import OWNER, Connection
from tests.rigs.owner import owner_of
from tests.storage.rows import insert

_KEPT_BY_ITSELF = {"schema_version", "instance_state", "lease", "audit"}


async def fill(settings: DatabaseSettings, state_dir: Path, clock: Clock) -> None:
    """Have rows in every table, the keys, and an audit that is whole."""
    async with Database.open(settings, state_dir, clock) as database:
        day_keys = DayKeys(state_dir, clock)
        await Retention(database, day_keys).run_once()
        EventKeys(state_dir)
        audit = Audit(database, state_dir)
        for number in range(3):
            await audit.record(
                actor=UserId("@a:hs"), action=AuditAction.BRIDGE, target=f"room {number}"
            )
        owner = await owner_of(database)
        for day in days(clock):
            day_keys.seal(day, b"", b"")
            for table in DATA_MAP:
                if isinstance(table.keep, ByDay):
                    await make_partition(owner, table.name, day)
        await owner.close()
        async with seeing_all(settings, state_dir) as admin:
            for table in DATA_MAP:
                if table.name in _KEPT_BY_ITSELF:
                    continue
                fields = {}
                if isinstance(table.keep, After) and not table.keep.days:
                    # A restore leaves out what is over.
                    fields[table.keep.column] = clock.now() + timedelta(days=1)
                for day in days(clock):
                    await insert(admin, table, day, **fields)


def days(clock: Clock) -> list[date]:
    """Today and the oldest day that is kept of what was received."""
    return [clock.today() - timedelta(days=13), clock.today()]


@asynccontextmanager
async def seeing_all(settings: DatabaseSettings, state_dir: Path) -> AsyncIterator[Connection]:
    """A connection of the superuser's; an embedded server is started for it if need be."""
    async with readable(settings, state_dir) as connect:
        connection = await connect(OWNER)
        try:
            yield connection
        finally:
            await connection.close()


async def everything(
    settings: DatabaseSettings, state_dir: Path
) -> tuple[dict[str, list[Any]], list[str]]:
    """All rows, and all rights."""
    async with seeing_all(settings, state_dir) as admin:
        return await all_rows(admin), await all_rights(admin)


def come_back(found: tuple[dict[str, list[Any]], list[str]]) -> tuple[Any, list[str]]:
    """What comes back of it by a restore: all but the sessions."""
    rows, rights = found
    assert all(rows[table] for table in SESSIONS)
    return {**rows, **{table: [] for table in SESSIONS}}, rights


async def all_rows(connection: Connection) -> dict[str, list[Any]]:
    """Every row of every table, but for what each start and each restore changes."""
    found: dict[str, list[Any]] = {}
    for table in DATA_MAP:
        if table.name in ("instance_state", "lease"):
            continue
        order = ", ".join(table.columns)
        rows = await connection.fetch(f"SELECT {order} FROM {table.name} ORDER BY {order}")  # noqa: S608
        found[table.name] = [tuple(row) for row in rows]
    return found


RIGHTS = """
SELECT line FROM (
    SELECT concat_ws(
        ' ', relname,
        (SELECT string_agg(one::text, ' ' ORDER BY one::text) FROM unnest(relacl) one
            WHERE one::text NOT LIKE 'trestle_owner=%'),
        relowner::regrole, relrowsecurity, relforcerowsecurity, relnatts
    ) AS line FROM pg_class
    WHERE relnamespace = 'public'::regnamespace AND NOT relispartition AND relkind <> 'i'
    UNION ALL SELECT concat_ws(' ', polname, polrelid::regclass, polroles::regrole[], polcmd,
        pg_get_expr(polqual, polrelid)) FROM pg_policy
) AS lines ORDER BY line
"""
"""Beside what the owner may, of which later versions have more."""


async def all_rights(connection: Connection) -> list[str]:
    """Who may do what with each table."""
    return [row["line"] for row in await connection.fetch(RIGHTS)]


async def numbers(connection: Connection) -> tuple[int, int]:
    """Generation and epoch."""
    return (
        await connection.fetchval("SELECT generation FROM instance_state"),
        await connection.fetchval("SELECT epoch FROM lease"),
    )


EMPTY = Path()
"""Databases by URL are looked into from nowhere."""


@dataclass(frozen=True)
class Full:
    """A database with rows in every table, its state directory, and a backup of it."""

    settings: DatabaseSettings
    state_dir: Path
    file: Path


async def write(full: Full, file: Path, clock: Clock, wanted: Wanted | None = None) -> Manifest:
    return await back_up(
        file, full.settings, full.state_dir, clock=clock, server_name="hs", wanted=wanted
    )


async def put(
    file: Path, settings: DatabaseSettings, state_dir: Path, clock: Clock,
    *, force: bool = False,
) -> Restored:  # fmt: skip
    with reading(file) as found:
        return await Restore(found, settings, state_dir, clock=clock, force=force).run()


def files_of(state_dir: Path) -> dict[str, bytes]:
    """What lies in it, but for the lock and what is not the state."""
    return {
        str(path.relative_to(state_dir)): path.read_bytes()
        for path in state_dir.rglob("*")
        if path.is_file() and path.name not in ("lock", "last-backup")
    }


async def files_with(word: bytes, folder: Path) -> list[str]:
    """The files under the folder in which the word stands."""

    def search() -> Iterator[str]:
        for path in folder.rglob("*"):
            if path.is_file() and word in path.read_bytes():
                yield str(path.relative_to(folder))

    return await asyncio.to_thread(lambda: list(search()))
