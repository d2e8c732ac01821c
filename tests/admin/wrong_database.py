"""Misconfigurations of the database, on a real Postgres."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import asyncpg

from bridge.settings.records import DatabaseSettings
from bridge.storage.lock import LOCK
from bridge.storage.schema import CORE, OWNER, SUBJECT, roles_sql
from tests.admin.estate import NOWHERE, Bench, Case, Rows, relay
from tests.rigs.pgbouncer import pooled

DATABASE = Rows()
row = DATABASE.row

PASSWORD = "its-password"
SQL = "`trestle init --print-sql` prints what its admin must run"


def as_role(url: str, role: str, password: str = PASSWORD) -> str:
    """The URL with another user."""
    return re.sub("//[^@]+@", f"//{role}:{password}@", url)


@asynccontextmanager
async def plain_role(bench: Bench, options: str = "") -> AsyncIterator[str]:
    """A role that may only log in, and a database; its URL."""
    cluster = bench.estate.cluster
    await cluster.execute(f"CREATE ROLE plain LOGIN PASSWORD '{PASSWORD}' {options}")
    database = await cluster.fresh()
    try:
        yield as_role(database.url, "plain")
    finally:
        await cluster.execute("DROP ROLE plain")


@asynccontextmanager
async def our_roles(bench: Bench, then: str = "") -> AsyncIterator[None]:
    """The three roles, made by an admin, with one thing done to them."""
    cluster = bench.estate.cluster
    await cluster.execute(roles_sql(with_schema=False) + then)
    try:
        yield
    finally:
        await cluster.execute(f"DROP ROLE {OWNER}, {CORE}, {SUBJECT}")


@asynccontextmanager
async def holding(settings: DatabaseSettings, *statements: str) -> AsyncIterator[None]:
    """A session that has run these, and stays."""
    connection = await asyncpg.connect(settings.url)
    try:
        for statement in statements:
            await connection.execute(statement)
        yield
    finally:
        await connection.close()


def of_schema(number: int) -> str:
    """What makes a database look like one of ours."""
    return f"CREATE TABLE schema_version AS SELECT {number} AS version"


@row("database", "the database at 127.0.0.1:9 cannot be reached: Connection refused",
     "is it running, and the address right?")  # fmt: skip
async def a_database_that_is_down(bench: Bench) -> AsyncIterator[Case]:
    yield bench.database("postgresql://u:its-password@127.0.0.1:9/x")


@row("database", f"the database at {NOWHERE} cannot be reached", "the address right?")
async def a_database_with_an_unknown_name(bench: Bench) -> AsyncIterator[Case]:
    yield bench.database(f"postgresql://u:its-password@{NOWHERE}/x")


@row("database", 'database "nobody_made_it" does not exist; make it, or name another')
async def a_wrong_database_name(bench: Bench) -> AsyncIterator[Case]:
    yield bench.database(bench.estate.cluster.url("nobody_made_it"))


@row("database", "the database refuses us", 'password authentication failed for user "postgres"')
async def a_wrong_password(bench: Bench) -> AsyncIterator[Case]:
    yield bench.database(as_role(bench.estate.cluster.url("postgres"), "postgres", "wrong"))


@row("database", "the database refuses us", "stranger")
async def a_wrong_role(bench: Bench) -> AsyncIterator[Case]:
    yield bench.database(as_role(bench.estate.cluster.url("postgres"), "stranger"))


@row("database", "has no role trestle_owner and trestle_core and trestle_subject",
     "plain may not make any", SQL)  # fmt: skip
async def missing_roles(bench: Bench) -> AsyncIterator[Case]:
    async with plain_role(bench) as url:
        yield bench.database(url)


@row("database", "the database role plain is not a member of trestle_core", SQL)
async def a_role_that_is_no_member(bench: Bench) -> AsyncIterator[Case]:
    async with plain_role(bench) as url, our_roles(bench):
        yield bench.database(url)


@row("database", "the role trestle_owner may make no tables in the database", SQL)
async def an_owner_that_may_make_no_tables(bench: Bench) -> AsyncIterator[Case]:
    grant = f"; GRANT {CORE}, {SUBJECT}, {OWNER} TO plain"
    async with plain_role(bench) as url, our_roles(bench, grant):
        yield bench.database(url)


@row("database", "the database role trestle_core may bypass row-level security",
     "ALTER ROLE trestle_core NOSUPERUSER NOBYPASSRLS")  # fmt: skip
async def a_role_that_sees_everything(bench: Bench) -> AsyncIterator[Case]:
    async with our_roles(bench, f"; ALTER ROLE {CORE} BYPASSRLS"):
        yield bench.case(bench.settings())


@row("database", "postgres, who may do everything on that server; make Trestle a role of its own",
     level="note")  # fmt: skip
async def a_superuser(bench: Bench) -> AsyncIterator[Case]:
    yield bench.case(bench.settings())


@row("database", "the role plain may have 5 connections, but Trestle needs 16",
     "ALTER ROLE plain CONNECTION LIMIT -1")  # fmt: skip
async def a_role_with_few_connections(bench: Bench) -> AsyncIterator[Case]:
    async with plain_role(bench, "CREATEROLE CONNECTION LIMIT 5") as url:
        yield bench.database(url)


@row("database", "a proxy that pools transactions or statements", "pool_mode = session")
async def a_proxy_that_pools_transactions(bench: Bench) -> AsyncIterator[Case]:
    cluster = bench.estate.cluster
    async with pooled(cluster, await cluster.fresh(), "transaction") as settings:
        yield bench.database(settings.url)


@row("database", "is encoded in SQL_ASCII, which cannot hold every text", "ENCODING 'UTF8'")
async def a_wrong_encoding(bench: Bench) -> AsyncIterator[Case]:
    cluster = bench.estate.cluster
    await cluster.execute("CREATE DATABASE ascii ENCODING 'SQL_ASCII' TEMPLATE template0")
    yield bench.database(cluster.url("ascii"))


@row("database", "has schema 9999, made by a newer Trestle", "Install the newer version again",
     "restore a backup")  # fmt: skip
async def a_database_of_a_newer_version(bench: Bench) -> AsyncIterator[Case]:
    database = await bench.estate.cluster.fresh()
    async with holding(database, of_schema(9999)):
        yield bench.database(database.url)


@row("database", "is gone: there is none in", "Mount its disk")
async def an_embedded_database_that_is_gone(bench: Bench) -> AsyncIterator[Case]:
    settings = replace(bench.settings(), database=DatabaseSettings())
    settings.state_dir.mkdir(mode=0o711, exist_ok=True)
    (settings.state_dir / "audit.head").write_text(f"1 {'0' * 64}")
    yield bench.case(settings)


@row("backup", "no backup was made with `trestle backup FILE`", level="note", also=("database",))
async def no_backup(bench: Bench) -> AsyncIterator[Case]:
    database = await bench.estate.cluster.fresh()
    async with holding(database, of_schema(9999)):
        yield bench.database(database.url)


@row("database", "is somebody else's: it holds guestbook. Give Trestle one of its own")
async def a_database_of_somebody_else(bench: Bench) -> AsyncIterator[Case]:
    database = await bench.estate.cluster.fresh()
    async with holding(database, "CREATE TABLE guestbook ()"):
        yield bench.database(database.url)


@row("database", "another Trestle, with another state_dir, is at work on this database")
async def a_database_that_another_uses(bench: Bench) -> AsyncIterator[Case]:
    database = await bench.estate.cluster.fresh()
    async with holding(database, f"SELECT pg_advisory_lock({LOCK})"):
        yield bench.database(database.url)


@row("database", "fsync or full_page_writes off: a power cut can lose events", level="note")
async def a_server_that_does_not_sync(bench: Bench) -> AsyncIterator[Case]:
    yield bench.case(bench.settings())


@row("database", "the database is Postgres 14; Trestle needs 15 or newer")
async def an_old_postgres(bench: Bench) -> AsyncIterator[Case]:
    cluster = bench.estate.cluster

    def older(data: bytes) -> bytes:
        return data.replace(b"server_version\x0018", b"server_version\x0014")

    async with relay(cluster.port, change=older) as port:
        url = cluster.by_tcp(await cluster.fresh()).url
        yield bench.database(url.replace(f":{cluster.port}/", f":{port}/"))
