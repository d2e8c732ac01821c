"""Which policy lists the portals follow, and which bans came of them."""

from collections.abc import Sequence

from bridge.model import Subscription
from bridge.sdk.ids import RoomId, UserId
from bridge.storage.door import at_the_door
from bridge.storage.pool import Database


class PolicyStore:
    """Rows of (portal, room of the list), and of (portal, pattern of banned ids)."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def all(self) -> Sequence[Subscription]:
        """Every list of every portal, oldest first."""
        with at_the_door():
            rows = await self._database.core.fetch("SELECT * FROM policy_list ORDER BY since")
        return [
            Subscription(
                portal=row["portal"], room=RoomId(row["room"]), by=UserId(row["subject"]),
                applied=row["applied"], agreed=row["agreed"],
            )
            for row in rows
        ]  # fmt: skip

    async def put(self, one: Subscription) -> None:
        """Note it, in place of what was known of that list there."""
        with at_the_door():
            await self._database.core.execute(
                "INSERT INTO policy_list (portal, room, subject, applied, agreed, since) "
                "VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (portal, room) DO UPDATE SET "
                "subject = $3, applied = $4, agreed = $5",
                one.portal, one.room, one.by, one.applied, one.agreed,
                self._database.clock.now(),
            )  # fmt: skip

    async def remove(self, portal: int, room: RoomId) -> None:
        """Forget that the portal follows the list."""
        with at_the_door():
            await self._database.core.execute(
                "DELETE FROM policy_list WHERE portal = $1 AND room = $2", portal, room
            )

    async def bans(self) -> Sequence[tuple[int, str]]:
        """The bans that came of lists: (portal, pattern)."""
        with at_the_door():
            rows = await self._database.core.fetch("SELECT portal, pattern FROM policy_ban")
        return [(row["portal"], row["pattern"]) for row in rows]

    async def add_bans(self, portal: int, patterns: Sequence[str]) -> None:
        """Note that these bans are ours."""
        with at_the_door():
            await self._database.core.execute(
                "INSERT INTO policy_ban (portal, pattern, since) "
                "SELECT $1, unnest($2::text[]), $3 ON CONFLICT DO NOTHING",
                portal, list(patterns), self._database.clock.now(),
            )  # fmt: skip

    async def remove_bans(self, portal: int, patterns: Sequence[str]) -> None:
        """Note that these are not there any more, or none of ours."""
        with at_the_door():
            await self._database.core.execute(
                "DELETE FROM policy_ban WHERE portal = $1 AND pattern = ANY($2::text[])",
                portal, list(patterns),
            )  # fmt: skip
