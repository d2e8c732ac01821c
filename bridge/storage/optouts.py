"""Who does not want to be bridged."""

from bridge.sdk.ids import UserId
from bridge.storage.door import at_the_door
from bridge.storage.pool import Database


class OptOutStore:
    """Rows of (person, portal); portal 0 is all of them. A person may be a ghost."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def all(self) -> set[tuple[UserId, int]]:
        """Everybody's."""
        with at_the_door():
            rows = await self._database.core.fetch("SELECT subject, portal FROM opt_out")
        return {(UserId(row["subject"]), row["portal"]) for row in rows}

    async def add(self, subject: UserId, portal: int) -> None:
        """Note that the person is not to be bridged there."""
        with at_the_door():
            await self._database.core.execute(
                "INSERT INTO opt_out (subject, portal, since) VALUES ($1, $2, $3) "
                "ON CONFLICT DO NOTHING",
                subject, portal, self._database.clock.now(),
            )  # fmt: skip

    async def remove(self, subject: UserId, portal: int) -> None:
        """Note that the person may be bridged there; for portal 0 everywhere again."""
        with at_the_door():
            await self._database.core.execute(
                "DELETE FROM opt_out WHERE subject = $1 AND (portal = $2 OR $2 = 0)",
                subject, portal,
            )  # fmt: skip
