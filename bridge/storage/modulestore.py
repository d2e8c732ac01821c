"""What modules keep: a durable map for each instance, exported, erased and expired by us."""

from collections.abc import Mapping
from datetime import timedelta

from bridge.sdk.ids import InstanceId, RoomId
from bridge.storage.door import at_the_door
from bridge.storage.pool import Database


class InstanceStore:
    """One instance's map (``sdk.Store``)."""

    def __init__(self, database: Database, instance: InstanceId) -> None:
        self._database = database
        self._instance = instance

    async def get(self, key: str) -> bytes | None:
        """The value, None if there is none or its time is over."""
        with at_the_door():
            value = await self._database.core.fetchval(
                "SELECT value FROM module_store WHERE instance = $1 AND key = $2 "
                "AND (until IS NULL OR until > $3)",
                self._instance, key, self._database.clock.now(),
            )  # fmt: skip
        return None if value is None else bytes(value)

    async def put(
        self,
        key: str,
        value: bytes,
        *,
        subject: str | None = None,
        room: RoomId | None = None,
        keep_for: timedelta | None = None,
    ) -> None:
        """Keep the value, about ``subject`` and ``room`` if it is about any, for so long."""
        now = self._database.clock.now()
        with at_the_door():
            await self._database.core.execute(
                "INSERT INTO module_store (instance, key, value, subject, room, until) "
                "VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (instance, key) DO UPDATE SET "
                "value = excluded.value, subject = excluded.subject, room = excluded.room, "
                "until = excluded.until",
                self._instance, key, value, subject, room,
                None if keep_for is None else now + keep_for,
            )  # fmt: skip

    async def delete(self, key: str) -> None:
        """Forget the key."""
        with at_the_door():
            await self._database.core.execute(
                "DELETE FROM module_store WHERE instance = $1 AND key = $2", self._instance, key
            )

    async def find(self, prefix: str) -> Mapping[str, bytes]:
        """All keys that begin with ``prefix``, with their values."""
        with at_the_door():
            rows = await self._database.core.fetch(
                "SELECT key, value FROM module_store WHERE instance = $1 "
                "AND starts_with(key, $2) AND (until IS NULL OR until > $3)",
                self._instance, prefix, self._database.clock.now(),
            )  # fmt: skip
        return {row["key"]: bytes(row["value"]) for row in rows}
