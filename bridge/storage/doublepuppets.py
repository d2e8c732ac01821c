"""Who lets us speak with the own Matrix account, and whose the accounts on networks are."""

from collections.abc import Sequence

from bridge.sdk.ids import InstanceId, RemoteUserId, UserId
from bridge.storage.door import at_the_door
from bridge.storage.pool import Database


class DoublePuppetStore:
    """Two small tables."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def puppets(self) -> Sequence[tuple[UserId, str]]:
        """Everybody who gave leave, and by what."""
        with at_the_door():
            rows = await self._database.core.fetch("SELECT subject, way FROM double_puppet")
        return [(UserId(row["subject"]), row["way"]) for row in rows]

    async def set_puppet(self, subject: UserId, way: str) -> None:
        """Note that the person gave leave."""
        with at_the_door():
            await self._database.core.execute(
                "INSERT INTO double_puppet (subject, way, since) VALUES ($1, $2, $3) "
                "ON CONFLICT (subject) DO UPDATE SET way = excluded.way, since = excluded.since",
                subject, way, self._database.clock.now(),
            )  # fmt: skip

    async def remove_puppet(self, subject: UserId) -> None:
        """Note that the person took it back."""
        with at_the_door():
            await self._database.core.execute(
                "DELETE FROM double_puppet WHERE subject = $1", subject
            )

    async def accounts(self) -> Sequence[tuple[InstanceId, RemoteUserId, UserId]]:
        """Every account on a network that is known to be somebody's."""
        with at_the_door():
            rows = await self._database.core.fetch("SELECT * FROM remote_account")
        return [
            (
                InstanceId(row["instance"]),
                RemoteUserId(row["remote_id"].decode("utf-8", "surrogatepass")),
                UserId(row["subject"]),
            )
            for row in rows
        ]

    async def set_account(
        self, instance: InstanceId, remote: RemoteUserId, subject: UserId
    ) -> None:
        """Note whose account it is: the last login that said so has it."""
        with at_the_door():
            await self._database.core.execute(
                "INSERT INTO remote_account (instance, remote_id, subject) VALUES ($1, $2, $3) "
                "ON CONFLICT (instance, remote_id) DO UPDATE SET subject = excluded.subject",
                instance, remote.encode("utf-8", "surrogatepass"), subject,
            )  # fmt: skip

    async def remove_accounts(self, instance: InstanceId, subject: UserId) -> None:
        """Note that the person has none there."""
        with at_the_door():
            await self._database.core.execute(
                "DELETE FROM remote_account WHERE instance = $1 AND subject = $2",
                instance, subject,
            )  # fmt: skip
