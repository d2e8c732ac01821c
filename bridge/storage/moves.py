"""A portal's move into another room, with what waits in the outbox for the old one."""

from collections.abc import Mapping, Sequence
from contextlib import suppress

import asyncpg

from bridge.model import Forgotten, QueuedOutgoing
from bridge.sdk.errors import PermanentFailure, TemporaryFailure
from bridge.sdk.ids import RoomId
from bridge.storage.door import at_the_door
from bridge.storage.keys import DayKeys, KeyLost
from bridge.storage.outboxentry import open_entry, outbox_context, payload_of
from bridge.storage.pool import Database

_TIE = (
    # It may be tied so by an earlier try of which nobody heard.
    "UPDATE portal SET room = $2, former_rooms = CASE WHEN room = $2 THEN former_rooms "
    "ELSE array_append(array_remove(former_rooms, $2), room) END WHERE id = $1"
)
_WAITING = (
    "SELECT seq FROM outbox WHERE state = 'queued' AND room = ANY($1::text[]) AND portal = $2 "
    "ORDER BY seq"
)
_READ = (
    "SELECT * FROM outbox WHERE state = 'queued' AND room = ANY($1::text[]) "
    "AND seq = ANY($3::bigint[]) AND portal = $2"
)
_READDRESS = (
    "UPDATE outbox SET room = $1, content = n.content "
    "FROM unnest($2::date[], $3::bigint[], $4::bytea[]) AS n (day, seq, content) "
    "WHERE (outbox.day, outbox.seq) = (n.day, n.seq) AND outbox.state = 'queued'"
)
_LEAVE_OUT = (
    "UPDATE outbox SET state = 'dropped', content = n.content "
    "FROM unnest($1::date[], $2::bigint[], $3::bytea[]) AS n (day, seq, content) "
    "WHERE (outbox.day, outbox.seq) = (n.day, n.seq) AND outbox.state = 'queued'"
)
_READDRESS_ONE = (
    "UPDATE outbox SET room = $4 WHERE (day, seq) = ($1, $2) AND state = 'queued' AND room = $3 "
    "AND (SELECT epoch FROM lease WHERE shard = 0) = $5"
)


class Moves:
    """Portals and their entries of the outbox: both are of the new room, or neither is."""

    def __init__(self, database: Database, day_keys: DayKeys) -> None:
        self._database = database
        self._day_keys = day_keys

    async def waiting(
        self, portal: int, rooms: Sequence[RoomId], read: Mapping[int, QueuedOutgoing]
    ) -> list[QueuedOutgoing]:
        """What of a portal waits for any of the rooms, in order; without what cannot be read.

        ``read`` is what was read of it before, by number: that may be over, but does not change.
        """
        with at_the_door():
            of = list(rooms), portal
            there = await self._database.core.fetch(_WAITING, *of)
            news = [row["seq"] for row in there if row["seq"] not in read]
            rows = await self._database.core.fetch(_READ, *of, news) if news else ()
        found = dict(read)
        for row in rows:
            # Whoever is to send it says so.
            with suppress(KeyLost):
                found[row["seq"]] = open_entry(row, self._day_keys)
        return [found[row["seq"]] for row in there if row["seq"] in found]

    async def move(
        self, portal: int, room: RoomId, going: Sequence[QueuedOutgoing],
        left_out: Sequence[QueuedOutgoing],
    ) -> None:  # fmt: skip
        """Tie a portal to a room, where ``going`` go as they stand there, and leave others out.

        All in one commit. Raises ``PermanentFailure`` if the room is tied to the same chat or the
        portal is gone, and ``TemporaryFailure`` when the database is away; then it may be done,
        and can be again.
        """
        readdressed = self._sealed(going, [payload_of(one.outgoing) for one in going])
        emptied = self._sealed(left_out, [b"{}"] * len(left_out))
        try:
            with at_the_door():
                async with self._database.core.acquire() as connection, connection.transaction():
                    epoch = await connection.fetchval("SELECT epoch FROM lease WHERE shard = 0")
                    if epoch != self._database.epoch:
                        raise TemporaryFailure("another instance took over the database")
                    tied = await connection.execute(_TIE, portal, room)
                    if tied == "UPDATE 0":
                        raise PermanentFailure("the bridge has ended meanwhile")
                    await connection.execute(_READDRESS, room, *readdressed)
                    await connection.execute(_LEAVE_OUT, *emptied)
        except asyncpg.UniqueViolationError as error:
            raise PermanentFailure("the new room is bridged to the same chat already") from error

    async def readdress(self, queued: QueuedOutgoing, room: RoomId) -> bool:
        """Have one entry wait for another room; False if it waits for its own no more."""
        with at_the_door():
            moved = await self._database.core.execute(
                _READDRESS_ONE, queued.day, queued.seq, queued.outgoing.room, room,
                self._database.epoch,
            )  # fmt: skip
        return bool(moved == "UPDATE 1")

    def _sealed(
        self, entries: Sequence[QueuedOutgoing], payloads: Sequence[bytes]
    ) -> tuple[list[object], list[object], list[object]]:
        """Columns: day, number and sealed content; without those whose day is over."""
        columns: tuple[list[object], list[object], list[object]] = ([], [], [])
        for one, payload in zip(entries, payloads, strict=True):
            try:
                sealed = self._day_keys.seal(one.day, outbox_context(one.day, one.seq), payload)
            except Forgotten:
                continue  # Whoever is to send it lets it go.
            for column, value in zip(columns, (one.day, one.seq, sealed), strict=True):
                column.append(value)
        return columns
