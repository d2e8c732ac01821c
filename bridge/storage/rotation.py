"""Changing the master key while people work, and checking that everything opens.

The new key is on disk before the first ring is sealed with it, and the old one stays until no ring
needs it: whatever ends the change, the same command goes on with it. Records are not touched;
only the rings around their keys are sealed anew, some hundred in a database transaction, so that
nobody waits for longer than that.
"""

import logging
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass

import asyncpg

from bridge.sdk.errors import ConfigError
from bridge.sdk.ids import InstanceId, UserId
from bridge.storage.door import at_the_door
from bridge.storage.keys import KeyLost
from bridge.storage.masterkeys import VARIABLE
from bridge.storage.pool import Database
from bridge.storage.schema import Connection
from bridge.storage.vault import Owner, Vault, open_ring, seal_ring

log = logging.getLogger(__name__)

_AT_ONCE = 500
_TABLES = (("subject_key", "subject"), ("instance_key", "instance"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """How far it is."""

    done: int
    total: int
    faults: tuple[str, ...] = ()
    """What did not open in this step, a sentence each."""


class Rotation:
    """Works on all rings, as the owner of the tables."""

    def __init__(self, database: Database, vault: Vault) -> None:
        self._database = database
        self.vault = vault
        self._running = False

    async def rotate(self) -> AsyncGenerator[Step, None]:
        """Seal every ring with a new master key, or go on with a change that was cut short.

        What does not open is named, stays as it is and does not hold up the rest. Raises
        ``ConfigError`` when the key stands in the environment and no new one stands before it.
        """
        if self._running:
            raise ConfigError("the keys are being changed already; wait for it to end")
        self._running = True
        try:
            self._begin()
            with at_the_door():
                async with self._database.as_owner() as owner:
                    async for step in self._rewrap_all(owner):
                        yield step
            self.vault.master.retire()
            log.info("the master key was changed", extra={"event": "keys_rotated"})
        finally:
            self._running = False

    async def check(self) -> AsyncGenerator[Step, None]:
        """Open every ring and every record; name what does not open."""
        with at_the_door():
            async with self._database.as_owner() as owner:
                total = await _count(owner)
                faults = [fault async for fault in self.vault.check(None)]
                yield Step(done=0, total=total, faults=tuple(faults))
                async for step in self._check_all(owner, total):
                    yield step
                lost = [fault async for fault in self._check_without_ring(owner)]
                yield Step(done=total, total=total, faults=tuple(lost))

    # --- inside ---

    def _begin(self) -> None:
        master = self.vault.master
        if master.is_changing:
            return
        if master.given:
            raise ConfigError(
                f"the master key stands in {VARIABLE}: put a new one before it, with a blank "
                "between the two (`trestle keys new` prints one), start Trestle again, and then "
                "rotate; afterwards take the old one away"
            )
        master.add()

    async def _rewrap_all(self, owner: Connection) -> AsyncIterator[Step]:
        total, done = await _count(owner), 0
        yield Step(done=0, total=total)
        for table, column in _TABLES:
            last: str | None = ""
            while last is not None:
                async with owner.transaction():
                    rows = await _some(owner, table, column, last, "FOR UPDATE")
                    faults = await self._rewrap(owner, rows)
                # Nobody's ring is locked while whoever asked is told.
                done += len(rows)
                yield Step(done=min(done, total), total=total, faults=tuple(faults))
                last = rows[-1]["name"] if rows else None

    async def _rewrap(self, owner: Connection, rows: list[asyncpg.Record]) -> list[str]:
        master = self.vault.master
        changed, faults = [], []
        for row in rows:
            if row["key_version"] == master.newest:
                continue
            whose = _owner_of(row)
            try:
                ring = open_ring(master, whose, row["key_version"], row["wrapped"])
            except KeyLost as error:
                faults.append(f"the key of {row['name']} stays as it is: {error}")
                continue
            changed.append((row["name"], seal_ring(master, whose, ring)))
        if changed:
            table, column, _ = _owner_of(rows[0])
            await owner.execute(
                f"UPDATE {table} SET wrapped = new.wrapped, key_version = $3 "  # noqa: S608
                f"FROM unnest($1::text[], $2::bytea[]) AS new (name, wrapped) "
                f"WHERE {table}.{column} = new.name",
                [name for name, _ in changed], [wrapped for _, wrapped in changed],
                master.newest,
            )  # fmt: skip
        return faults

    async def _check_all(self, owner: Connection, total: int) -> AsyncIterator[Step]:
        done = 0
        for table, column in _TABLES:
            last: str | None = ""
            while last is not None:
                rows = await _some(owner, table, column, last, "")
                faults = [fault for row in rows async for fault in self._check_one(row)]
                done += len(rows)
                yield Step(done=min(done, total), total=total, faults=tuple(faults))
                last = rows[-1]["name"] if rows else None

    async def _check_without_ring(self, owner: Connection) -> AsyncIterator[str]:
        """Name the records of people whose ring is not there."""
        found = await self._database.core.fetch(
            "SELECT subject FROM vault WHERE subject IS NOT NULL "
            "UNION SELECT subject FROM double_puppet"
        )
        rings = await owner.fetch(
            "SELECT subject FROM subject_key WHERE subject = ANY($1::text[])",
            [row["subject"] for row in found],
        )
        for person in sorted(
            {row["subject"] for row in found} - {row["subject"] for row in rings}
        ):
            async for fault in self.vault.check(UserId(person)):
                yield f"{person}: {fault}"

    async def _check_one(self, row: asyncpg.Record) -> AsyncIterator[str]:
        try:
            open_ring(self.vault.master, _owner_of(row), row["key_version"], row["wrapped"])
        except KeyLost as error:
            yield f"the key of {row['name']} cannot be opened: {error}"
            return
        if row["place"] == "subject_key":
            async for fault in self.vault.check(UserId(row["name"])):
                yield f"{row['name']}: {fault}"


def _owner_of(row: asyncpg.Record) -> Owner:
    if row["place"] == "subject_key":
        return Owner.of(UserId(row["name"]), InstanceId(""))
    return Owner.of(None, InstanceId(row["name"]))


async def _some(
    owner: Connection, table: str, column: str, last: str, locked: str
) -> list[asyncpg.Record]:
    """Some hundred rings of a table, those behind ``last``."""
    return await owner.fetch(
        f"SELECT '{table}' AS place, {column} AS name, wrapped, key_version "  # noqa: S608
        f"FROM {table} WHERE {column} > $1 ORDER BY {column} LIMIT {_AT_ONCE} {locked}",
        last,
    )


async def _count(owner: Connection) -> int:
    return int(
        await owner.fetchval(
            "SELECT (SELECT count(*) FROM subject_key) + (SELECT count(*) FROM instance_key)"
        )
    )
