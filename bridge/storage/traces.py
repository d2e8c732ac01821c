"""What is known of one event or message: where it came in, what became of it, and when."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import asyncpg

from bridge.model import ItemId, MessageLink, ParkReason, RowId, Source
from bridge.sdk.errors import TemporaryFailure
from bridge.sdk.ids import EventId
from bridge.storage.door import at_the_door
from bridge.storage.items import Items
from bridge.storage.journal import KEY_BYTES, Journal
from bridge.storage.keys import KeyLost
from bridge.storage.pool import Database
from bridge.storage.portals import link_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Landing:
    """An event as it came from the homeserver."""

    item: ItemId
    source: Source
    received_at: datetime
    marked_at: datetime | None
    is_done: bool
    event: dict[str, Any] | None
    """As it was received; None if it cannot be read any more."""
    aside: Sequence[tuple[str, ParkReason, datetime]]
    """For whom it is parked, why, since when."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Departure:
    """A message as it goes into Matrix."""

    remote_id: str | None
    event_id: EventId | None
    sender: str
    room: str
    state: str
    received_at: datetime
    sent_at: datetime | None
    reason: str | None


class Traces:
    """Looks things up; slowly, since nothing is kept just for it."""

    def __init__(
        self,
        database: Database,
        journal: Journal,
        items: Items,
        *,
        keys_of: Callable[[Sequence[str]], list[bytes]],
        parse: Callable[[bytes], Any],
    ) -> None:
        self._database = database
        self._journal = journal
        self._items = items
        self._keys_of = keys_of
        self._parse = parse

    async def landings(self, event_id: str) -> list[Landing]:
        """Where the event came in, the oldest first: again each time that it was tried again."""
        (key,) = self._keys_of([event_id])
        with at_the_door():
            rows = await self._database.core.fetch(
                "SELECT day, seq, source, received_at, marked_at, event_keys, progress "
                "FROM journal WHERE position($1 IN event_keys) > 0 ORDER BY day, seq",
                key,
            )
        found = []
        for row in rows:
            place = _place(row["event_keys"], key)
            if place is not None:
                found.append(await self._landing(row, place))
        return found

    async def links(self, event_id: str) -> list[MessageLink]:
        """Which remote messages the event is, or which event of ours it is."""
        with at_the_door():
            rows = await self._database.core.fetch(
                "SELECT m.* FROM portal p JOIN message m ON m.portal = p.id "
                "WHERE m.event_id = $1 ORDER BY m.portal, m.part",
                event_id,
            )
        return [link_of(row) for row in rows]

    async def events_of(self, remote_id: str) -> list[str]:
        """The events that a remote message is."""
        with at_the_door():
            rows = await self._database.core.fetch(
                "SELECT m.event_id FROM portal p JOIN message m ON m.portal = p.id "
                "WHERE m.remote_id = $1 UNION SELECT event_id FROM outbox "
                "WHERE remote_id = $1 AND event_id IS NOT NULL",
                remote_id.encode("utf-8", "surrogatepass"),
            )
        return [row["event_id"] for row in rows]

    async def departures(self, identifier: str) -> list[Departure]:
        """What goes into Matrix under this event id or remote id."""
        with at_the_door():
            rows = await self._database.core.fetch(
                "SELECT * FROM outbox WHERE event_id = $1 OR remote_id = $2 ORDER BY day, seq",
                identifier, identifier.encode("utf-8", "surrogatepass"),
            )  # fmt: skip
        return [_departure(row) for row in rows]

    async def _landing(self, row: asyncpg.Record, place: int) -> Landing:
        row_id = RowId(row["day"], row["seq"])
        item = ItemId(*row_id, place)
        return Landing(
            item=item,
            source=Source(row["source"]),
            received_at=row["received_at"],
            marked_at=row["marked_at"],
            is_done=bool(row["progress"][place >> 3] & (1 << (place & 7))),
            event=await self._event(row_id, place),
            aside=await self._items.parked_of(item),
        )

    async def _event(self, row: RowId, place: int) -> dict[str, Any] | None:
        try:
            landed = await self._journal.read(row)
        except KeyLost:
            return None
        if landed is None:
            raise TemporaryFailure("it is being forgotten")
        event = self._parse(landed.body).events[place]
        return event if isinstance(event, dict) else None


def _place(packed: bytes, key: bytes) -> int | None:
    for at in range(0, len(packed), KEY_BYTES):
        if packed[at : at + KEY_BYTES] == key:
            return at // KEY_BYTES
    return None


def _departure(row: asyncpg.Record) -> Departure:
    remote_id = row["remote_id"]
    return Departure(
        remote_id=None if remote_id is None else remote_id.decode("utf-8", "surrogatepass"),
        event_id=row["event_id"],
        sender=row["sender"],
        room=row["room"],
        state=row["state"],
        received_at=row["received_at"],
        sent_at=row["sent_at"],
        reason=row["reason"],
    )
