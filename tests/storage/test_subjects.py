"""Row-level security: whoever acts as one person sees that person's rows and no others."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta

import asyncpg
import pytest
import pytest_asyncio

from bridge.sdk.errors import PermanentFailure, TemporaryFailure
from bridge.settings.records import DatabaseSettings
from bridge.storage.datamap import DATA_MAP
from bridge.storage.pool import Database
from bridge.storage.schema import CORE, OWNER, SUBJECT, Connection
from tests.rigs.owner import owner_of
from tests.rigs.scale import chance, scaled
from tests.storage.rows import insert

ALICE, BEA = "@alice:hs", "@bea:hs"
OF_SUBJECTS = {table.name: table for table in DATA_MAP if table.subject is not None}
SHOWN = (
    "portal", "message", "login", "bot_room", "told", "module_store", "timer", "acceptance",
    "access", "audit", "opt_out", "subject_key", "vault", "token", "double_puppet",
    "remote_account", "consent", "chat_block", "policy_list",
)  # fmt: skip
"""What a person may read of their own."""

UNFORCED = (
    "SELECT c.relname FROM pg_class c WHERE c.relname = ANY($1) "
    "AND NOT (c.relrowsecurity AND c.relforcerowsecurity) "
    "AND c.relnamespace = 'public'::regnamespace"
)
UNKNOWN = (
    "SELECT DISTINCT c.relname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid "
    "WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition "
    "AND c.relnamespace = 'public'::regnamespace AND NOT a.attisdropped "
    "AND a.attname = ANY($1) AND NOT (c.relrowsecurity AND c.relforcerowsecurity)"
)
"""Tables with a column named like those that name a person, known to the map or not."""

OPEN_PARTS = (
    "SELECT c.relname FROM pg_class c WHERE c.relkind = 'r' AND c.relispartition "
    "AND c.relnamespace = 'public'::regnamespace AND EXISTS (SELECT FROM unnest($1::text[]) r "
    "WHERE has_any_column_privilege(r, c.oid, 'SELECT, UPDATE') "
    "OR has_any_column_privilege(r, c.oid, 'INSERT') "
    "AND NOT (r = $2 AND c.relname LIKE 'journal%'))"
)
"""Days to which a role has rights of their own, but for the core's to put rows into a journal."""

OPEN_TO_SUBJECTS = (
    "SELECT c.relname FROM pg_class c WHERE c.relkind IN ('r', 'p', 'v', 'm') "
    "AND c.relnamespace = 'public'::regnamespace AND EXISTS (SELECT FROM unnest($1::text[]) r "
    "WHERE has_any_column_privilege(r, c.oid, 'SELECT, INSERT, UPDATE'))"
)
VIEWS_OF_THEIR_OWNERS = (
    "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND (relkind = 'm' "
    "OR relkind = 'v' AND NOT 'security_invoker=true' = ANY(coalesce(reloptions, '{}')))"
)
FUNCTIONS_OF_THEIR_OWNERS = (
    "SELECT proname FROM pg_proc WHERE prosecdef AND pronamespace = 'public'::regnamespace"
)
ABOVE_POLICIES = (
    "SELECT rolname FROM pg_roles WHERE rolname = ANY($1) AND (rolsuper OR rolbypassrls)"
)
MISSING_POLICIES = (
    "SELECT c.relname FROM pg_class c WHERE c.relname = ANY($1) AND NOT EXISTS ("
    "SELECT FROM pg_policy p WHERE p.polrelid = c.oid AND p.polroles = ARRAY[$2::regrole::oid] "
    "AND p.polcmd = '*' AND pg_get_expr(p.polqual, p.polrelid) LIKE '%trestle.subject%' "
    "AND pg_get_expr(p.polwithcheck, p.polrelid) LIKE '%trestle.subject%')"
)
OTHER_POLICIES = (
    "SELECT p.polname || ' on ' || p.polrelid::regclass FROM pg_policy p "
    "WHERE p.polroles && ARRAY[0::oid, $1::regrole::oid] AND p.polname <> 'own'"
)


WAYS_PAST = {
    "ALTER TABLE timer NO FORCE ROW LEVEL SECURITY": "timer",
    "ALTER TABLE message DISABLE ROW LEVEL SECURITY": "message",
    "DROP POLICY own ON vault": "vault",
    "ALTER POLICY own ON vault WITH CHECK (true)": "vault",
    "CREATE POLICY more ON login TO trestle_subject USING (true)": "more on login",
    "CREATE POLICY more ON told TO PUBLIC USING (true)": "more on told",
    "CREATE VIEW people AS SELECT * FROM login": "people",
    "CREATE MATERIALIZED VIEW people AS SELECT * FROM login": "people",
    "GRANT SELECT ON journal TO trestle_subject": "journal",
    "GRANT SELECT (room) ON outbox TO trestle_subject": "outbox",
    "GRANT SELECT ON device TO PUBLIC": "device",
    "ALTER ROLE trestle_core BYPASSRLS": "trestle_core",
    "ALTER TABLE token NO FORCE ROW LEVEL SECURITY": "token",
    "CREATE TABLE person (subject text)": "person",
    "CREATE FUNCTION peek() RETURNS bigint LANGUAGE sql SECURITY DEFINER "
    "AS 'SELECT count(*) FROM vault'": "peek",
    "CREATE TABLE person (sender text)": "person",
}


async def holes(connection: Connection) -> set[str]:
    """Everything by which one person could come to see another's rows."""
    names = list(OF_SUBJECTS)
    roles = [CORE, SUBJECT]
    open_to_subjects = await connection.fetch(OPEN_TO_SUBJECTS, [SUBJECT])
    open_parts = await connection.fetch(OPEN_PARTS, roles, CORE)
    people = sorted({str(table.subject) for table in OF_SUBJECTS.values()})
    found = {row[0] for row in await connection.fetch(UNFORCED, names)}
    found |= {row[0] for row in await connection.fetch(UNKNOWN, people)}
    found |= {row[0] for row in await connection.fetch(MISSING_POLICIES, names, SUBJECT)}
    found |= {row[0] for row in await connection.fetch(OTHER_POLICIES, SUBJECT)}
    found |= {row[0] for row in await connection.fetch(VIEWS_OF_THEIR_OWNERS)}
    found |= {row[0] for row in await connection.fetch(FUNCTIONS_OF_THEIR_OWNERS)}
    found |= {row[0] for row in await connection.fetch(ABOVE_POLICIES, [*roles, OWNER])}
    found |= {row[0] for row in open_parts}
    return found | {row[0] for row in open_to_subjects} - {*SHOWN, "schema_version"}


@pytest_asyncio.fixture
async def rows_of_two(admin: Connection, database: Database) -> Sequence[str]:
    """A row of Alice's, one of Bea's and one of nobody's in each table that people may read."""
    for name in SHOWN:
        table = OF_SUBJECTS[name]
        for subject in (ALICE, BEA):
            await insert(admin, table, database.clock.today(), **{str(table.subject): subject})
    for name in ("portal", "login", "bot_room", "module_store", "timer", "audit", "vault"):
        await insert(admin, OF_SUBJECTS[name], database.clock.today())
    return SHOWN


async def seen(connection: Connection, name: str) -> list[str]:
    rows = await connection.fetch(
        f"SELECT {OF_SUBJECTS[name].subject} FROM {name}"  # noqa: S608 - names of the map
    )
    return [row[0] for row in rows]


# --- the catalogue ---


async def test_there_is_no_way_past_the_policies(admin: Connection) -> None:
    assert await holes(admin) == set()


async def test_the_search_for_ways_past_the_policies_finds_them(admin: Connection) -> None:
    for statement, hole in WAYS_PAST.items():
        await admin.execute(f"BEGIN; {statement}")
        assert await holes(admin) == {hole}, statement
        await admin.execute("ROLLBACK")


async def test_a_partition_that_somebody_may_read_is_found(
    admin: Connection, database: Database
) -> None:
    partition = f"message_{database.clock.today():%Y%m%d}"
    await admin.execute(f"GRANT SELECT ON {partition} TO {CORE}")
    journal = f"journal_{database.clock.today():%Y%m%d}"
    await admin.execute(f"GRANT UPDATE ON {journal} TO {CORE}")
    assert await holes(admin) == {partition, journal}


async def test_a_view_for_the_one_who_asks_is_no_way_past_the_policies(
    admin: Connection, database: Database, rows_of_two: Sequence[str]
) -> None:
    await admin.execute("CREATE VIEW mine WITH (security_invoker = true) AS SELECT * FROM login")
    assert await holes(admin) == set()
    await admin.execute(f"GRANT SELECT ON mine TO {SUBJECT}")
    async with database.as_subject(ALICE) as connection:
        assert [row["subject"] for row in await connection.fetch("SELECT * FROM mine")] == [ALICE]


# --- what is seen ---


async def test_a_person_sees_their_own_rows_and_no_others(
    database: Database, rows_of_two: Sequence[str]
) -> None:
    for person in (ALICE, BEA):
        async with database.as_subject(person) as connection:
            for name in rows_of_two:
                assert await seen(connection, name) == [person], name


async def test_nobody_in_particular_sees_nothing(
    database: Database, migrated_settings: DatabaseSettings, rows_of_two: Sequence[str]
) -> None:
    fresh = await asyncpg.connect(migrated_settings.url)  # Nothing was ever set in it.
    await fresh.execute(f"SET ROLE {SUBJECT}")
    for name in rows_of_two:
        assert await seen(fresh, name) == [], name
    for setting in ("", "@nobody:hs", "@alice:h", "%", "@alice:hs' OR true --"):
        async with database.as_subject(setting) as connection:
            for name in rows_of_two:
                assert await seen(connection, name) == [], (setting, name)
    # A setting of an earlier database transaction reads as an empty text afterwards.
    async with fresh.transaction():
        await fresh.execute("SELECT set_config('trestle.subject', $1, true)", ALICE)
        assert await seen(fresh, "login") == [ALICE]
    for name in rows_of_two:
        assert await seen(fresh, name) == [], name
    await fresh.close()


async def test_a_person_writes_nothing_in_anothers_name(
    database: Database, rows_of_two: Sequence[str], admin: Connection
) -> None:
    statements = (
        f"INSERT INTO subject_key VALUES ('{BEA}x', '', 1)",  # noqa: S608
        f"UPDATE subject_key SET subject = '{BEA}x' WHERE subject = '{ALICE}'",  # noqa: S608
    )
    for statement in statements:
        with pytest.raises(asyncpg.InsufficientPrivilegeError, match="row-level security"):
            async with database.as_subject(ALICE) as connection:
                await connection.execute(statement)
    async with database.as_subject(ALICE) as connection:
        assert await connection.execute("UPDATE subject_key SET key_version = 2") == "UPDATE 1"
        assert await connection.execute("DELETE FROM vault") == "DELETE 1"
    assert await admin.fetchval("SELECT count(*) FROM vault") == 2


async def test_the_owner_of_the_tables_sees_no_rows_of_people(
    database: Database, rows_of_two: Sequence[str]
) -> None:
    owner = await owner_of(database)
    for name in rows_of_two:
        # Whoever changes the master key sees the wrapped keys, and nothing that they open.
        expected = [ALICE, BEA] if name == "subject_key" else []
        assert await seen(owner, name) == expected, name
    await owner.close()


async def test_the_core_opens_the_vault_only_for_logins_that_it_serves(
    database: Database, admin: Connection
) -> None:
    login = await database.core.fetchval(
        "INSERT INTO login (instance, kind, subject, made_at) "
        "VALUES ('near', 'person', $1, now()) RETURNING id",
        ALICE,
    )
    vault, keys = OF_SUBJECTS["vault"], OF_SUBJECTS["subject_key"]
    today = database.clock.today()
    await insert(admin, vault, today, subject=ALICE, login=login, record="served")
    await insert(admin, vault, today, subject=BEA, record="private")
    await insert(admin, vault, today, subject=ALICE, record="private")
    await insert(admin, vault, today, record="of an instance")
    for person in (ALICE, BEA):
        await insert(admin, keys, today, subject=person)
    records = await database.core.fetch("SELECT record FROM vault ORDER BY record")
    assert [row["record"] for row in records] == ["of an instance", "served"]
    subjects = await database.core.fetch("SELECT subject FROM subject_key")
    assert [row["subject"] for row in subjects] == [ALICE]


async def test_the_core_writes_in_the_vault_what_is_an_instances_own_and_nothing_of_peoples(
    database: Database, admin: Connection
) -> None:
    login = await database.core.fetchval(
        "INSERT INTO login (instance, kind, subject, made_at) "
        "VALUES ('near', 'person', $1, now()) RETURNING id",
        ALICE,
    )
    vault, today = OF_SUBJECTS["vault"], database.clock.today()
    await insert(admin, vault, today, subject=ALICE, login=login, record="served")
    await insert(admin, vault, today, subject=BEA, record="private")
    await insert(admin, vault, today, record="of an instance")
    assert await database.core.execute("UPDATE vault SET version = 7") == "UPDATE 1"
    for statement in (
        "INSERT INTO vault (subject, instance, record, key_version, version, sealed) "
        "VALUES ('@alice:hs', 'near', 'forged', 1, 1, '')",
        f"UPDATE vault SET subject = '{ALICE}'",  # noqa: S608
        f"INSERT INTO subject_key VALUES ('{ALICE}', '', 1)",  # noqa: S608
        "UPDATE subject_key SET wrapped = ''",
        "DELETE FROM subject_key",
    ):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await database.core.execute(statement)
    assert await database.core.execute("DELETE FROM vault") == "DELETE 1"
    assert await admin.fetchval("SELECT count(*) FROM vault") == 2


async def test_the_owner_of_the_tables_changes_wrapped_keys_and_adds_and_removes_none(
    database: Database, rows_of_two: Sequence[str]
) -> None:
    owner = await owner_of(database)
    assert await owner.execute("UPDATE subject_key SET key_version = 3") == "UPDATE 2"
    assert await owner.execute("DELETE FROM subject_key") == "DELETE 0"
    with pytest.raises(asyncpg.InsufficientPrivilegeError, match="row-level security"):
        await owner.execute(f"INSERT INTO subject_key VALUES ('{ALICE}x', '', 1)")  # noqa: S608
    await owner.close()


async def test_every_day_that_is_made_later_is_closed_too(
    admin: Connection, database: Database
) -> None:
    await database.cover(database.clock.today() + timedelta(days=40))
    parts = await admin.fetchval(
        "SELECT count(*) FROM pg_class WHERE relispartition AND relkind = 'r'"
    )
    assert parts >= 2 * 9
    assert await holes(admin) == set()
    for name in (f"message_{database.clock.today() + timedelta(days=40):%Y%m%d}", "message"):
        for role in (CORE, SUBJECT):
            may = await admin.fetchval("SELECT has_table_privilege($1, $2, 'SELECT')", role, name)
            assert may == (name == "message"), (role, name)


async def test_racing_people_never_see_each_others_rows(
    database: Database, rows_of_two: Sequence[str]
) -> None:
    """Over four connections, with cancelled requests and failing statements in between."""
    random = chance("racing people")
    wrong: list[str] = []
    answered = 0

    async def look(person: str) -> None:
        nonlocal answered
        async with database.as_subject(person) as connection:
            found = await seen(connection, random.choice(rows_of_two))
            if random.random() < 0.1:
                await connection.execute("SELECT 1/0")
            if found != [person]:
                wrong.append(f"{person} saw {found}")
            answered += 1

    async def visit() -> None:
        person = random.choice((ALICE, BEA))
        limit = random.choice((0.0005, 0.002, 10, 10, 10, 10))
        try:
            async with asyncio.timeout(limit):
                await look(person)
        except (TimeoutError, PermanentFailure, TemporaryFailure):
            if await database.subject.fetch("SELECT * FROM login"):
                wrong.append("a left-over setting shows rows")

    count = scaled(10_000)
    for _ in range(count // 20):
        async with asyncio.TaskGroup() as group:
            for _ in range(20):
                group.create_task(visit())
    assert wrong == []
    assert answered > count / 3
