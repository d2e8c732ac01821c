"""Timers of bots: rows that wait for their time, the note sealed with the key of that day."""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import asyncpg

from bridge.model import Forgotten, ParkReason
from bridge.sdk.errors import PermanentFailure, TemporaryFailure
from bridge.sdk.ids import InstanceId, RoomId, UserId
from bridge.sdk.timers import MOST_TIMERS, Timer, check_timer
from bridge.storage.door import at_the_door
from bridge.storage.keys import DayKeys, KeyLost
from bridge.storage.pool import Database

log = logging.getLogger(__name__)

_SET = (
    "INSERT INTO timer (instance, key, id, at, due, note, room, subject, state, tries, epoch) "
    "SELECT $1, $2, $3, $4, $4, $5, $6, $7, 'waiting', 0, $8 "
    "WHERE (SELECT epoch FROM lease WHERE shard = 0) = $8 "
    "AND ((SELECT count(*) FROM timer WHERE instance = $1) < $9 "
    "OR EXISTS (SELECT FROM timer WHERE instance = $1 AND key = $2)) "
    "ON CONFLICT (instance, key) DO UPDATE SET id = excluded.id, at = excluded.at, "
    "due = excluded.due, note = excluded.note, room = excluded.room, "
    "subject = excluded.subject, state = 'waiting', tries = 0, reason = NULL, detail = NULL, "
    "epoch = excluded.epoch RETURNING id"
)
_TAKE = (
    "UPDATE timer SET tries = tries + 1 WHERE id = (SELECT id FROM timer WHERE instance = $1 "
    "AND state = 'waiting' AND due <= $2 ORDER BY due, id LIMIT 1) "
    "AND (SELECT epoch FROM lease WHERE shard = 0) = $3 RETURNING *"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ringing:
    """A timer whose time has come."""

    id: UUID
    """Another one each time that the key is set."""
    timer: Timer
    tries: int
    """With this one. Stored before it is tried, so that one that ends the program counts."""


class InstanceTimers:
    """One instance's timers (``sdk.Timers``), and what its keeper needs of them."""

    def __init__(
        self,
        database: Database,
        day_keys: DayKeys,
        instance: InstanceId,
        *,
        most: int = MOST_TIMERS,
    ) -> None:
        self._database = database
        self._day_keys = day_keys
        self._instance = instance
        self._most = most
        self.changed = asyncio.Event()
        """Set when the next one may be another than before."""
        self.are_heard = True
        """False for a bot that is no ``HearsTimers``."""

    async def set(
        self,
        key: str,
        *,
        at: datetime | None = None,
        after: timedelta | None = None,
        note: bytes = b"",
        room: RoomId | None = None,
        subject: UserId | None = None,
    ) -> Timer:
        """Have it ring; as ``sdk.Timers`` says."""
        if not self.are_heard:
            raise PermanentFailure("a bot without on_timer() cannot set a timer")
        at = check_timer(self._database.clock.now(), key, at, after, note)
        timer = Timer(key=key, at=at, note=note, room=room, subject=subject)
        ring = uuid4()
        with at_the_door():
            stored = await self._database.core.fetchval(
                _SET, self._instance, key, ring, at, self._seal(ring, at, note), room, subject,
                self._database.epoch, self._most,
            )  # fmt: skip
        if stored is None:
            await self._refuse()
        self.changed.set()
        return timer

    async def cancel(self, key: str) -> bool:
        """Forget it; False if there is none."""
        with at_the_door():
            result = await self._database.core.execute(
                "DELETE FROM timer WHERE instance = $1 AND key = $2 "
                "AND (SELECT epoch FROM lease WHERE shard = 0) = $3",
                self._instance, key, self._database.epoch,
            )  # fmt: skip
        return bool(result != "DELETE 0")

    async def list(
        self, *, room: RoomId | None = None, subject: UserId | None = None
    ) -> Sequence[Timer]:
        """Those that wait, the next one first."""
        with at_the_door():
            rows = await self._database.core.fetch(
                "SELECT * FROM timer WHERE instance = $1 AND state = 'waiting' "
                "AND ($2::text IS NULL OR room = $2) AND ($3::text IS NULL OR subject = $3) "
                "ORDER BY at, id",
                self._instance, room, subject,
            )  # fmt: skip
        found = []
        for row in rows:
            try:
                found.append(self._open(row))
            except KeyLost as error:
                _tell_unreadable(self._instance, error)
        return found

    # --- for the keeper ---

    async def take(self) -> Ringing | None:
        """Give the first that is due and count the try, durably; None if none is due."""
        while True:
            with at_the_door():
                row = await self._database.core.fetchrow(
                    _TAKE, self._instance, self._database.clock.now(), self._database.epoch
                )
            if row is None:
                return None
            try:
                return Ringing(id=row["id"], timer=self._open(row), tries=row["tries"])
            except KeyLost as error:
                _tell_unreadable(self._instance, error)
                await self.finish(row["id"])

    async def next_due(self) -> datetime | None:
        """When the next one is due; None if none waits."""
        with at_the_door():
            due: datetime | None = await self._database.core.fetchval(
                "SELECT min(due) FROM timer WHERE instance = $1 AND state = 'waiting'",
                self._instance,
            )
        return due

    async def finish(self, ring: UUID) -> None:
        """It has rung. A timer that was set anew meanwhile stays."""
        with at_the_door():
            await self._database.core.execute(
                "DELETE FROM timer WHERE id = $1 "
                "AND (SELECT epoch FROM lease WHERE shard = 0) = $2",
                ring, self._database.epoch,
            )  # fmt: skip

    async def put_off(self, ring: UUID, due: datetime, *, counts: bool) -> None:
        """Have it ring again at ``due``; a try that does not count is taken back."""
        with at_the_door():
            await self._database.core.execute(
                "UPDATE timer SET due = $2, tries = tries - $3 WHERE id = $1 "
                "AND (SELECT epoch FROM lease WHERE shard = 0) = $4",
                ring, due, 0 if counts else 1, self._database.epoch,
            )  # fmt: skip

    async def park(self, ring: UUID, at: datetime, reason: ParkReason, detail: str) -> None:
        """Put it aside with the reason in a sentence; one whose day is over is let go."""
        try:
            sealed = self._seal(ring, at, detail.encode("utf-8", "replace"))
        except Forgotten:
            await self.finish(ring)
            return
        with at_the_door():
            await self._database.core.execute(
                "UPDATE timer SET state = 'parked', reason = $2, detail = $3 WHERE id = $1 "
                "AND (SELECT epoch FROM lease WHERE shard = 0) = $4",
                ring, reason.value, sealed, self._database.epoch,
            )  # fmt: skip

    async def take_back(self, ring: UUID) -> bool:
        """Have a parked one ring now. False if it is not parked here."""
        with at_the_door():
            result = await self._database.core.execute(
                "UPDATE timer SET state = 'waiting', tries = 0, reason = NULL, detail = NULL, "
                "due = $3 WHERE id = $1 AND instance = $2 AND state = 'parked' "
                "AND (SELECT epoch FROM lease WHERE shard = 0) = $4",
                ring, self._instance, self._database.clock.now(), self._database.epoch,
            )  # fmt: skip
        self.changed.set()
        return result != "UPDATE 0"

    # --- inside ---

    async def _refuse(self) -> None:
        with at_the_door():
            epoch = await self._database.core.fetchval("SELECT epoch FROM lease WHERE shard = 0")
        if epoch != self._database.epoch:
            raise TemporaryFailure("another instance took over the database")
        raise PermanentFailure(f"{self._instance} has {self._most} timers, and no room for more")

    def _seal(self, ring: UUID, at: datetime, data: bytes) -> bytes:
        return self._day_keys.seal(at.date(), timer_context(ring), data)

    def _open(self, row: asyncpg.Record) -> Timer:
        at = row["at"].astimezone(UTC)
        room, subject = row["room"], row["subject"]
        return Timer(
            key=row["key"],
            at=at,
            note=self._day_keys.open(at.date(), timer_context(row["id"]), row["note"]),
            room=None if room is None else RoomId(room),
            subject=None if subject is None else UserId(subject),
        )


def timer_context(ring: UUID) -> bytes:
    """What a timer's sealed parts are bound to."""
    return f"timer {ring}".encode()


def _tell_unreadable(instance: InstanceId, error: KeyLost) -> None:
    log.error(
        "a timer of %s cannot be read: %s", instance, error, extra={"event": "timer_unreadable"}
    )
