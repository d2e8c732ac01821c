"""Carries all rows out of a database, as they were at one moment, and into another one.

Rows travel in Postgres' own binary form of ``COPY``, a table or a day of one at a time, in an
order that is the same on every server: so the digest of what was read is the digest of what is
read again at the other end. The tables themselves are not carried; migrations make them there.
Why not pg_dump: docs/adr/0008.
"""

import asyncio
import hashlib
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Collection,
    Coroutine,
    Mapping,
    Sequence,
)
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import date
from graphlib import TopologicalSorter
from typing import Any, NamedTuple

from bridge.model import Clock
from bridge.sdk.errors import ConfigError, TrestleError
from bridge.storage.datamap import tables_by_day, tables_by_moment
from bridge.storage.partitions import days_of, make_partition
from bridge.storage.retention import oldest_kept, past
from bridge.storage.schema import CORE, OWNER, Connection, migrate, migrations, schema_version

Connect = Callable[[str], Awaitable[Connection]]
"""Opens a connection as a role."""

Write = Callable[[bytes], Coroutine[Any, Any, None]]

_MADE_BY_MIGRATIONS = {"schema_version"}
_LOCK_LIMIT = "5s"


class Part(NamedTuple):
    """What is carried at a time: a table, or a day of one."""

    table: str
    day: date | None = None

    def __str__(self) -> str:
        return self.table if self.day is None else f"{self.table}/{self.day}"


@dataclass(frozen=True, slots=True)
class Carried:
    """What came of a part."""

    rows: int
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A table whose rows are carried."""

    name: str
    columns: tuple[str, ...]
    order: str
    """An order of its rows that is the same everywhere, in SQL."""
    by_day: bool
    bytes: int
    """About how much it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """What a database holds."""

    schema: int
    postgres: int
    """The server's major version."""
    generation: int
    epoch: int
    tables: Mapping[str, Table]
    parts: tuple[Part, ...]
    sequences: Mapping[str, int]

    @property
    def bytes(self) -> int:
        """About how much it is."""
        return sum(table.bytes for table in self.tables.values())


class Snapshot:
    """A database as it was at one moment, while others go on working with it."""

    def __init__(self, connect: Connect, moment: str, contents: Contents) -> None:
        self._connect = connect
        self._moment = moment
        self.contents = contents

    async def read(self, part: Part, write: Write) -> int:
        """Hand the part's rows to ``write``; return their number.

        In a database transaction of its own, so that no lock outlives it.
        """
        table = self.contents.tables[part.table]
        owner = await self._connect(OWNER)
        core = owner
        try:
            forced = await _must_be_lifted(owner, part.table)
            if not forced and not await _sees_all(owner):
                core = await self._connect(CORE)
            async with _rolled_back(core, self._moment):
                if forced:
                    # Nobody's policy shows all rows. Undone with the database transaction,
                    # however that ends; others wait meanwhile.
                    await core.execute(
                        f"SET LOCAL lock_timeout = '{_LOCK_LIMIT}'; "
                        f"ALTER TABLE {part.table} NO FORCE ROW LEVEL SECURITY"
                    )
                return await copy_out(core, table, part.day, write)
        finally:
            for connection in {owner, core}:
                await connection.close()


@asynccontextmanager
async def snapshot(connect: Connect, clock: Clock) -> AsyncIterator[Snapshot]:
    """Take a snapshot. Days that are over already are left out.

    Raises ``TrestleError`` if the database was never Trestle's, and at the end if its schema was
    changed meanwhile: a table that is written anew looks empty to whoever reads of before.
    """
    owner = await connect(OWNER)
    try:
        if not await schema_version(owner):
            raise TrestleError("the database is empty: Trestle has not run with it yet")
        async with owner.transaction(isolation="repeatable_read", readonly=True):
            moment = await owner.fetchval("SELECT pg_export_snapshot()")
            contents = await _contents(owner, clock)
            yield Snapshot(connect, moment, contents)
        if await schema_version(owner) != contents.schema:
            raise TrestleError("the database was upgraded meanwhile; make the backup again")
    finally:
        await owner.close()


async def copy_out(connection: Connection, table: Table, day: date | None, write: Write) -> int:
    """Hand a table's rows to ``write``, in order; return their number."""
    where = "" if day is None else f" WHERE day = '{day}'"
    query = f"SELECT {', '.join(table.columns)} FROM {table.name}{where} ORDER BY {table.order}"  # noqa: S608 - names of ours
    status = await connection.copy_from_query(query, output=write, format="binary")
    return int(status.split()[-1])


async def describe(connection: Connection) -> dict[str, Table]:
    """The tables of the owner's, whose rows are carried."""
    rows = await connection.fetch(
        "SELECT c.relname, c.relkind = 'p' AS by_day, "
        "(SELECT sum(pg_table_size(r.relid)) FROM pg_partition_tree(c.oid) r) AS bytes, "
        "(SELECT array_agg(attname::text ORDER BY attnum) FROM pg_attribute "
        "WHERE attrelid = c.oid AND attnum > 0 AND NOT attisdropped) AS columns, "
        "(SELECT array_agg(attname::text) FROM pg_attribute "
        "WHERE attrelid = c.oid AND attcollation <> 0) AS texts, "
        "(SELECT array_agg(a.attname::text ORDER BY k.place) FROM pg_constraint p, "
        "unnest(p.conkey) WITH ORDINALITY k (number, place) "
        "JOIN pg_attribute a ON a.attnum = k.number "
        "WHERE p.conrelid = c.oid AND p.contype = 'p' AND a.attrelid = c.oid) AS key "
        "FROM pg_class c WHERE c.relnamespace = 'public'::regnamespace "
        "AND c.relkind IN ('r', 'p') AND NOT c.relispartition "
        "AND c.relowner = to_regrole($1) ORDER BY c.relname",
        OWNER,
    )
    return {
        row["relname"]: Table(
            name=row["relname"],
            columns=tuple(row["columns"]),
            # Each server has an order of letters of its own.
            order=", ".join(
                f'{name} COLLATE "C"' if name in (row["texts"] or []) else name
                for name in row["key"] or row["columns"]
            ),
            by_day=row["by_day"],
            bytes=int(row["bytes"] or 0),
        )
        for row in rows
        if row["relname"] not in _MADE_BY_MIGRATIONS
    }


async def holds_rows(connection: Connection, connect: Connect) -> bool:
    """Whether somebody's rows are in it. A schema alone, or that it was opened, is nobody's."""
    tables = await describe(connection)
    core = await connect(CORE)
    try:
        reader = connection if await _sees_all(connection) else core
        for name in tables.keys() - {"instance_state", "lease"}:
            if not await reader.fetchval("SELECT has_table_privilege($1, 'SELECT')", name):
                continue
            if await reader.fetchval(f"SELECT EXISTS (SELECT FROM {name})"):  # noqa: S608
                return True
    finally:
        await core.close()
    return False


class Loader:
    """Fills a database with rows, inside one database transaction of its owner."""

    def __init__(self, owner: Connection, clock: Clock) -> None:
        self._owner = owner
        self._clock = clock
        self._tables: dict[str, Table] = {}
        self._forced: list[str] = []

    async def make_tables(self, schema: int, parts: Sequence[Part]) -> None:
        """Have the schema of that number, empty, with the days of the parts.

        Raises ``ConfigError`` if we do not know that schema.
        """
        known = migrations()
        if schema > known[-1][0]:
            raise ConfigError(
                f"the rows have schema {schema}, made by a newer Trestle; this one knows up to "
                f"{known[-1][0]}. Install the newer version again"
            )
        owner = self._owner
        await owner.execute(_EMPTY)
        await migrate(owner, [one for one in known if one[0] <= schema])
        for part in parts:
            if part.day is not None:
                await make_partition(owner, part.table, part.day)
        self._tables = await describe(owner)
        self._forced = [
            row["relname"]
            for row in await owner.fetch(
                "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace "
                "AND relname = ANY($1) AND relforcerowsecurity",
                list(self._tables),
            )
        ]
        for name in self._tables:
            await owner.execute(f"ALTER TABLE {name} NO FORCE ROW LEVEL SECURITY")
            await owner.execute(f"DELETE FROM {name}")  # noqa: S608 - what migrations put in

    async def in_order(self, parts: Sequence[Part]) -> list[Part]:
        """The parts, each behind what its rows refer to."""
        behind: dict[str, set[str]] = {part.table: set() for part in parts}
        for row in await self._owner.fetch(
            "SELECT conrelid::regclass::text AS of, confrelid::regclass::text AS to "
            "FROM pg_constraint WHERE contype = 'f' AND connamespace = 'public'::regnamespace "
            "AND conrelid <> confrelid"
        ):
            if row["of"] in behind:
                behind[row["of"]].add(row["to"])
        places = {name: at for at, name in enumerate(TopologicalSorter(behind).static_order())}
        return sorted(parts, key=lambda part: places[part.table])

    async def load(self, part: Part, columns: Sequence[str], pieces: AsyncIterator[bytes]) -> None:
        """Put in the rows of a part."""
        await self._owner.copy_to_table(
            part.table, source=pieces, columns=list(columns), format="binary"
        )

    async def check(self, part: Part, expected: Carried) -> None:
        """Read the part again. Raises ``TrestleError`` if it is not what was carried."""
        digest = hashlib.sha256()

        async def write(data: bytes) -> None:
            digest.update(data)

        rows = await copy_out(self._owner, self._tables[part.table], part.day, write)
        if Carried(rows, digest.hexdigest()) != expected:
            raise TrestleError(
                f"{part} came out differently: {rows} rows instead of {expected.rows}, or other "
                "ones. Nothing was changed; please report this"
            )

    async def forget(self) -> None:
        """Let go of rows whose time is over meanwhile. The days that are over were left out."""
        for table, keep in tables_by_moment().items():
            if table in self._tables:
                condition, moment = past(keep, self._clock)
                await self._owner.execute(
                    f"DELETE FROM {table} WHERE {condition}", moment  # noqa: S608 - names of ours
                )  # fmt: skip

    async def clear(self, tables: Collection[str]) -> None:
        """Let go of all rows of tables, as far as this schema has them."""
        for table in self._tables.keys() & set(tables):
            await self._owner.execute(f"DELETE FROM {table}")  # noqa: S608 - names of ours

    async def finish(self, sequences: Mapping[str, int]) -> None:
        """Have new numbers go on behind the old ones, and the policies bind the owner again."""
        for name, newest in sequences.items():
            await self._owner.execute("SELECT setval($1::regclass, $2)", name, newest)
        for name in self._forced:
            await self._owner.execute(f"ALTER TABLE {name} FORCE ROW LEVEL SECURITY")


def is_over(part: Part, clock: Clock) -> bool:
    """Whether retention has done with that day."""
    keep = tables_by_day().get(part.table)
    return (
        part.day is not None
        and keep is not None
        and part.day < oldest_kept(clock.today(), keep.days)
    )


# --- inside ---

_EMPTY = """
DO $$
DECLARE
    one record;
BEGIN
    FOR one IN SELECT oid::regclass AS name FROM pg_class
        WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p')
        AND NOT relispartition AND relowner = current_user::regrole
    LOOP
        EXECUTE format('DROP TABLE %s CASCADE', one.name);
    END LOOP;
    FOR one IN SELECT oid::regprocedure AS name FROM pg_proc
        WHERE pronamespace = 'public'::regnamespace AND proowner = current_user::regrole
    LOOP
        EXECUTE format('DROP ROUTINE %s CASCADE', one.name);
    END LOOP;
END
$$
"""


async def _contents(owner: Connection, clock: Clock) -> Contents:
    tables = await describe(owner)
    parts: list[Part] = []
    for table in tables.values():
        if not table.by_day:
            parts.append(Part(table.name))
            continue
        for day in await days_of(owner, table.name):
            # Days ahead have no rows yet; they are made again at the next start.
            if await owner.fetchval("SELECT pg_relation_size($1)", f"{table.name}_{day:%Y%m%d}"):
                parts.append(Part(table.name, day))
    return Contents(
        schema=await schema_version(owner),
        postgres=owner.get_server_version().major,
        generation=await owner.fetchval("SELECT generation FROM instance_state"),
        epoch=await owner.fetchval("SELECT max(epoch) FROM lease"),
        tables=tables,
        parts=tuple(part for part in parts if not is_over(part, clock)),
        sequences=await _sequences(owner),
    )


async def _sequences(owner: Connection) -> dict[str, int]:
    """The newest number of each that has given one."""
    found = {}
    for row in await owner.fetch(
        "SELECT oid::regclass::text AS name FROM pg_class WHERE relkind = 'S' "
        "AND relnamespace = 'public'::regnamespace AND relowner = to_regrole($1)",
        OWNER,
    ):
        newest = await owner.fetchrow(f"SELECT last_value, is_called FROM {row['name']}")  # noqa: S608
        if newest is not None and newest["is_called"]:
            found[row["name"]] = newest["last_value"]
    return found


async def _sees_all(connection: Connection) -> bool:
    return bool(
        await connection.fetchval(
            "SELECT rolsuper OR rolbypassrls FROM pg_roles WHERE rolname = current_user"
        )
    )


async def _must_be_lifted(connection: Connection, table: str) -> bool:
    """Whether only the owner, with the policies lifted, sees all rows of the table."""
    if await _sees_all(connection):
        return False
    return not await connection.fetchval(
        "SELECT has_table_privilege($2::name, c.oid, 'SELECT') AND (NOT relrowsecurity OR EXISTS ("
        "SELECT FROM pg_policy p WHERE p.polrelid = c.oid AND p.polpermissive "
        "AND p.polcmd IN ('*', 'r') AND p.polroles && ARRAY[0::oid, to_regrole($2)::oid] "
        "AND pg_get_expr(p.polqual, p.polrelid) = 'true')) "
        "FROM pg_class c WHERE c.oid = $1::regclass",
        table, CORE,
    )  # fmt: skip


@asynccontextmanager
async def _rolled_back(connection: Connection, moment: str) -> AsyncIterator[None]:
    """A database transaction at the moment of a snapshot that leaves no trace."""
    transaction = connection.transaction(isolation="repeatable_read")
    await transaction.start()
    try:
        await connection.execute(f"SET TRANSACTION SNAPSHOT '{moment}'")
        yield
    finally:
        if not connection.is_closed():
            await transaction.rollback()


async def pipe(
    read: Callable[[Write], Awaitable[int]],
    load: Callable[[AsyncIterator[bytes]], Awaitable[None]],
) -> Carried:
    """Read at one end and load at the other, a few pieces apart; tell what went through."""
    waiting: asyncio.Queue[bytes | None] = asyncio.Queue(16)
    digest = hashlib.sha256()
    rows = 0

    async def write(data: bytes) -> None:
        digest.update(data)
        await waiting.put(data)

    async def read_all() -> None:
        nonlocal rows
        rows = await read(write)
        await waiting.put(None)

    async def pieces() -> AsyncIterator[bytes]:
        while (data := await waiting.get()) is not None:
            yield data

    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(read_all())
            group.create_task(load(pieces()))  # type: ignore[arg-type]
    except BaseExceptionGroup as errors:
        raise _first(errors) from errors
    return Carried(rows, digest.hexdigest())


def _first(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    chosen: BaseException = errors
    while isinstance(chosen, BaseExceptionGroup):
        chosen = chosen.exceptions[0]
    return chosen
