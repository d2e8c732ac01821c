"""Killed in the middle of making the schema, at one statement after another."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg

from bridge.model import SystemClock
from bridge.settings.records import DatabaseSettings
from bridge.storage.pool import Database
from bridge.storage.schema import Connection, migrate, migrations, roles_sql, schema_version
from tests.rigs.cluster import Cluster
from tests.rigs.program import TrestleProgram
from tests.rigs.scale import chance, scaled
from tests.rigs.trestle import make_settings
from tests.storage.admin import until_it_sleeps

POINTS = max(2, scaled(50))
COUNT = """
CREATE SCHEMA holding;
CREATE SEQUENCE holding.passed;
CREATE TABLE holding.seen (statement bigint, version integer);
CREATE FUNCTION holding.hold() RETURNS event_trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    statement bigint := nextval('holding.passed');
BEGIN
    IF to_regclass('public.schema_version') IS NOT NULL THEN
        INSERT INTO holding.seen
            SELECT statement, coalesce(max(version), 0) FROM public.schema_version;
    END IF;
    IF statement = current_setting('holding.at')::bigint THEN
        PERFORM pg_sleep(600);
    END IF;
END
$$;
CREATE EVENT TRIGGER hold ON ddl_command_end EXECUTE FUNCTION holding.hold();
"""
"""Counts the statements that change the schema, and stops after one of them."""
SCHEMA = """
SELECT 'relation', relname::text FROM pg_class WHERE relnamespace = 'public'::regnamespace
UNION ALL SELECT 'column', relname || '.' || attname || ' ' || atttypid::regtype
    FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid
    WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p') AND attnum > 0
UNION ALL SELECT 'policy', polname || ' of ' || relname
    FROM pg_policy JOIN pg_class ON pg_class.oid = polrelid
UNION ALL SELECT 'constraint', conname::text FROM pg_constraint
    WHERE connamespace = 'public'::regnamespace
"""
"""By the catalogue's rows alone: what shows a definition waits for who changes it."""


async def test_killed_at_many_points_of_the_migrations_each_is_there_as_a_whole_or_not_at_all(
    cluster: Cluster, folder: Path
) -> None:
    versions = await count_statements(await cluster.fresh(), folder)
    schemas = await walk(await cluster.fresh())
    for point in chance("migrations").sample(sorted(versions), POINTS):
        where = f"killed at statement {point}"
        state_dir = folder / str(point)
        state_dir.mkdir()
        settings = await cluster.fresh()
        program = TrestleProgram(make_settings(state_dir, database=settings), state_dir, {})
        async with held(settings, at=point) as admin:
            async with asyncio.TaskGroup() as group:
                starting = group.create_task(start(program))
                await until_it_sleeps(admin)
                await program.kill()
            assert "ended with -9" in starting.result()
            assert await schema_version(admin) == versions[point], where
            assert await schema(admin) == schemas[versions[point]], where
            await hold_at(admin, 0)
            # What was killed still sleeps in the database; whoever comes next ends it.
            async with Database.open(settings, state_dir, SystemClock()):
                assert await schema(admin) == schemas[max(schemas)], where
        await program.start()
        await program.kill()


async def count_statements(settings: DatabaseSettings, state_dir: Path) -> dict[int, int]:
    """Which migration is the last one done at each statement of them that changes the schema."""
    async with held(settings, at=0) as admin, Database.open(settings, state_dir, SystemClock()):
        return {row[0]: row[1] for row in await admin.fetch("SELECT * FROM holding.seen")}


async def walk(settings: DatabaseSettings) -> dict[int, set[tuple[str, str]]]:
    """The schema after each of the migrations, and before the first (0)."""
    admin = await asyncpg.connect(settings.url)
    try:
        await admin.execute(roles_sql())
        await admin.execute("CREATE TABLE schema_version (version integer PRIMARY KEY)")
        schemas = {0: await schema(admin)}
        for place, (number, *_) in enumerate(migrations()):
            await migrate(admin, migrations()[: place + 1])
            schemas[number] = await schema(admin)
        return schemas
    finally:
        await admin.close()


@asynccontextmanager
async def held(settings: DatabaseSettings, *, at: int) -> AsyncIterator[Connection]:
    """A connection to a database that stops at a statement; 0: it only counts."""
    admin = await asyncpg.connect(settings.url)
    try:
        await admin.execute(COUNT)
        await hold_at(admin, at)
        yield admin
    finally:
        await admin.close()


async def hold_at(admin: Connection, statement: int) -> None:
    """Stop whoever connects from now on at that statement."""
    name = await admin.fetchval("SELECT current_database()")
    await admin.execute(f"ALTER DATABASE {name} SET holding.at = {statement}")
    await admin.execute(f"SET holding.at = {statement}")


async def schema(admin: Connection) -> set[tuple[str, str]]:
    """What the schema is made of, by the catalogue."""
    return {(row[0], row[1]) for row in await admin.fetch(SCHEMA)}


async def start(program: TrestleProgram) -> str:
    """Start it; give why it did not."""
    try:
        await program.start()
    except AssertionError as error:
        return str(error)
    return "it started"
