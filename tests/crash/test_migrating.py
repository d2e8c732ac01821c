"""Killed in the middle of its first migration, at one statement after another."""

import asyncio
from pathlib import Path

import asyncpg

from bridge.model import SystemClock
from bridge.settings import DatabaseSettings
from bridge.storage.pool import Database
from bridge.storage.schema import migrations, schema_version
from tests.rigs.cluster import Cluster
from tests.rigs.program import TrestleProgram
from tests.rigs.scale import chance, scaled
from tests.rigs.trestle import make_settings
from tests.storage.test_migrations import tables, until_it_sleeps

POINTS = max(2, scaled(50))
COUNT = """
CREATE SCHEMA holding;
CREATE SEQUENCE holding.passed;
CREATE FUNCTION holding.hold() RETURNS event_trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    IF nextval('holding.passed') = current_setting('holding.at')::bigint THEN
        PERFORM pg_sleep(600);
    END IF;
END
$$;
CREATE EVENT TRIGGER hold ON ddl_command_end EXECUTE FUNCTION holding.hold();
"""
"""Counts the statements that change the schema, and stops after one of them."""


async def test_killed_at_many_points_of_the_first_migration_it_leaves_nothing_and_starts_clean(
    cluster: Cluster, folder: Path
) -> None:
    database_settings = await cluster.fresh()
    statements = await count_statements(await cluster.fresh(), folder / "counted")
    points = chance("migrations").sample(range(1, statements + 1), POINTS)
    admin = await asyncpg.connect(database_settings.url)
    name = await admin.fetchval("SELECT current_database()")
    await admin.execute(COUNT)
    program = TrestleProgram(make_settings(folder, database=database_settings), folder, {})
    for point in points:
        await admin.execute(f"ALTER DATABASE {name} SET holding.at = {point}")
        await admin.execute("SELECT setval('holding.passed', 1, false)")
        async with asyncio.TaskGroup() as group:
            starting = group.create_task(start(program))
            await until_it_sleeps(admin)
            await program.kill()
        assert "ended with -9" in starting.result()
        assert await tables(admin) <= {"schema_version"}, f"killed at statement {point}"
    await admin.execute(f"ALTER DATABASE {name} SET holding.at = 0")
    async with Database.open(database_settings, folder, SystemClock()):
        assert await schema_version(admin) == migrations()[-1][0]
    await program.start()
    assert await program.is_ready()
    await program.kill()
    await admin.close()


async def count_statements(settings: DatabaseSettings, state_dir: Path) -> int:
    """How many statements of a whole migration change the schema."""
    admin = await asyncpg.connect(settings.url)
    name = await admin.fetchval("SELECT current_database()")
    await admin.execute(COUNT)
    await admin.execute(f"ALTER DATABASE {name} SET holding.at = 0")
    async with Database.open(settings, state_dir, SystemClock()):
        count = int(await admin.fetchval("SELECT last_value FROM holding.passed"))
    await admin.close()
    return count


async def start(program: TrestleProgram) -> str:
    """Start it; give why it did not."""
    try:
        await program.start()
    except AssertionError as error:
        return str(error)
    return "it started"
