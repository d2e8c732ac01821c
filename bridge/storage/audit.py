"""The audit: who changed what, row after row, each with the hash of the one before.

The hashes need a key of the state directory, which also remembers the newest row: whoever can
write to the database alone can change, remove or swap no row unnoticed.
"""

import asyncio
import hmac
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import asyncpg
import orjson

from bridge.model import AuditAction
from bridge.sdk.errors import ConfigError, TemporaryFailure
from bridge.sdk.ids import UserId
from bridge.storage.door import at_the_door
from bridge.storage.files import make_folder, write_private
from bridge.storage.pool import Database
from bridge.storage.thread import to_its_end

_START = bytes(32)
_ADD = (
    "INSERT INTO audit (seq, at, actor, subject, action, target, previous, hash) "
    "SELECT $1, $2, $3, $4, $5, $6, $7, $8 "
    "WHERE (SELECT epoch FROM lease WHERE shard = 0) = $9 RETURNING seq"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditRow:
    """One act, as stored."""

    seq: int
    at: datetime
    actor: UserId
    subject: UserId | None
    action: AuditAction
    target: str


@dataclass(frozen=True, slots=True)
class _Link:
    """What the next row must follow."""

    seq: int
    hash: bytes


class Audit:
    """Rows are added, and never changed or removed."""

    def __init__(self, database: Database, state_dir: Path) -> None:
        self._database = database
        self._head_file = state_dir / "audit.head"
        path = state_dir / "keys" / "audit"
        make_folder(path.parent)
        if not path.exists():
            write_private(path, secrets.token_bytes(32))
        self._key = path.read_bytes()
        self._last: _Link | None = None
        self._adding = asyncio.Lock()

    async def record(
        self, *, actor: UserId, action: AuditAction, target: str, subject: UserId | None = None
    ) -> int:
        """Store that the actor does it, before it is done; return the row's number.

        ``subject`` is the person whose data the row is. Raises ``TemporaryFailure`` when the
        database is away: then do not do it.
        """
        async with self._adding:
            last, self._last = self._last or await self._read_last(), None
            at = self._database.clock.now().astimezone(UTC)
            seq = last.seq + 1
            values = (seq, at, actor, subject, action.value, target)
            link = _Link(seq, self._hash(*values, None, last.hash))
            with at_the_door():
                try:
                    stored = await self._database.core.fetchval(
                        _ADD, *values, last.hash, link.hash, self._database.epoch
                    )
                except asyncpg.UniqueViolationError as error:
                    # A row whose answer was lost came after all.
                    raise TemporaryFailure("the audit was just written to") from error
            if stored is None:
                raise TemporaryFailure("another instance took over the database")
            await to_its_end(self._write_head, link)
            self._last = link
            return seq

    async def rows(self) -> AsyncIterator[AuditRow]:
        """All acts, the first one first."""
        async for row in self._stored():
            yield AuditRow(
                seq=row["seq"],
                at=row["at"],
                actor=UserId(row["actor"]),
                subject=None if row["subject"] is None else UserId(row["subject"]),
                action=AuditAction(row["action"]),
                target=row["target"],
            )

    async def verify(self) -> list[str]:
        """Read all of it; name the rows that are not as they were written, a sentence each.

        Raises ``ConfigError`` if the state directory's note of the newest row is damaged.
        """
        faults: list[str] = []
        head = await asyncio.to_thread(self._read_head)
        last = _Link(0, _START)
        async for row in self._stored():
            seq, stored = row["seq"], row["hash"]
            faults += _missing(last.seq + 1, seq)
            # Its own hash covers the one that it follows and its number.
            if not hmac.compare_digest(self._hash(*list(row.values())[:-1]), stored):
                faults.append(f"row {seq} of the audit was changed")
                stored = b""
            elif seq == last.seq + 1 and last.hash and row["previous"] != last.hash:
                faults.append(f"row {seq} of the audit follows another row")
            elif seq == head.seq and stored != head.hash:
                faults.append(f"row {seq} of the audit is not the one written")
            last = _Link(seq, stored)
        return faults + _missing(last.seq + 1, head.seq + 1)

    # --- inside ---

    async def _read_last(self) -> _Link:
        with at_the_door():
            row = await self._database.core.fetchrow(
                "SELECT seq, hash FROM audit ORDER BY seq DESC LIMIT 1"
            )
        return _Link(0, _START) if row is None else _Link(row["seq"], row["hash"])

    async def _stored(self) -> AsyncIterator[asyncpg.Record]:
        after = 0
        while True:
            with at_the_door():
                rows = await self._database.core.fetch(
                    "SELECT seq, at, actor, subject, action, target, detail, previous, hash "
                    "FROM audit WHERE seq > $1 ORDER BY seq LIMIT 500",
                    after,
                )
            if not rows:
                return
            for row in rows:
                yield row
            after = rows[-1]["seq"]

    def _hash(
        self, seq: int, at: datetime, actor: str, subject: str | None, action: str, target: str,
        detail: bytes | None, previous: bytes,
    ) -> bytes:  # fmt: skip
        fields = orjson.dumps([
            seq, at.astimezone(UTC).isoformat(timespec="microseconds"), actor, subject, action,
            target, None if detail is None else detail.hex(), previous.hex(),
        ])  # fmt: skip
        return hmac.digest(self._key, fields, "sha256")

    def _write_head(self, link: _Link) -> None:
        try:
            write_private(self._head_file, f"{link.seq} {link.hash.hex()}\n".encode())
        except OSError as error:
            raise TemporaryFailure(
                f"the audit ({self._head_file.name} in state_dir) cannot be written: "
                f"{error.strerror}"
            ) from error

    def _read_head(self) -> _Link:
        if not self._head_file.exists():
            return _Link(0, _START)
        try:
            seq, digest = self._head_file.read_text().split()
            return _Link(int(seq), bytes.fromhex(digest))
        except ValueError as error:
            raise ConfigError(
                f"{self._head_file} is damaged: it should hold a number and a hash; put it back "
                "from a backup"
            ) from error


def _missing(first: int, end: int) -> list[str]:
    return [f"row {seq} of the audit is missing" for seq in range(first, end)]
