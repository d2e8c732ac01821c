"""What the operators' status room shows: a row for each trouble, until it is said to be over."""

from collections.abc import Collection, Sequence
from dataclasses import replace

import asyncpg

from bridge.model import Trouble
from bridge.sdk.ids import RoomId, UserId
from bridge.storage.door import at_the_door
from bridge.storage.pool import Database


class TroubleStore:
    """Where the status room is, and what it shows."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def room(self) -> RoomId | None:
        """The status room, if there is one."""
        with at_the_door():
            room = await self._database.core.fetchval("SELECT room FROM status_room WHERE id = 1")
        return None if room is None else RoomId(room)

    async def set_room(self, room: RoomId) -> None:
        """Note which room it is; what an earlier one showed is not shown here."""
        with at_the_door():
            async with self._database.core.acquire() as connection, connection.transaction():
                await connection.execute("DELETE FROM trouble")
                await connection.execute(
                    "INSERT INTO status_room (id, room) VALUES (1, $1) "
                    "ON CONFLICT (id) DO UPDATE SET room = $1, invited = '{}'",
                    room,
                )

    async def invited(self) -> Sequence[UserId]:
        """Who was invited into it, and was not taken out since."""
        with at_the_door():
            found = await self._database.core.fetchval(
                "SELECT invited FROM status_room WHERE id = 1"
            )
        return [UserId(one) for one in found or ()]

    async def set_invited(self, people: Sequence[UserId]) -> None:
        """Note who is in it by our invitation."""
        with at_the_door():
            await self._database.core.execute(
                "UPDATE status_room SET invited = $1 WHERE id = 1", people
            )

    async def all(self) -> Sequence[Trouble]:
        """What is shown and not over, or over and not said to be; the oldest first."""
        with at_the_door():
            rows = await self._database.core.fetch("SELECT * FROM trouble ORDER BY since, key")
            return [await self._read(row) for row in rows]

    async def keep(self, trouble: Trouble) -> None:
        """Note what is shown of it."""
        with at_the_door():
            await self._database.core.execute(
                "INSERT INTO trouble (key, sentence, since, over_at, said, revision, day, "
                "transaction_id, event_id, seen_by) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, "
                "$10) ON CONFLICT (key) DO UPDATE SET sentence = $2, since = $3, over_at = $4, "
                "said = $5, revision = $6, day = $7, transaction_id = $8, event_id = $9, "
                "seen_by = $10",
                trouble.key, trouble.sentence, trouble.since, trouble.over_at, trouble.said,
                trouble.revision, trouble.day, trouble.transaction_id, trouble.event_id,
                trouble.seen_by,
            )  # fmt: skip

    async def forget(self, key: str) -> None:
        """Show it no more."""
        with at_the_door():
            await self._database.core.execute("DELETE FROM trouble WHERE key = $1", key)

    async def refused(self, room: RoomId) -> Collection[str]:
        """The transaction ids of what was to be said in the room and was put aside."""
        with at_the_door():
            rows = await self._database.core.fetch(
                "SELECT transaction_id FROM outbox WHERE state = 'parked' AND room = $1", room
            )
        return {row["transaction_id"] for row in rows}

    async def _read(self, row: asyncpg.Record) -> Trouble:
        """Read a row; which event its message became is learned from the outbox, and kept."""
        trouble = Trouble(**dict(row))
        if trouble.event_id is None:
            event_id = await self._database.core.fetchval(
                "SELECT event_id FROM outbox WHERE (day, transaction_id) = ($1, $2)",
                trouble.day, trouble.transaction_id,
            )  # fmt: skip
            if event_id is not None:
                trouble = replace(trouble, event_id=event_id)
                await self.keep(trouble)
        return trouble
