"""Migrations: numbered, only forwards, each in one database transaction with its number."""

import logging
import re
from collections.abc import Sequence
from importlib.resources import files
from typing import TypeAlias
from urllib.parse import unquote, urlsplit

import asyncpg

from bridge.sdk.errors import ConfigError

log = logging.getLogger(__name__)

CORE = "trestle_core"
SUBJECT = "trestle_subject"
OWNER = "trestle_owner"
APPLICATION = "trestle"
"""What our sessions call themselves. One that starts ends those of its predecessor."""
BACKUP = "trestle backup"
"""What the sessions call themselves that only read, beside a Trestle at work."""

_MIGRATION_LIMIT = 86400.0
"""Seconds that one migration may take: it may have very many rows to change."""

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"


Migration: TypeAlias = tuple[int, str, str]
"""Number, name, SQL."""


def migrations() -> list[Migration]:
    """All migrations: (number, name, SQL), in order."""
    found = []
    for entry in files("bridge.storage").joinpath("migrations").iterdir():
        match = re.fullmatch(r"(\d{4})_(\w+)\.sql", entry.name)
        if match:
            found.append((int(match[1]), match[2], entry.read_text()))
    return sorted(found)


async def migrate(connection: Connection, known: Sequence[Migration] = ()) -> int:
    """Bring the schema to this version; return its number. ``known``: others than ours.

    Each migration happens as a whole or not at all, however it ends. Raises ``ConfigError`` when
    a newer Trestle has been here.
    """
    async with connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock(7218451)")
        await connection.execute(
            "CREATE TABLE IF NOT EXISTS schema_version (version integer PRIMARY KEY)"
        )
    known = known or migrations()
    newest = known[-1][0]
    _refuse_newer(await schema_version(connection), newest)
    done = {row["version"] for row in await connection.fetch("SELECT version FROM schema_version")}
    for number, name, sql in known:
        if number not in done:
            await _apply(connection, number, sql)
            log.info("schema %04d %s", number, name, extra={"event": "migrated"})
    return newest


async def refuse_another_schema(connection: Connection) -> None:
    """Raise ``ConfigError`` if the schema is not this version's; nothing is changed."""
    current, newest = await schema_version(connection), migrations()[-1][0]
    _refuse_newer(current, newest)
    if current < newest:
        what = f"the database has schema {current}" if current else "the database is empty"
        raise ConfigError(
            f"{what}, and this Trestle works with {newest}; start Trestle once, which brings it "
            "there",
            path="database.url",
        )


def _refuse_newer(current: int, newest: int) -> None:
    if current > newest:
        raise ConfigError(
            f"the database has schema {current}, made by a newer Trestle; this one knows up to "
            f"{newest}. Install the newer version again, or restore a backup made before it",
            path="database.url",
        )


async def schema_version(connection: Connection) -> int:
    """The schema's number; 0 for an empty database."""
    if not await connection.fetchval("SELECT to_regclass('schema_version') IS NOT NULL"):
        return 0
    return int(await connection.fetchval("SELECT coalesce(max(version), 0) FROM schema_version"))


async def _apply(connection: Connection, number: int, sql: str) -> None:
    for role, name in (("{core}", CORE), ("{subject}", SUBJECT), ("{owner}", OWNER)):
        sql = sql.replace(role, name)
    async with connection.transaction():
        await connection.execute("SET LOCAL lock_timeout = '2s'")
        # Forced policies show the owner no rows. A migration that moves rows must lift the force
        # around it (ALTER TABLE x NO FORCE ROW LEVEL SECURITY) and fails if it forgot, instead of
        # moving none.
        await connection.execute("SET LOCAL row_security = off")
        await connection.execute(sql, timeout=_MIGRATION_LIMIT)
        await connection.execute("INSERT INTO schema_version (version) VALUES ($1)", number)


def admin_sql(url: str = "", owner_url: str = "") -> str:
    """What an admin runs where we may not make roles, with the users of the two URLs."""
    login = unquote(urlsplit(url).username or "") or "trestle"
    owner_login = unquote(urlsplit(owner_url).username or "") or None
    return (
        "-- As an admin, in the database that Trestle is to use. The role in database.url, here\n"
        f"-- {_quoted(login)}, must be there.\n" + roles_sql(login=login, owner_login=owner_login)
    )


def roles_sql(
    *, login: str | None = None, owner_login: str | None = None, with_schema: bool = True
) -> str:
    """The statements by which an admin makes the roles where we may not (idempotent).

    ``login`` is the role in ``database.url`` and ``owner_login`` that in ``database.owner_url``
    (None: ``login`` is both). Each becomes a member of the roles that it acts as.
    """
    lines = [
        f"DO $$ BEGIN IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{role}') "
        f"THEN CREATE ROLE {role} NOLOGIN; END IF; END $$;"
        for role in (OWNER, CORE, SUBJECT)
    ]
    if login is not None:
        lines.append(f"GRANT {CORE}, {SUBJECT} TO {_quoted(login)};")
    owner_login = owner_login or login
    if owner_login is not None and owner_login != OWNER:
        lines.append(f"GRANT {OWNER} TO {_quoted(owner_login)};")
    if with_schema:
        lines.append(f"GRANT ALL ON SCHEMA public TO {OWNER};")
    return "\n".join(lines)


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
