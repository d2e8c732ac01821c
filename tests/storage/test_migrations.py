"""Migrations: whole or not at all, only forwards, and with few rights."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

import asyncpg
import pytest

from bridge.model import SystemClock
from bridge.sdk.errors import ConfigError
from bridge.sdk.ids import InstanceId, RemoteChatId, RoomId
from bridge.settings.records import DatabaseSettings
from bridge.storage.door import AWAY
from bridge.storage.keys import DayKeys
from bridge.storage.pool import Database
from bridge.storage.portals import PortalStore
from bridge.storage.retention import Retention
from bridge.storage.schema import (
    APPLICATION,
    OWNER,
    Connection,
    Migration,
    migrate,
    migrations,
    roles_sql,
    schema_version,
)
from tests.rigs.cluster import Cluster, run_cluster
from tests.rigs.owner import owner_of
from tests.rigs.program import TrestleProgram
from tests.rigs.trestle import make_settings
from tests.storage.admin import admin_runs_what_is_printed, plain_role, until_it_sleeps

HOLD = """
CREATE FUNCTION hold() RETURNS event_trigger LANGUAGE plpgsql AS $$
BEGIN
    IF current_setting('hold.after', true) IN (
        SELECT object_identity FROM pg_event_trigger_ddl_commands()
    ) THEN
        PERFORM pg_sleep(600);
    END IF;
END
$$;
CREATE EVENT TRIGGER hold ON ddl_command_end WHEN TAG IN ('CREATE TABLE') EXECUTE FUNCTION hold();
"""
"""Stops a migration right after it has made the table in the setting ``hold.after``."""

NEXT = """
ALTER TABLE portal ADD COLUMN colour text;
ALTER TABLE portal NO FORCE ROW LEVEL SECURITY;
UPDATE portal SET colour = 'red';
ALTER TABLE portal FORCE ROW LEVEL SECURITY;
"""


async def tables(connection: Connection) -> set[str]:
    rows = await connection.fetch(
        "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace "
        "AND relkind IN ('r', 'p')"
    )
    return {row["relname"] for row in rows}


async def columns(connection: Connection, table: str) -> set[str]:
    rows = await connection.fetch(
        "SELECT column_name FROM information_schema.columns WHERE table_name = $1", table
    )
    return {row["column_name"] for row in rows}


async def test_a_program_killed_in_its_first_migration_leaves_nothing_and_runs_again(
    database_settings: DatabaseSettings, folder: Path
) -> None:
    admin = await asyncpg.connect(database_settings.url)
    name = await admin.fetchval("SELECT current_database()")
    await admin.execute(HOLD)
    await admin.execute(f"ALTER DATABASE {name} SET hold.after = 'public.vault'")
    program = TrestleProgram(make_settings(folder, database=database_settings), folder, {})
    async with asyncio.TaskGroup() as group:
        starting = group.create_task(_start(program))
        await until_it_sleeps(admin)
        await program.kill()
    assert "ended with -9" in starting.result()
    assert await tables(admin) <= {"schema_version"}
    await admin.execute(f"ALTER DATABASE {name} RESET hold.after")
    # What was killed still sleeps in the database; whoever comes next ends it.
    async with Database.open(database_settings, folder, SystemClock()):
        assert "vault" in await tables(admin)
        assert await schema_version(admin) == migrations()[-1][0]
    await admin.close()


async def _start(program: TrestleProgram) -> str:
    try:
        await program.start()
    except AssertionError as error:
        return str(error)
    return "it started"


async def test_a_later_migration_cut_in_the_middle_leaves_the_old_schema_and_runs_again(
    database: Database, admin: Connection
) -> None:
    await PortalStore(database).add(
        instance=InstanceId("near"), chat=RemoteChatId("#x"), chat_name="#x", room=RoomId("!r")
    )
    newest = migrations()[-1][0]
    owner = await owner_of(database)
    cut = [*migrations(), (newest + 1, "more", f"{NEXT} SELECT pg_sleep(600);")]
    async with asyncio.TaskGroup() as group:
        migrating = group.create_task(_migrate(owner, cut))
        await until_it_sleeps(admin)
        await admin.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event = 'PgSleep'"
        )
    assert migrating.result() == "cut"
    assert await schema_version(admin) == newest
    assert "colour" not in await columns(admin, "portal")
    again = await owner_of(database)
    assert await migrate(again, [*migrations(), (newest + 1, "more", NEXT)]) == newest + 1
    await again.close()
    assert await schema_version(admin) == newest + 1
    assert await admin.fetchval("SELECT colour FROM portal") == "red"


async def _migrate(owner: Connection, known: Sequence[Migration]) -> str:
    try:
        await migrate(owner, known)
    except AWAY:
        return "cut"
    return "it went through"


async def test_a_migration_that_fails_at_its_end_changes_nothing(
    database: Database, admin: Connection
) -> None:
    newest = migrations()[-1][0]
    owner = await owner_of(database)
    with pytest.raises(asyncpg.UndefinedTableError):
        await migrate(owner, [*migrations(), (newest + 1, "x", NEXT + "TABLE nowhere")])
    await owner.close()
    assert await schema_version(admin) == newest
    assert "colour" not in await columns(admin, "portal")


async def test_a_migration_that_would_be_shown_no_rows_fails_instead_of_moving_none(
    database: Database,
) -> None:
    newest = migrations()[-1][0]
    owner = await owner_of(database)
    blind = (newest + 1, "blind", "UPDATE portal SET paused = true")
    with pytest.raises(asyncpg.InsufficientPrivilegeError, match="row-level security"):
        await migrate(owner, [*migrations(), blind])
    await owner.close()


async def test_a_newer_schema_is_refused_and_left_as_it_is(
    migrated_settings: DatabaseSettings, folder: Path
) -> None:
    connection = await asyncpg.connect(migrated_settings.url)
    await connection.execute("INSERT INTO schema_version VALUES (999)")
    before = await tables(connection)
    with pytest.raises(ConfigError, match="schema 999, made by a newer Trestle"):
        async with Database.open(migrated_settings, folder, SystemClock()):
            raise AssertionError("it must not open")
    assert await tables(connection) == before
    await connection.close()


async def test_a_database_of_somebody_else_is_refused_and_left_as_it_is(
    cluster: Cluster, database_settings: DatabaseSettings, folder: Path
) -> None:
    admin = await asyncpg.connect(database_settings.url)
    await admin.execute("CREATE TABLE message (text text)")
    with pytest.raises(ConfigError, match=r'"message" already exists\. Give Trestle one'):
        async with Database.open(database_settings, folder, SystemClock()):
            raise AssertionError("it must not open")
    assert await tables(admin) == {"message", "schema_version"}
    await admin.close()


# --- rights ---


async def works(settings: DatabaseSettings, folder: Path) -> None:
    """It opens, has its tables of the day, and is no more than it should be."""
    async with Database.open(settings, folder, SystemClock()) as database:
        await Retention(database, DayKeys(folder, database.clock)).run_once()
        assert await database.core.fetchval("SELECT current_user") == "trestle_core"
        async with database.as_subject("@a:hs") as connection:
            assert await connection.fetchval("SELECT current_user") == "trestle_subject"


async def test_a_role_that_may_not_make_roles_is_told_what_its_admin_must_run(
    cluster: Cluster, folder: Path
) -> None:
    settings = await plain_role(cluster, "bridge_user")
    with pytest.raises(ConfigError, match="`trestle init --print-sql` prints what its admin"):
        async with Database.open(settings, folder, SystemClock()):
            raise AssertionError("it must not open")
    await admin_runs_what_is_printed(cluster, url=settings.url)
    await works(settings, folder)
    # It made nothing that others may use.
    stranger = await plain_role(cluster, "stranger")
    url = stranger.url.partition("@")[0] + "@" + settings.url.partition("@")[2]
    connection = await asyncpg.connect(url)
    for table in ("journal", "vault", "audit", "schema_version"):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.fetch(f"SELECT * FROM {table}")  # noqa: S608
    await connection.close()


async def test_two_roles_share_the_work_where_the_owner_is_another(
    cluster: Cluster, folder: Path
) -> None:
    daily = await plain_role(cluster, "daily")
    await cluster.execute("CREATE ROLE weekly LOGIN PASSWORD 'made-up'")
    owner_url = daily.url.replace("daily:", "weekly:")
    await admin_runs_what_is_printed(cluster, url=daily.url, owner_url=owner_url)
    both = DatabaseSettings(url=daily.url, owner_url=owner_url)
    await works(both, folder)
    # What was killed as it changed the tables holds up nobody, whoever they belong to.
    left = await asyncpg.connect(owner_url, server_settings={"application_name": APPLICATION})
    await left.execute("BEGIN; SET ROLE trestle_owner; LOCK TABLE portal")
    await works(both, folder)
    with pytest.raises(AWAY):
        await left.fetchval("SELECT 1")
    connection = await asyncpg.connect(daily.url)
    for statement in ("DROP TABLE vault", "SET ROLE trestle_owner"):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute(statement)
    await connection.close()


async def test_an_owner_that_is_the_same_role_by_another_way_keeps_our_lock(
    cluster: Cluster, folder: Path
) -> None:
    daily = await plain_role(cluster, "everyday")
    await admin_runs_what_is_printed(cluster, url=daily.url)
    await works(DatabaseSettings(url=daily.url, owner_url=cluster.by_tcp(daily).url), folder)


async def test_a_role_that_may_make_roles_needs_no_admin(folder: Path) -> None:
    async with run_cluster() as untouched:
        settings = await plain_role(untouched, "maker", "CREATEROLE")
        name = settings.url.partition("@/")[2].partition("?")[0]
        await untouched.execute(f"ALTER DATABASE {name} OWNER TO maker")
        for _ in range(2):
            await works(settings, folder)


async def test_the_migration_of_people_builds_on_the_first_alone(
    database_settings: DatabaseSettings,
) -> None:
    admin = await asyncpg.connect(database_settings.url)
    await admin.execute(roles_sql(login="postgres"))
    await admin.execute(f"SET ROLE {OWNER}")
    first, people = (next(one for one in migrations() if one[0] == n) for n in (1, 3))
    assert await migrate(admin, [first]) == 1
    assert await migrate(admin, [first, people]) == 3
    assert {"token", "link", "openid_used", "instance_key"} <= await tables(admin)
    await admin.close()


async def before_message_rooms(settings: DatabaseSettings) -> Connection:
    """A database as the version before 0028 left it."""
    admin = await asyncpg.connect(settings.url)
    await admin.execute(roles_sql(login="postgres"))
    await admin.execute(f"SET ROLE {OWNER}")
    await migrate(admin, [one for one in migrations() if one[0] < 28])
    return admin


async def brought_up_to_date(admin: Connection) -> None:
    """Have the rest of the migrations run."""
    await admin.execute(f"SET ROLE {OWNER}")
    await migrate(admin)
    await admin.execute("RESET ROLE")


async def test_of_messages_that_were_there_before_the_room_is_known_as_far_as_the_outbox_knows(
    database_settings: DatabaseSettings,
) -> None:
    admin = await before_message_rooms(database_settings)
    await admin.execute("""
        CREATE TABLE some_messages PARTITION OF message DEFAULT;
        CREATE TABLE some_entries PARTITION OF outbox DEFAULT;
        RESET ROLE;  -- Forced policies hold for the owner, too.
        INSERT INTO portal (id, instance, chat, chat_name, room, paused, made_at)
            OVERRIDING SYSTEM VALUE VALUES (1, 'near', '#x', '#x', '!new', false, now());
        INSERT INTO outbox (day, seq, received_at, room, sender, kind, transaction_id, content,
            part, portal, state, event_id, epoch)
            VALUES ('2026-01-01', 1, now(), '!old', '@carl:x', 'event', 't', '', 0, 1, 'sent',
            '$ours', 1);
        INSERT INTO message (day, portal, event_id, part, sender, kind) VALUES
            ('2026-01-01', 1, '$ours', 0, '@carl:x', 'message'),
            ('2026-01-01', 1, '$theirs', 0, '@alice:x', 'message'),
            ('2026-01-01', 2, '$of a chat that is gone', 0, '@alice:x', 'message')
    """)
    await brought_up_to_date(admin)
    rows = await admin.fetch("SELECT event_id, room FROM message ORDER BY event_id")
    assert [tuple(row) for row in rows] == [("$ours", "!old"), ("$theirs", "!new")]
    former = await admin.fetchval("SELECT former_rooms FROM portal")
    assert former == ["!old"]
    forced = "SELECT bool_and(relforcerowsecurity) FROM pg_class WHERE relname = ANY($1)"
    assert await admin.fetchval(forced, ["message", "outbox", "portal"])
    await admin.close()


async def test_a_chat_with_somebody_of_a_network_that_was_taken_for_the_bots_own_is_so_no_more(
    database_settings: DatabaseSettings,
) -> None:
    admin = await before_message_rooms(database_settings)
    await admin.execute("""
        RESET ROLE;
        INSERT INTO portal (instance, chat, chat_name, room, receiver, paused, made_at) VALUES
            ('near', 'carl', 'carl', '!carl', 1, false, now()),
            ('near', '#x', '#x', '!channel', NULL, false, now());
        INSERT INTO bot_room (user_id, room, direct_with, since) VALUES
            ('@bot:x', '!carl', '@alice:x', now()), ('@bot:x', '!channel', '@alice:x', now()),
            ('@bot:x', '!own', '@alice:x', now())
    """)
    await brought_up_to_date(admin)
    rows = await admin.fetch("SELECT room FROM bot_room WHERE direct_with IS NULL")
    assert [row["room"] for row in rows] == ["!carl"]
    assert await admin.fetchval(
        "SELECT relforcerowsecurity FROM pg_class WHERE relname = 'bot_room'"
    )
    await admin.close()
