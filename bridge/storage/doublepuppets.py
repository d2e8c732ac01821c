"""Who lets us speak from their own Matrix account, and whose the accounts on networks are."""

import logging
from collections.abc import Collection, Sequence
from pathlib import Path

from bridge.sdk.ids import InstanceId, RemoteUserId, UserId
from bridge.storage.door import at_the_door
from bridge.storage.hashednotes import HashedNotes, NotNoted
from bridge.storage.pool import Database

log = logging.getLogger(__name__)


class DoublePuppetStore:
    """Two small tables.

    That somebody took leave back is noted beside the database, too: the note counts where a
    restore brought back the row.
    """

    def __init__(self, database: Database, state_dir: Path) -> None:
        self._database = database
        self._off = HashedNotes(
            state_dir / "keys" / "double-off",
            "double puppets that were switched off since a restored backup was made speak again",
        )

    async def puppets(self) -> Sequence[tuple[UserId, str]]:
        """Everybody who gave leave, and by what."""
        return [(person, way) for person, way in await self._rows() if not self._is_off(person)]

    async def taken_back(self) -> Sequence[UserId]:
        """Who took leave back, though a restore brought back the row that gives it."""
        return [person for person, _ in await self._rows() if self._is_off(person)]

    async def _rows(self) -> Sequence[tuple[UserId, str]]:
        with at_the_door():
            rows = await self._database.core.fetch("SELECT subject, way FROM double_puppet")
        return [(UserId(row["subject"]), row["way"]) for row in rows]

    def _is_off(self, person: UserId) -> bool:
        return self._off.note(person) in self._off.notes

    async def set_puppet(self, subject: UserId, way: str) -> None:
        """Note that the person gave leave."""
        # Before the row: beside the note it would not count.
        off = self._off.note(subject)
        await self._off.change(lambda notes: notes - {off})
        with at_the_door():
            await self._database.core.execute(
                "INSERT INTO double_puppet (subject, way, since) VALUES ($1, $2, $3) "
                "ON CONFLICT (subject) DO UPDATE SET way = excluded.way, since = excluded.since",
                subject, way, self._database.clock.now(),
            )  # fmt: skip

    async def remove_puppet(self, subject: UserId) -> None:
        """Note that the person took it back."""
        if subject not in {person for person, _ in await self._rows()}:
            return
        # Before the row goes: cut off between the two, it is off all the same.
        off = self._off.note(subject)
        try:
            await self._off.change(lambda notes: notes | {off})
        except NotNoted as error:
            log.warning(
                "that a double puppet was switched off is not noted beside the database, so "
                "that a restore would undo it: %s", error.cause,
                extra={"event": "double_off_not_noted"},
            )  # fmt: skip
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

    async def remove_accounts(
        self, instance: InstanceId, subject: UserId, but: Collection[RemoteUserId]
    ) -> None:
        """Note that the person has none there but these."""
        with at_the_door():
            await self._database.core.execute(
                "DELETE FROM remote_account WHERE instance = $1 AND subject = $2 "
                "AND remote_id <> ALL ($3::bytea[])",
                instance, subject, [one.encode("utf-8", "surrogatepass") for one in but],
            )  # fmt: skip
