"""Tokens of people at the web, one-time links to it, and the OpenID tokens that were used.

None of them is stored, only its SHA-256: they are random and long, so that a hash tells nothing.
Nothing is remembered in memory either: what is revoked is refused from the next request on.
"""

import contextlib
import hashlib
import logging
import secrets
import uuid
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import asyncpg

from bridge.model import AuditAction
from bridge.sdk.errors import ConfigError
from bridge.sdk.ids import UserId
from bridge.sdk.secret import Secret
from bridge.storage.audit import Audit
from bridge.storage.door import at_the_door
from bridge.storage.hashednotes import HashedNotes
from bridge.storage.pool import Database

log = logging.getLogger(__name__)

IDLE = timedelta(hours=24)
"""A token that nobody used for so long ends ..."""

LIFE = timedelta(days=30)
"""... and any token after so long."""

LINK_LIFE = timedelta(minutes=10)

_STEP = timedelta(minutes=5)
"""By how much a clock may be set back. What was made later than that from now was made while it
was ahead, and would be good for too long. A token is only refused: it may be now that the clock
is wrong, for a while after a start."""

_BYTES = 32
_NAME_LENGTH = 8
_NOTED_BESIDE = timedelta(days=1)
_NOTED_EVERY = timedelta(minutes=1)
"""How exactly it is noted when a token was used, so that not every request writes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRow:
    """A token as stored, without itself."""

    id: uuid.UUID
    """By which its owner revokes it."""
    subject: UserId
    scope: str
    """What it is good for: ``manager``, ``login:libera``."""
    made_at: datetime
    used_at: datetime
    until: datetime
    """When it ends if it is not used before."""

    @property
    def name(self) -> str:
        """What its owner calls it in a chat: the beginning of its id."""
        return self.id.hex[:_NAME_LENGTH]


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkRow:
    """What a one-time link was for."""

    subject: UserId
    purpose: str


class Tokens:
    """Each is one person's, good for one scope, for a time."""

    def __init__(self, database: Database, audit: Audit) -> None:
        self._database = database
        self._audit = audit

    async def issue(
        self, subject: UserId, scope: str, *, idle: timedelta = IDLE, life: timedelta = LIFE
    ) -> Secret:
        """Make a token of 256 random bits. It is given out here and nowhere else."""
        token = secrets.token_urlsafe(_BYTES)
        now = self._database.clock.now()
        with at_the_door():
            await self._database.core.execute(
                "INSERT INTO token (hash, id, subject, scope, made_at, used_at, idle, ends_at, "
                "until) VALUES ($1, $2, $3, $4, $5, $5, $6, $7, $8)",
                _hash(token), uuid.uuid4(), subject, scope, now,
                int(idle.total_seconds()), now + life, now + min(idle, life),
            )  # fmt: skip
        return Secret(token)

    async def find(self, token: str, scopes: Collection[str] | None) -> TokenRow | None:
        """The token's row, if it is good for one of the scopes now; and note that it was used.

        ``scopes`` None: any scope will do.
        """
        now = self._database.clock.now()
        digest = _hash(token)
        with at_the_door():
            row = await self._database.core.fetchrow(
                "SELECT * FROM token WHERE hash = $1 AND until > $2 "
                "AND ($3::text[] IS NULL OR scope = ANY($3))",
                digest, now, None if scopes is None else list(scopes),
            )  # fmt: skip
            if row is not None and row["made_at"] > now + _STEP:
                return None
            if row is not None and now - row["used_at"] >= _NOTED_EVERY:
                until = min(row["ends_at"], now + timedelta(seconds=row["idle"]))
                await self._database.core.execute(
                    "UPDATE token SET used_at = $2, until = $3 WHERE hash = $1",
                    digest, now, until,
                )  # fmt: skip
        return None if row is None else _token(row)

    async def tokens_of(self, subject: UserId) -> Sequence[TokenRow]:
        """A person's tokens that are good, the newest first."""
        async with self._database.as_subject(subject) as connection:
            rows = await connection.fetch(
                "SELECT * FROM token WHERE until > $1 ORDER BY made_at DESC, id",
                self._database.clock.now(),
            )
        return [_token(row) for row in rows]

    async def revoke(self, subject: UserId, id: uuid.UUID) -> bool:
        """End a token of that person's, at once. False if it is none of theirs."""
        ended = next((row for row in await self.tokens_of(subject) if row.id == id), None)
        if ended is None:
            return False
        await self._note_end(subject, ended.name)
        async with self._database.as_subject(subject) as connection:
            result = await connection.execute("DELETE FROM token WHERE id = $1", id)
        return result != "DELETE 0"

    async def revoke_all(self, subject: UserId) -> int:
        """End all tokens of that person, at once; how many there were."""
        if not await self.tokens_of(subject):
            return 0
        await self._note_end(subject, "all")
        async with self._database.as_subject(subject) as connection:
            result = await connection.execute("DELETE FROM token")
        return int(result.rpartition(" ")[2])

    async def log_out(self, token: str) -> bool:
        """End the token itself, at once. False if it was none."""
        row = await self.find(token, None)
        return row is not None and await self.revoke(row.subject, row.id)

    async def _note_end(self, subject: UserId, which: str) -> None:
        await self._audit.record(
            actor=subject, action=AuditAction.END_SESSION, target=which, subject=subject
        )


class Links:
    """One-time links: each opens once, soon, for one person and one purpose."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def make(self, subject: UserId, purpose: str) -> Secret:
        """Make what a link carries. An earlier one for the same purpose opens no more."""
        token = secrets.token_urlsafe(_BYTES)
        core = self._database.core
        with at_the_door():
            async with core.acquire() as connection, connection.transaction():
                await connection.execute(
                    "DELETE FROM link WHERE subject = $1 AND purpose = $2", subject, purpose
                )
                await connection.execute(
                    "INSERT INTO link (hash, subject, purpose, until) VALUES ($1, $2, $3, $4)",
                    _hash(token), subject, purpose, self._database.clock.now() + LINK_LIFE,
                )  # fmt: skip
        return Secret(token)

    async def take(self, token: str) -> LinkRow | None:
        """What the link is for; None if there is none, or it was opened before, or is over."""
        now = self._database.clock.now()
        with at_the_door():
            row = await self._database.core.fetchrow(
                "DELETE FROM link WHERE hash = $1 RETURNING subject, purpose, "
                "until > $2 AND until <= $3 AS good",
                _hash(token), now, now + LINK_LIFE + _STEP,
            )  # fmt: skip
        if row is None or not row["good"]:
            return None
        return LinkRow(subject=UserId(row["subject"]), purpose=row["purpose"])


class UsedOpenIds:
    """Which OpenID tokens were shown to us, so that none is accepted again.

    Those of the last day are noted beside the database too, in ``keys/used-openids``: a restored
    backup does not know them.
    """

    def __init__(self, database: Database, state_dir: Path) -> None:
        self._database = database
        path = state_dir / "keys" / "used-openids"
        what = "a sign-in of before a restored backup could be repeated for a day"
        try:
            self._notes = HashedNotes(path, what)
        except ConfigError as error:
            # The database has them too: a day's notes are no reason to stand still.
            log.warning("%s; it is begun anew", error, extra={"event": "used_openids_lost"})
            with contextlib.suppress(OSError):
                path.unlink()
            self._notes = HashedNotes(path, what)

    async def note(self, digest: bytes, until: datetime) -> bool:
        """Note a token's hash until that moment; False if it was noted before.

        Raises ``TemporaryFailure``; then it is noted, or is not.
        """
        one = self._notes.hash(UserId(digest.hex()))
        if any(one == noted for noted, _ in self._notes.notes):
            return False
        with at_the_door():
            result = await self._database.core.execute(
                "INSERT INTO openid_used (hash, until) VALUES ($1, $2) ON CONFLICT DO NOTHING",
                digest, until,
            )  # fmt: skip
        if result != "INSERT 0 1":
            return False
        now = self._database.clock.now()
        end = min(until, now + _NOTED_BESIDE)
        await self._notes.change(
            lambda notes: {
                *((other, over) for other, over in notes if over > now.timestamp()),
                (one, int(end.timestamp())),
            }
        )
        return True


def _hash(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()


def _token(row: asyncpg.Record) -> TokenRow:
    return TokenRow(
        id=row["id"],
        subject=UserId(row["subject"]),
        scope=row["scope"],
        made_at=row["made_at"],
        used_at=row["used_at"],
        until=row["until"],
    )
