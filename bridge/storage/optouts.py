"""Who does not want to be bridged."""

import logging
from collections.abc import Callable, Set
from pathlib import Path

from bridge.sdk.ids import UserId
from bridge.storage.door import at_the_door
from bridge.storage.hashednotes import HashedNotes, Note, NotNoted
from bridge.storage.pool import Database

log = logging.getLogger(__name__)


class OptOutStore:
    """Rows of (person, portal); portal 0 is all of them. A person may be a ghost.

    Each has a note in the file ``keys/opted-out``, which counts where a restore took the row.
    """

    def __init__(self, database: Database, state_dir: Path) -> None:
        """Raises ``ConfigError`` if the file cannot be read."""
        self._database = database
        self._notes = HashedNotes(
            state_dir / "keys" / "opted-out",
            "opt-outs of which a restored backup did not know are lost",
        )
        self._lost: set[Note] = set()
        """Notes without a row."""

    async def all(self) -> set[tuple[UserId, int]]:
        """Everybody's rows; compared with the notes. Call before :meth:`is_noted`.

        A row without a note gets one. A note without a row counts, unless its portal is gone with
        it, whose number is another's next.
        """
        found = await self.rows()
        with at_the_door():
            portals = await self._database.core.fetch("SELECT id FROM portal")
        known = {self._notes.note(subject, portal) for subject, portal in found}
        there = {0, *(row["id"] for row in portals)}
        lost = self._lost = {note for note in self._notes.notes - known if note[1] in there}
        await self._note(lambda notes: known | lost)
        return found

    async def rows(self) -> set[tuple[UserId, int]]:
        """The same for a mere look: the notes are left alone."""
        with at_the_door():
            rows = await self._database.core.fetch("SELECT subject, portal FROM opt_out")
        return {(UserId(row["subject"]), row["portal"]) for row in rows}

    def is_noted(self, subject: UserId, portal: int) -> bool:
        """Whether the person opted out there, or everywhere, and a restore took the row."""
        if not self._lost:
            return False
        one = self._notes.hash(subject)
        return (one, portal) in self._lost or (one, 0) in self._lost

    def may_take_back(self, subject: UserId, portal: int) -> bool:
        """Whether a restore took a row that :meth:`remove` would remove."""
        one = self._notes.hash(subject)
        return any(one == who and portal in (0, where) for who, where in self._lost)

    async def add(self, subject: UserId, portal: int) -> None:
        """Note that the person is not to be bridged there."""
        with at_the_door():
            await self._database.core.execute(
                "INSERT INTO opt_out (subject, portal, since) VALUES ($1, $2, $3) "
                "ON CONFLICT DO NOTHING",
                subject, portal, self._database.clock.now(),
            )  # fmt: skip
        # After the row: what the database refused must not come into force by the note.
        note = self._notes.note(subject, portal)
        await self._note(lambda notes: notes | {note})

    async def remove(self, subject: UserId, portal: int) -> None:
        """Note that the person may be bridged there; for portal 0 everywhere again."""
        one = self._notes.hash(subject)

        def others(notes: Set[Note]) -> set[Note]:
            return {note for note in notes if note[0] != one or portal not in (0, note[1])}

        # Before the row, which the next start would give another note.
        try:
            await self._notes.change(others)
        finally:  # It may be done although its caller is cut off.
            self._lost &= self._notes.notes
        with at_the_door():
            await self._database.core.execute(
                "DELETE FROM opt_out WHERE subject = $1 AND (portal = $2 OR $2 = 0)",
                subject, portal,
            )  # fmt: skip

    async def _note(self, change: Callable[[Set[Note]], Set[Note]]) -> None:
        try:
            await self._notes.change(change)
        except NotNoted as error:
            log.warning(
                "who opted out is not noted beside the database, so that a restore would undo "
                "it: %s", error.cause, extra={"event": "optout_not_noted"},
            )  # fmt: skip
