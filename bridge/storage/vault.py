"""The vault: credentials, each sealed with a key of its owner's, those with the master key.

An owner is a person, or an instance for what is its own. All of an owner's keys are one *ring*:
the key that seals the records, and which version of each record is the valid one. The ring lies
in the database too, sealed with the master key, which does not (``bridge.storage.masterkeys``).

What that is good for: whoever can write to the database, and does not have the master key, can
read no record, and no record moved to another owner, module, name or row opens. A record put back
to what it was earlier does not open either, because its ring knows a newer version. The limit:
putting back a record *and* its owner's ring, both from the same moment, goes unnoticed until the
master key is next changed; after that nothing older opens. And a record that was removed counts
as never stored.

To erase is to destroy the ring. A backup may still have it; so a hash of the key is remembered in
the state directory, and the key is refused if it comes back, also together with the master key
of its time.
"""

import base64
import contextlib
import logging
import secrets
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import asyncpg
import orjson
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from bridge.sdk.errors import ConfigError, PermanentFailure
from bridge.sdk.ids import InstanceId, LoginId, UserId
from bridge.sdk.secret import Secret
from bridge.storage.door import at_the_door
from bridge.storage.keys import KeyLost
from bridge.storage.masterkeys import MasterKeys, version_of
from bridge.storage.pool import Database
from bridge.storage.schema import Connection

log = logging.getLogger(__name__)

MOST_BYTES = 1024 * 1024
"""The longest record."""

_NONCE = 12
_OF_PERSON = (
    "SELECT v.*, k.wrapped, k.key_version AS master FROM vault v "
    "LEFT JOIN subject_key k ON k.subject = v.subject "
)
_OF_INSTANCE = (
    "SELECT v.*, k.wrapped, k.key_version AS master FROM vault v "
    "LEFT JOIN instance_key k ON k.instance = v.instance WHERE v.subject IS NULL "
)
_OF_LOGIN = (
    "SELECT v.*, coalesce(s.wrapped, i.wrapped) AS wrapped, "
    "coalesce(s.key_version, i.key_version) AS master FROM vault v "
    "LEFT JOIN subject_key s ON s.subject = v.subject "
    "LEFT JOIN instance_key i ON v.subject IS NULL AND i.instance = v.instance "
    # Nobody puts a record into another's login.
    "JOIN login l ON l.id = v.login AND l.instance = v.instance "
    "AND l.subject IS NOT DISTINCT FROM v.subject WHERE v.login = $1 ORDER BY v.record"
)
_PUT = (
    "INSERT INTO vault (id, subject, instance, record, login, key_version, version, sealed) "
    "OVERRIDING SYSTEM VALUE VALUES ($1, $2, $3, $4, $5, $6, $7, $8) "
    "ON CONFLICT (subject, instance, record) DO UPDATE SET login = excluded.login, "
    "key_version = excluded.key_version, version = excluded.version, sealed = excluded.sealed"
)
_WHICH = "subject IS NOT DISTINCT FROM $1 AND instance = $2 AND record = $3"
_DELETE = f"DELETE FROM vault WHERE {_WHICH} RETURNING id"  # noqa: S608 - a constant of ours


class Owner(NamedTuple):
    """Whose a ring is, and where it lies."""

    table: str
    column: str
    name: str

    @classmethod
    def of(cls, subject: UserId | None, instance: InstanceId) -> "Owner":
        """The person, or the instance where there is none."""
        if subject is None:
            return cls("instance_key", "instance", instance)
        return cls("subject_key", "subject", subject)


@dataclass(slots=True, kw_only=True)
class Ring:
    """An owner's key, and the valid version of each of the owner's rows."""

    key: bytes
    count: int = 0
    rows: dict[str, int] = field(default_factory=dict)

    @property
    def key_version(self) -> int:
        """By which the key is known."""
        return version_of(self.key)

    def seal(self, row: "Row", data: bytes) -> bytes:
        """Encrypt for that row and version of it."""
        nonce = secrets.token_bytes(_NONCE)
        return nonce + AESGCM(self.key).encrypt(nonce, data, row.associated)

    def open(self, row: "Row", sealed: bytes) -> bytes:
        """Decrypt. Raises :class:`KeyLost` that says what is wrong with the row."""
        if row.key_version != self.key_version:
            raise KeyLost(f"{row} was sealed with a key that its owner has no more")
        if self.rows.get(str(row.id)) != row.version:
            raise KeyLost(f"{row} is not the newest of its kind: it was put back, or removed")
        try:
            return AESGCM(self.key).decrypt(sealed[:_NONCE], sealed[_NONCE:], row.associated)
        except (InvalidTag, ValueError) as error:
            raise KeyLost(f"{row} was changed, or belongs elsewhere") from error


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """Which row of the vault it is; what is sealed is bound to all of it."""

    subject: UserId | None
    instance: InstanceId
    record: str
    id: int
    key_version: int
    version: int

    @property
    def associated(self) -> bytes:
        """What the seal is bound to."""
        return orjson.dumps([
            "vault", self.subject, self.instance, self.record, self.id, self.key_version,
            self.version,
        ])  # fmt: skip

    def __str__(self) -> str:
        return f"row {self.id} of the vault ({self.record} of {self.instance})"


class Vault:
    """Keeps credentials. Call :meth:`open` before anything else, or get it by :meth:`at`."""

    def __init__(self, database: Database, master: MasterKeys) -> None:
        self._database = database
        self.master = master

    @classmethod
    async def at(cls, database: Database, state_dir: Path) -> "Vault":
        """The open vault of an installation. Raises ``ConfigError`` as :meth:`open` does."""
        vault = cls(database, MasterKeys.load(state_dir))
        await vault.open()
        return vault

    async def open(self) -> None:
        """Have a master key. A new one is made only where nothing was sealed yet.

        Raises ``ConfigError`` with the way out when there are keys and none of them opens with
        the master key that is here: then everybody's credentials would seem lost.
        """
        await self.refuse_lost()
        if not self.master.is_there:
            self.master.add()

    async def refuse_lost(self) -> None:
        """Change nothing. Raises ``ConfigError`` as :meth:`open` does."""
        sealed = await self._count_by_master()
        known = sum(count for version, count in sealed.items() if self.master.knows(version))
        if sealed and not known:
            what = "is not the one that it was" if self.master.is_there else "is missing"
            raise ConfigError(
                f"the master key in {self.master.path} {what}: {sum(sealed.values())} people and "
                "modules have credentials that it sealed. Put it back from where you keep a copy; "
                "if there is none, `trestle keys reset` forgets the credentials, and people sign "
                "in again"
            )
        if lost := sum(sealed.values()) - known:
            log.warning(
                "%d keys were sealed with a master key that is not here; `trestle keys check` "
                "names them", lost, extra={"event": "keys_lost"},
            )  # fmt: skip

    # --- records ---

    async def put(
        self,
        subject: UserId | None,
        instance: InstanceId,
        record: str,
        value: bytes,
        *,
        login: LoginId | None = None,
    ) -> None:
        """Keep the value, in place of what was under that name; else as :meth:`exchange`."""
        await self.exchange(subject, instance, {record: value}, login=login)

    async def exchange(
        self,
        subject: UserId | None,
        instance: InstanceId,
        values: Mapping[str, bytes],
        *,
        gone: Sequence[str] = (),
        login: LoginId | None = None,
    ) -> None:
        """Keep the values under their names and forget the records ``gone``: all or nothing.

        ``subject`` None: the instance's own. With ``login`` the core may open them, to sign in.
        A person's ring that does not open gives way to a new one, and what it sealed is gone.
        Raises ``PermanentFailure`` over :data:`MOST_BYTES`, :class:`KeyLost` when an instance's
        ring does not open.
        """
        if any(len(value) > MOST_BYTES for value in values.values()):
            raise PermanentFailure(f"a record of the vault has at most {MOST_BYTES} bytes")
        owner = Owner.of(subject, instance)
        async with self._as(subject) as connection:
            ring = await self._take_ring(connection, owner, make=True)
            for record, value in values.items():
                found = await connection.fetchval(
                    f"SELECT id FROM vault WHERE {_WHICH}",  # noqa: S608 - a constant of ours
                    subject, instance, record,
                )  # fmt: skip
                number = found or await connection.fetchval("SELECT nextval('vault_id_seq')")
                ring.count += 1
                ring.rows[str(number)] = ring.count
                row = Row(
                    subject=subject, instance=instance, record=record, id=number,
                    key_version=ring.key_version, version=ring.count,
                )  # fmt: skip
                await connection.execute(
                    _PUT, number, subject, instance, record, login, row.key_version, row.version,
                    ring.seal(row, value),
                )  # fmt: skip
            for record in gone:
                removed = await connection.fetchval(_DELETE, subject, instance, record)
                ring.rows.pop(str(removed), None)
            await self._write_ring(connection, owner, ring)

    async def find(
        self, subject: UserId | None, instance: InstanceId, record: str
    ) -> bytes | None:
        """The value, None if there is none. Raises :class:`KeyLost` if it does not open."""
        async with self._as(subject) as connection:
            if subject is None:
                row = await connection.fetchrow(
                    _OF_INSTANCE + "AND v.instance = $1 AND v.record = $2", instance, record
                )
            else:
                row = await connection.fetchrow(
                    _OF_PERSON + "WHERE v.subject = $1 AND v.instance = $2 AND v.record = $3",
                    subject, instance, record,
                )  # fmt: skip
        return None if row is None else self._open(row)

    async def delete(self, subject: UserId | None, instance: InstanceId, record: str) -> bool:
        """Forget a record; False if there was none."""
        owner = Owner.of(subject, instance)
        async with self._as(subject) as connection:
            number = await connection.fetchval(_DELETE, subject, instance, record)
            if number is None:
                return False
            # A ring that does not open needs to know nothing of it.
            with contextlib.suppress(KeyLost):
                ring = await self._take_ring(connection, owner, make=False)
                ring.rows.pop(str(number), None)
                await self._write_ring(connection, owner, ring)
        return True

    async def secrets_of(self, login: LoginId) -> Mapping[str, Secret]:
        """What a login signs in with, by the names of its records.

        Raises :class:`KeyLost` if one of them does not open: then this login needs its owner,
        and no other does.
        """
        with at_the_door():
            rows = await self._database.core.fetch(_OF_LOGIN, login)
        return {row["record"]: to_secret(self._open(row)) for row in rows}

    async def records_of(self, subject: UserId) -> Sequence[tuple[InstanceId, str]]:
        """Which records a person has, without what is in them."""
        async with self._database.as_subject(subject) as connection:
            rows = await connection.fetch(
                "SELECT instance, record FROM vault ORDER BY instance, record"
            )
        return [(InstanceId(row["instance"]), row["record"]) for row in rows]

    async def erase(self, subject: UserId) -> int:
        """Destroy a person's key, and with it every record; how many there were."""
        async with self._database.as_subject(subject) as connection:
            row = await connection.fetchrow(
                "SELECT wrapped, key_version FROM subject_key WHERE subject = $1 FOR UPDATE",
                subject,
            )
            if row is not None:
                self._note_erased(Owner.of(subject, InstanceId("")), row)
            gone = await connection.execute("DELETE FROM vault WHERE subject = $1", subject)
            await connection.execute("DELETE FROM subject_key WHERE subject = $1", subject)
        return int(gone.rpartition(" ")[2])

    async def check(self, subject: UserId | None = None) -> AsyncIterator[str]:
        """Open every record of a person, or of the instances; say what does not open."""
        async with self._as(subject) as connection:
            if subject is None:
                rows = await connection.fetch(_OF_INSTANCE + "ORDER BY v.id")
            else:
                rows = await connection.fetch(_OF_PERSON + "ORDER BY v.id")
        for row in rows:
            try:
                self._open(row)
            except KeyLost as error:
                yield str(error)

    async def reset(self) -> None:
        """Forget all credentials of everybody, and begin with a new master key."""
        with at_the_door():
            async with self._database.as_owner() as owner:
                await owner.execute("TRUNCATE vault, subject_key, instance_key")
        if not self.master.given:
            self.master.add()
            self.master.retire()

    # --- inside ---

    @asynccontextmanager
    async def _as(self, subject: UserId | None) -> AsyncIterator[Connection]:
        """A database transaction as the owner of the records."""
        if subject is not None:
            async with self._database.as_subject(subject) as connection:
                yield connection
            return
        with at_the_door():
            async with self._database.core.acquire() as taken, taken.transaction():
                yield taken  # type: ignore[misc]

    async def _count_by_master(self) -> dict[int, int]:
        with at_the_door():
            async with self._database.as_owner() as owner:
                rows = await owner.fetch(
                    "SELECT key_version, count(*) AS number FROM ("
                    "SELECT key_version FROM subject_key UNION ALL "
                    "SELECT key_version FROM instance_key) AS keys GROUP BY key_version"
                )
        return {row["key_version"]: row["number"] for row in rows}

    def _open(self, found: asyncpg.Record) -> bytes:
        row = _row_of(found)
        if found["wrapped"] is None:
            raise KeyLost(f"{row} belongs to somebody whose key was destroyed")
        owner = Owner.of(row.subject, row.instance)
        try:
            ring = open_ring(self.master, owner, found["master"], found["wrapped"])
        except KeyLost as error:
            raise KeyLost(f"{row} cannot be opened, nor can its owner's key: {error}") from error
        return ring.open(row, found["sealed"])

    async def _take_ring(self, connection: Connection, owner: Owner, *, make: bool) -> Ring:
        """The owner's ring, which nobody else changes until the database transaction ends.

        With ``make`` there is one afterwards, if need be a new one in place of a person's that
        does not open. Raises :class:`KeyLost`.
        """
        table, column, name = owner
        fresh = Ring(key=secrets.token_bytes(32))
        if make:
            await connection.execute(
                f"INSERT INTO {table} ({column}, wrapped, key_version) "  # noqa: S608 - of ours
                "VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
                name, seal_ring(self.master, owner, fresh), self.master.newest,
            )  # fmt: skip
        row = await connection.fetchrow(
            f"SELECT wrapped, key_version FROM {table} WHERE {column} = $1 FOR UPDATE",  # noqa: S608
            name,
        )
        if row is None:
            raise KeyLost("the key of its owner was destroyed")
        try:
            return open_ring(self.master, owner, row["key_version"], row["wrapped"])
        except KeyLost as error:
            if not make or column != "subject":
                raise
            # Its owner signs in again; for that nobody else must be needed.
            log.warning(
                "a person's key did not open and gave way to a new one: %s", error,
                extra={"event": "key_replaced"},
            )  # fmt: skip
            await connection.execute("DELETE FROM vault WHERE subject = $1", name)
            return fresh

    async def _write_ring(self, connection: Connection, owner: Owner, ring: Ring) -> None:
        table, column, name = owner
        await connection.execute(
            f"UPDATE {table} SET wrapped = $2, key_version = $3 WHERE {column} = $1",  # noqa: S608
            name, seal_ring(self.master, owner, ring), self.master.newest,
        )  # fmt: skip

    def _note_erased(self, owner: Owner, row: asyncpg.Record) -> None:
        try:
            ring = open_ring(self.master, owner, row["key_version"], row["wrapped"])
        except KeyLost:
            return  # It opens for nobody as it is.
        self.master.note_erased(ring.key)


def seal_ring(master: MasterKeys, owner: Owner, ring: Ring) -> bytes:
    """Wrap a ring with the newest master key."""
    plain = orjson.dumps(
        {"key": base64.b64encode(ring.key).decode(), "count": ring.count, "rows": ring.rows}
    )
    return master.seal(_ring_associated(owner, master.newest), plain)


def open_ring(master: MasterKeys, owner: Owner, version: int, wrapped: bytes) -> Ring:
    """Unwrap a ring. Raises :class:`KeyLost` when it cannot be, or was erased."""
    plain = orjson.loads(master.open(version, _ring_associated(owner, version), wrapped))
    ring = Ring(key=base64.b64decode(plain["key"]), count=plain["count"], rows=plain["rows"])
    if master.is_erased(ring.key):
        raise KeyLost("its owner had it erased, and it came back from a copy")
    return ring


def to_bytes(secret: Secret) -> bytes:
    """A credential's text as it is sealed, whatever characters are in it."""
    return secret.reveal().encode("utf-8", "surrogatepass")


def to_secret(value: bytes) -> Secret:
    """The reverse of :func:`to_bytes`."""
    return Secret(value.decode("utf-8", "surrogatepass"))


def _ring_associated(owner: Owner, version: int) -> bytes:
    return orjson.dumps(["ring", owner.table, owner.name, version])


def _row_of(found: asyncpg.Record) -> Row:
    return Row(
        subject=None if found["subject"] is None else UserId(found["subject"]),
        instance=InstanceId(found["instance"]),
        record=found["record"],
        id=found["id"],
        key_version=found["key_version"],
        version=found["version"],
    )
