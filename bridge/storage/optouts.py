"""Who does not want to be bridged."""

import logging
from pathlib import Path

from bridge.sdk.ids import UserId
from bridge.storage.door import at_the_door
from bridge.storage.hashednotes import NotNoted
from bridge.storage.optoutnotes import OptOutNotes
from bridge.storage.pool import Database

log = logging.getLogger(__name__)


class OptOutStore:
    """Rows of (person, portal); portal 0 is all of them. A person may be a ghost.

    Each has a note beside the database, which counts where a restore took the row.
    """

    def __init__(self, database: Database, state_dir: Path) -> None:
        self._database = database
        self._notes = OptOutNotes(state_dir)

    async def all(self) -> set[tuple[UserId, int]]:
        """Everybody's rows. Call before :meth:`is_noted`."""
        found = await self.rows()
        with at_the_door():
            portals = await self._database.core.fetch("SELECT id FROM portal")
        try:
            await self._notes.settle(found, [row["id"] for row in portals])
        except NotNoted as error:
            _tell(error)
        return found

    async def rows(self) -> set[tuple[UserId, int]]:
        """The same for a mere look: the notes are left alone."""
        with at_the_door():
            rows = await self._database.core.fetch("SELECT subject, portal FROM opt_out")
        return {(UserId(row["subject"]), row["portal"]) for row in rows}

    def is_noted(self, subject: UserId, portal: int) -> bool:
        """Whether the person opted out there, or everywhere, and a restore took the row."""
        return self._notes.cover(subject, portal)

    def may_take_back(self, subject: UserId, portal: int) -> bool:
        """Whether a restore took a row that :meth:`remove` would remove."""
        return self._notes.has_lost(subject, portal)

    async def add(self, subject: UserId, portal: int) -> None:
        """Note that the person is not to be bridged there."""
        with at_the_door():
            await self._database.core.execute(
                "INSERT INTO opt_out (subject, portal, since) VALUES ($1, $2, $3) "
                "ON CONFLICT DO NOTHING",
                subject, portal, self._database.clock.now(),
            )  # fmt: skip
        # After the row: what the database refused must not come into force by the note.
        try:
            await self._notes.add(subject, portal)
        except NotNoted as error:
            _tell(error)

    async def remove(self, subject: UserId, portal: int) -> None:
        """Note that the person may be bridged there; for portal 0 everywhere again."""
        # Before the row, which the next start would give another note.
        await self._notes.remove(subject, portal)
        with at_the_door():
            await self._database.core.execute(
                "DELETE FROM opt_out WHERE subject = $1 AND (portal = $2 OR $2 = 0)",
                subject, portal,
            )  # fmt: skip


def _tell(error: NotNoted) -> None:
    log.warning(
        "who opted out is not noted beside the database, so that a restore would undo it: %s",
        error.cause, extra={"event": "optout_not_noted"},
    )  # fmt: skip
