"""Daily partitions: made ahead, dropped as a whole."""

import re
from datetime import date, timedelta

from bridge.storage.datamap import tables_by_day
from bridge.storage.schema import CORE, Connection

AHEAD = 7

_LOCK_LIMIT = "2s"


async def make_partitions(owner: Connection, today: date) -> None:
    """Have partitions for yesterday, today and a week ahead."""
    await wait_briefly(owner)
    for table in tables_by_day():
        for offset in range(-1, AHEAD + 1):
            await make_partition(owner, table, today + timedelta(days=offset))


async def has_partitions(owner: Connection, day: date) -> bool:
    """Whether the day has all its partitions."""
    names = [name_of(table, day) for table in tables_by_day()]
    return bool(await owner.fetchval(
        "SELECT bool_and(to_regclass(name) IS NOT NULL) FROM unnest($1::text[]) AS name", names
    ))  # fmt: skip


async def wait_briefly(owner: Connection) -> None:
    """Have what needs a whole table for itself give up soon, while a backup reads it, say.

    Whoever stores a row waits behind it meanwhile.
    """
    await owner.execute(f"SET lock_timeout = '{_LOCK_LIMIT}'")


async def make_partition(owner: Connection, table: str, day: date) -> None:
    """Have the partition of one day.

    It has no rights of its own, but that the core puts rows into the journal's.
    """
    name = name_of(table, day)
    if not await owner.fetchval("SELECT to_regclass($1) IS NOT NULL", name):
        await owner.execute(
            f"CREATE TABLE {name} PARTITION OF {table} "
            f"FOR VALUES FROM ('{day}') TO ('{day + timedelta(days=1)}')"
        )
        if table == "journal":
            # Its rows are updated once each, soon after: keep room on their pages.
            await owner.execute(f"ALTER TABLE {name} SET (fillfactor = 80)")
    if table == "journal" and not await owner.fetchval(
        "SELECT has_table_privilege($1::name, to_regclass($2), 'INSERT')", CORE, name
    ):
        await owner.execute(f"GRANT INSERT ON {name} TO {CORE}")


def name_of(table: str, day: date) -> str:
    """The partition of one day."""
    return f"{table}_{day:%Y%m%d}"


async def days_of(owner: Connection, table: str) -> list[date]:
    """The days that the table has partitions for, in order."""
    names = await owner.fetch(
        "SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid "
        "WHERE i.inhparent = $1::regclass",
        table,
    )
    found = []
    for row in names:
        match = re.fullmatch(table + r"_(\d{4})(\d{2})(\d{2})", row["relname"])
        if match:
            found.append(date(int(match[1]), int(match[2]), int(match[3])))
    return sorted(found)


async def drop_partition(owner: Connection, table: str, day: date) -> None:
    """Drop one day of the table, with its file."""
    await owner.execute(f"DROP TABLE IF EXISTS {name_of(table, day)}")
