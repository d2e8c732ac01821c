"""What was deleted in Matrix, by marks that tell nothing without our key."""

from datetime import timedelta

from bridge.storage.datamap import RECEIVED_DAYS
from bridge.storage.door import at_the_door
from bridge.storage.pool import Database

_AT_LEAST_DAYS = 365
"""The setting may have been larger when a link was made that is deleted now."""
_WAIT_DAYS = 2 * RECEIVED_DAYS
"""A message may wait for so long, and be tried again after it, before it becomes a link."""


class DeletionStore:
    """Rows of (mark, until when it is known)."""

    def __init__(self, database: Database, *, link_days: int) -> None:
        """``link_days``: for how many days links work."""
        self._database = database
        self._life = timedelta(days=max(link_days, _AT_LEAST_DAYS) + _WAIT_DAYS)

    async def add(self, mark: str) -> None:
        """Note it, for longer than any link to it can work."""
        with at_the_door():
            await self._database.core.execute(
                "INSERT INTO deleted_message (mark, until) VALUES ($1, $2) "
                "ON CONFLICT (mark) DO UPDATE SET until = $2",
                mark, self._database.clock.now() + self._life,
            )  # fmt: skip

    async def has(self, mark: str) -> bool:
        """Whether it was noted. Raises ``TemporaryFailure`` when the database is away."""
        with at_the_door():
            found = await self._database.core.fetchval(
                "SELECT true FROM deleted_message WHERE mark = $1", mark
            )
        return found is not None
