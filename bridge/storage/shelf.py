"""What was put aside, of every kind: seen, and let go."""

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

import asyncpg

from bridge.jsontext import decode
from bridge.model import ItemId, ParkReason
from bridge.sdk.errors import PermanentFailure
from bridge.sdk.ids import RoomId
from bridge.storage.door import at_the_door
from bridge.storage.items import item_context
from bridge.storage.keys import DayKeys, KeyLost
from bridge.storage.outboxentry import outbox_context
from bridge.storage.pool import Database
from bridge.storage.timers import timer_context

_UNREADABLE = "what it was cannot be read any more"
_ROOMS = (
    "SELECT 'portal:' || id AS consumer, room FROM portal WHERE 'portal:' || id = ANY($1::text[])"
)
_FENCED = " AND (SELECT epoch FROM lease WHERE shard = 0) = ${}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Parked:
    """One thing put aside. ``kind`` and ``key`` say which row it is."""

    kind: str
    """``item`` (from Matrix), ``outgoing`` (into Matrix) or ``timer``."""
    key: tuple[Any, ...]
    consumer: str
    """Whose it was: ``portal:3``, ``bot:dice:!room``; for what goes into Matrix, who says it."""
    room: RoomId | None
    reason: ParkReason
    detail: str
    since: datetime
    event: bytes = b""
    """What came from Matrix, as JSON; empty if it was no event or cannot be read."""

    @property
    def name(self) -> str:
        """A short name to call it by, the same each time: eight letters and digits."""
        digest = hashlib.sha256(repr((self.kind, self.key)).encode()).digest()
        return base64.b32encode(digest[:5]).decode().casefold()


class Shelf:
    """All that is parked."""

    def __init__(self, database: Database, day_keys: DayKeys) -> None:
        self._database = database
        self._day_keys = day_keys

    async def all(self, room: RoomId | None = None) -> Sequence[Parked]:
        """What is parked, the oldest first; of one room, if one is named."""
        core = self._database.core
        with at_the_door():
            items = await core.fetch("SELECT * FROM item WHERE state = 'parked'")
            outgoing = await core.fetch("SELECT * FROM outbox WHERE state = 'parked'")
            timers = await core.fetch("SELECT * FROM timer WHERE state = 'parked'")
            portals = await core.fetch(_ROOMS, [row["consumer"] for row in items])
        rooms = {row["consumer"]: row["room"] for row in portals}
        found = [self._item(row, rooms) for row in items]
        found += [self._outgoing(row) for row in outgoing]
        found += [self._timer(row) for row in timers]
        if room is not None:
            found = [parked for parked in found if parked.room == room]
        return sorted(found, key=lambda parked: parked.since)

    async def get(self, name: str, room: RoomId | None = None) -> Parked:
        """The one of that name. Raises ``PermanentFailure`` if there is none."""
        for parked in await self.all(room):
            if parked.name == name.casefold():
                return parked
        where = " of this room" if room is not None else ""
        raise PermanentFailure(f"nothing{where} is parked under {name[:20]!r}")

    async def has(self, parked: Parked) -> bool:
        """Whether it is parked still."""
        statement = {
            "item": "SELECT FROM item WHERE (day, seq, index, consumer) = ($1, $2, $3, $4) "
            "AND state = 'parked'",
            "outgoing": "SELECT FROM outbox WHERE (day, seq) = ($1, $2) AND state = 'parked'",
            "timer": "SELECT FROM timer WHERE id = $1 AND state = 'parked'",
        }[parked.kind]
        with at_the_door():
            return await self._database.core.fetchrow(statement, *parked.key) is not None

    async def drop(self, parked: Parked) -> None:
        """Let it go for good. Once another instance took over it has no effect."""
        statement = {
            "item": "DELETE FROM item WHERE (day, seq, index, consumer) = ($1, $2, $3, $4) "
            "AND state = 'parked'",
            "outgoing": "UPDATE outbox SET state = 'dropped' WHERE (day, seq) = ($1, $2) "
            "AND state = 'parked'",
            "timer": "DELETE FROM timer WHERE id = $1 AND state = 'parked'",
        }[parked.kind]
        with at_the_door():
            await self._database.core.execute(
                statement + _FENCED.format(len(parked.key) + 1), *parked.key, self._database.epoch
            )

    def _item(self, row: asyncpg.Record, rooms: dict[str, str]) -> Parked:
        consumer = row["consumer"]
        item = ItemId(row["day"], row["seq"], row["index"])
        associated = item_context(item, consumer)
        event = self._open(row["day"], associated, row["event"])
        room = rooms.get(consumer)
        if room is None and consumer.startswith("bot:"):
            room = consumer.split(":", 2)[2]
        return Parked(
            kind="item", key=(*item, consumer), consumer=consumer,
            room=None if room is None else RoomId(room), reason=ParkReason(row["reason"]),
            detail=self._text(row["day"], associated, row["detail"]), since=row["since"],
            event=event or b"",
        )  # fmt: skip

    def _outgoing(self, row: asyncpg.Record) -> Parked:
        day, seq = row["day"], row["seq"]
        return Parked(
            kind="outgoing", key=(day, seq), consumer=row["sender"], room=RoomId(row["room"]),
            reason=ParkReason(row["reason"]),
            detail=self._text(day, outbox_context(day, seq), row["detail"]),
            since=row["received_at"],
        )  # fmt: skip

    def _timer(self, row: asyncpg.Record) -> Parked:
        room = row["room"]
        day = row["at"].astimezone(UTC).date()
        return Parked(
            kind="timer", key=(row["id"],), consumer=f"bot:{row['instance']}",
            room=None if room is None else RoomId(room), reason=ParkReason(row["reason"]),
            detail=self._text(day, timer_context(row["id"]), row["detail"]), since=row["at"],
        )  # fmt: skip

    def _text(self, day: date, associated: bytes, sealed: bytes | None) -> str:
        opened = self._open(day, associated, sealed)
        return _UNREADABLE if opened is None else opened.decode("utf-8", "replace")

    def _open(self, day: date, associated: bytes, sealed: bytes | None) -> bytes | None:
        try:
            return None if sealed is None else self._day_keys.open(day, associated, sealed)
        except KeyLost:
            return None


def summary(parked: Parked) -> dict[str, Any]:
    """For machines: everything but what people said."""
    return {
        "name": parked.name, "kind": parked.kind, "consumer": parked.consumer,
        "room": parked.room, "reason": parked.reason.value, "detail": parked.detail,
        "since": parked.since.isoformat(),
    }  # fmt: skip


def contents(parked: Parked) -> dict[str, Any]:
    """The same, with the event itself where it is kept."""
    event = decode(parked.event) if parked.event else None
    return {**summary(parked), "event": event}
