"""What is kept about one person, by the data map: counted, copied, erased.

What is read is read as that person, to whom the database shows no others' rows; only tables of
which people may read nothing are read as the core, by the same column.
"""

import base64
import hashlib
import re
import zipfile
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from datetime import UTC, date, datetime, timedelta
from io import BytesIO
from typing import Any, cast
from uuid import UUID

import asyncpg

from bridge import __version__
from bridge.jsontext import encode
from bridge.model import AuditAction, KeptRows
from bridge.sdk.ids import InstanceId, UserId
from bridge.sdk.module import Holds as ModuleHolds
from bridge.sdk.module import Kept
from bridge.storage.datamap import DATA_MAP
from bridge.storage.door import at_the_door
from bridge.storage.keys import DayKeys, KeyLost
from bridge.storage.labels import After, Goes, Holds, Label, Stays, Table, kept
from bridge.storage.outboxentry import outbox_context
from bridge.storage.pool import Database
from bridge.storage.schema import Connection
from bridge.storage.thread import to_its_end
from bridge.storage.timers import timer_context

FORMAT = 1
"""Of the copy that a person gets."""
SECRET = "(a secret: it is kept, and not shown)"  # noqa: S105 - it stands for one
UNREADABLE = "(sealed: its key is gone)"
ANOTHER = "(another person)"

_ROWS_AT_ONCE = 1000
_PERSON = re.compile(r"""@[^\s:"'<>]+:[^\s,;)\]}"<>\\]+""")
_STOPS = ".:!?'\""
"""What may follow an id in a sentence."""

Unseal = Callable[[asyncpg.Record], tuple[date, bytes]]
"""Of which day a row is, and what its sealed columns are bound to."""

SEALED: Mapping[str, Unseal] = {
    "outbox": lambda row: (row["day"], outbox_context(row["day"], row["seq"])),
    "timer": lambda row: (row["at"].astimezone(UTC).date(), timer_context(row["id"])),
}

OWNED: Sequence[Table] = tuple(table for table in DATA_MAP if table.subject is not None)
"""The tables whose rows are about people."""
_APART = ("login", "vault", "subject_key")
"""Their rows are removed where it is known what else goes with them."""
_OF_MODULES = "module_store"
_BY_MODULES = frozenset({("module_store", "value"), ("timer", "note")})
"""What modules keep, of which they say themselves what it holds."""
_LASTS = (
    "EXISTS (SELECT FROM unnest($2::text[], $3::text[]) AS lasts (instance, prefix) "
    "WHERE lasts.instance = module_store.instance AND starts_with(key, lasts.prefix))"
)


class PersonalData:
    """Of one person at a time; of others nothing is shown."""

    def __init__(
        self, database: Database, day_keys: DayKeys, *, is_ours: Callable[[str], bool],
        modules: Callable[[], Mapping[InstanceId, Sequence[Kept]]] = dict,
    ) -> None:  # fmt: skip
        """``is_ours``: whether a Matrix id is a ghost's or a bot's, which name no person.

        ``modules``: what each instance keeps, of which some outlasts an erasure for a time.
        """
        self._modules = modules
        self._database = database
        self._day_keys = day_keys
        self._is_ours = is_ours

    async def summary(self, person: UserId) -> Sequence[KeptRows]:
        """What each table has about the person; only of those that have any."""
        found: list[KeptRows] = []
        for table in OWNED:
            async with self._reading(table, person) as connection:
                number = await connection.fetchval(
                    f"SELECT count(*) FROM {table.name} WHERE {table.subject} = $1",  # noqa: S608
                    person,
                )
            if table.name == _OF_MODULES:
                lasting = await self._lasting(person)
                number -= sum(one.number for one in lasting)
                found += lasting
            if number:
                found.append(KeptRows(
                    table=table.name, what=table.why, how_long=_how_long(table), number=number,
                    stays=table.erased.why if isinstance(table.erased, Stays) else "",
                ))  # fmt: skip
        return found

    async def copy(self, person: UserId) -> bytes:
        """A ZIP with every row about the person: ``manifest.json``, and JSON Lines for each table.

        Secrets are named and not shown; where another person is named, it says so instead.
        """
        place, tables = BytesIO(), []
        archive = zipfile.ZipFile(place, "w", zipfile.ZIP_DEFLATED)
        with archive:
            for table in OWNED:
                name, digest, number = f"{table.name}.jsonl", hashlib.sha256(), 0
                with archive.open(name, "w", force_zip64=True) as file:
                    # Closed at once when we are cancelled, since it holds a connection.
                    async with aclosing(self._rows(table, person)) as pages:
                        async for rows in pages:
                            lines = await to_its_end(self._lines, table, rows, person)
                            await to_its_end(file.write, lines)
                            digest.update(lines)
                            number += len(rows)
                tables.append(_about(table, name, number, digest.hexdigest()))
            archive.writestr("manifest.json", encode(await self._manifest(person, tables)))
        return place.getvalue()

    async def erase(self, person: UserId) -> Mapping[str, int]:
        """Remove the rows that go with a person, but for logins and what the vault has.

        Gives how many there were, by the name of the table; none the second time.
        """
        gone = {}
        await self._limit_lasting(person)
        for table in OWNED:
            if not isinstance(table.erased, Goes) or table.name in _APART:
                continue
            which, given = f"{table.subject} = $1", cast("list[object]", [person])
            if table.name == _OF_MODULES:
                which, given = f"{which} AND NOT {_LASTS}", [person, *self._prefixes()]
            async with self._reading(table, person, "DELETE") as connection:
                result = await connection.execute(
                    f"DELETE FROM {table.name} WHERE {which}",  # noqa: S608
                    *given,
                )
            if number := int(result.rpartition(" ")[2]):
                gone[table.name] = number
        for table in OWNED:
            if isinstance(table.erased, Stays) and not table.erased.named:
                await self._unname(table, person)
        return gone

    async def people(self) -> Collection[UserId]:
        """Everybody about whom there is something that goes or loses its name, or who is in the
        audit; of the vault's only those whom the core serves."""
        found: set[UserId] = set()
        with at_the_door():
            for table in OWNED:
                stays = isinstance(table.erased, Stays) and table.erased.named
                if stays and table.name != "audit":
                    continue
                rows = await self._database.core.fetch(
                    f"SELECT DISTINCT {table.subject} FROM {table.name}"  # noqa: S608
                )
                found |= {UserId(row[0]) for row in rows if row[0] is not None}
        return found

    async def erased_at(self) -> Mapping[UserId, datetime]:
        """When what is kept about each person was erased last, by the audit."""
        with at_the_door():
            rows = await self._database.core.fetch(
                "SELECT subject, max(at) FROM audit WHERE action = $1 AND subject IS NOT NULL "
                "GROUP BY subject",
                AuditAction.ERASED.value,
            )
        return {UserId(subject): at for subject, at in rows}

    # --- inside ---

    def _outlasting(self) -> Sequence[tuple[InstanceId, Kept]]:
        modules = self._modules().items()
        return [(name, one) for name, keeps in modules for one in keeps if one.outlasts]

    def _prefixes(self) -> tuple[list[str], list[str]]:
        """Of which instances the keys that begin so outlast an erasure."""
        found = self._outlasting()
        return [name for name, _ in found], [one.prefix for _, one in found]

    async def _lasting(self, person: UserId) -> Sequence[KeptRows]:
        """What modules keep of the person beyond an erasure."""
        lasting = []
        with at_the_door():
            for name, one in self._outlasting():
                rows = await self._database.core.fetch(
                    f"SELECT until FROM module_store WHERE subject = $1 AND {_LASTS}",  # noqa: S608
                    person, [name], [one.prefix],
                )  # fmt: skip
                if rows and one.outlasts is not None:
                    ends = [row["until"] for row in rows]
                    end = "" if None in ends else f"until {max(ends).date()}"
                    lasting.append(KeptRows(
                        table=_OF_MODULES, what=f"on {name}, {one.purpose}", number=len(rows),
                        how_long=end or f"as long as {name} is set up",
                        after_erasure=f"{one.outlasts.days} days from the erasure, or shorter",
                        stays="so that nobody gets round a ban or a limit by it",
                    ))  # fmt: skip
        return lasting

    async def _limit_lasting(self, person: UserId) -> None:
        """Have an end for what outlasts the erasure; what has an earlier one keeps that."""
        now = self._database.clock.now()
        with at_the_door():
            for name, one in self._outlasting():
                await self._database.core.execute(
                    f"UPDATE module_store SET until = least(until, $4) "  # noqa: S608
                    f"WHERE subject = $1 AND {_LASTS}",
                    person, [name], [one.prefix], now + (one.outlasts or timedelta()),
                )  # fmt: skip

    async def _unname(self, table: Table, person: UserId) -> None:
        with at_the_door():
            await self._database.core.execute(
                f"UPDATE {table.name} SET {table.subject} = NULL "  # noqa: S608
                f"WHERE {table.subject} = $1",
                person,
            )

    @asynccontextmanager
    async def _reading(
        self, table: Table, person: UserId, right: str = "SELECT"
    ) -> AsyncIterator[Connection]:
        """A database transaction as the person, if people have that right to the table."""
        async with self._database.as_subject(person) as own:
            if await own.fetchval("SELECT has_table_privilege($1, $2)", table.name, right):
                yield own
                return
        with at_the_door():
            async with self._database.core.acquire() as taken, taken.transaction():
                yield taken  # type: ignore[misc]

    async def _rows(
        self, table: Table, person: UserId
    ) -> AsyncGenerator[list[asyncpg.Record], None]:
        async with self._reading(table, person) as connection:
            cursor = await connection.cursor(
                f"SELECT * FROM {table.name} WHERE {table.subject} = $1",  # noqa: S608
                person,
            )
            while rows := await cursor.fetch(_ROWS_AT_ONCE):
                yield rows

    def _lines(self, table: Table, rows: Sequence[asyncpg.Record], person: UserId) -> bytes:
        return b"".join(
            encode({
                name: self._shown(table, name, label, row, person)
                for name, label in table.columns.items()
            }) + b"\n"
            for row in rows
        )  # fmt: skip

    def _shown(
        self, table: Table, name: str, label: Label, row: asyncpg.Record, person: UserId
    ) -> Any:
        value = row[name]
        if value is None:
            return None
        if label.holds is Holds.SECRET or self._is_modules_secret(table, name, row):
            return SECRET
        if label.sealed:
            try:
                day, context = SEALED[table.name](row)
                value = self._day_keys.open(day, context, value)
            except KeyLost:
                return UNREADABLE
        return self._without_others(_plain(value), person)

    def _is_modules_secret(self, table: Table, name: str, row: asyncpg.Record) -> bool:
        """Whether the module says that what it keeps there is a secret, or cannot say it."""
        if (table.name, name) not in _BY_MODULES:
            return False
        keeps = self._modules().get(InstanceId(row["instance"]))
        if keeps is None:  # It is not set up any more, or the row is the house's own.
            return bool(row["instance"])
        its = [one for one in keeps if row["key"].startswith(one.prefix)]
        found = max(its, key=lambda one: len(one.prefix), default=None)
        return found is not None and found.holds is ModuleHolds.SECRET

    def _without_others(self, value: Any, person: UserId) -> Any:
        if isinstance(value, list):
            return [self._without_others(one, person) for one in value]
        if not isinstance(value, str):
            return value

        def show(match: re.Match[str]) -> str:
            is_shown = match[0].rstrip(_STOPS) == person or self._is_ours(match[0])
            return match[0] if is_shown else ANOTHER

        return value if value == person else _PERSON.sub(show, value)

    async def _manifest(
        self, person: UserId, tables: Sequence[Mapping[str, Any]]
    ) -> Mapping[str, Any]:
        async with self._database.as_subject(person) as connection:
            schema = await connection.fetchval("SELECT max(version) FROM schema_version")
        return {
            "format": FORMAT, "trestle": __version__, "schema": schema, "subject": person,
            "made_at": self._database.clock.now().astimezone(UTC).isoformat(), "tables": tables,
        }  # fmt: skip


def _how_long(table: Table) -> str:
    """How long rows are kept, for people who do not know the columns."""
    match table.keep:
        case After(_, 0):
            return "each until its time is over"
        case After(_, days):
            return f"{days} days"
    return kept(table.keep)


def _about(table: Table, name: str, number: int, digest: str) -> Mapping[str, Any]:
    erased = table.erased
    return {
        "table": table.name, "why": table.why, "kept": kept(table.keep),
        "erased": "goes" if isinstance(erased, Goes) else f"stays, {erased.why}",
        "file": name, "rows": number, "sha256": digest,
        "columns": {
            column: {"holds": label.holds.value, "why": label.why}
            for column, label in table.columns.items()
        },
    }  # fmt: skip


def _plain(value: Any) -> Any:
    """A value of the database as JSON has it."""
    match value:
        case bytes():
            try:
                return value.decode()
            except UnicodeDecodeError:
                return {"base64": base64.b64encode(value).decode()}
        case datetime() | date():
            return value.isoformat()
        case UUID():
            return str(value)
        case list():
            return [_plain(one) for one in value]
    return value
