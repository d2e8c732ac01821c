"""Who opted out, noted beside the database, so that restoring a backup does not undo it."""

from collections.abc import Collection, Set
from pathlib import Path

from bridge.sdk.ids import UserId
from bridge.storage.hashednotes import HashedNotes, Note


class OptOutNotes:
    """The file ``keys/opted-out``: who, and in which portal; 0 is all of them.

    Raises ``ConfigError`` if it cannot be read. What writes raises ``NotNoted``; then nothing
    changed.
    """

    def __init__(self, state_dir: Path) -> None:
        self._file = HashedNotes(
            state_dir / "keys" / "opted-out",
            "opt-outs of which a restored backup did not know are lost",
        )
        self._lost: set[Note] = set()

    async def settle(self, rows: Collection[tuple[UserId, int]], portals: Collection[int]) -> None:
        """Compare with what the database says, at the start.

        A row without a note gets one. A note without a row is one that a restore took the row of:
        it counts, unless its portal is gone with it, whose number is another's next.
        """
        known = {self._file.note(subject, portal) for subject, portal in rows}
        there = {0, *portals}
        lost = {note for note in self._file.notes - known if note[1] in there}
        self._lost = lost
        await self._file.change(lambda notes: known | lost)

    def cover(self, subject: UserId, portal: int) -> bool:
        """Whether the person opted out there, or everywhere, and only a note says so."""
        if not self._lost:
            return False
        one = self._file.hash(subject)
        return (one, portal) in self._lost or (one, 0) in self._lost

    def has_lost(self, subject: UserId, portal: int) -> bool:
        """Whether only a note says so of that portal; for 0, of any."""
        return any(
            one == self._file.hash(subject) and portal in (0, where) for one, where in self._lost
        )

    async def add(self, subject: UserId, portal: int) -> None:
        """Note it."""
        note = self._file.note(subject, portal)
        await self._file.change(lambda notes: notes | {note})

    async def remove(self, subject: UserId, portal: int) -> None:
        """Note it no more; for portal 0 nowhere."""
        one = self._file.hash(subject)

        def others(notes: Set[Note]) -> set[Note]:
            return {note for note in notes if note[0] != one or portal not in (0, note[1])}

        try:
            await self._file.change(others)
        finally:  # It may be done although its caller is cut off.
            self._lost &= self._file.notes
