"""Who opted out, noted beside the database, so that restoring a backup does not undo it.

Nobody can be read off the file: a person is a hash with a key of the file's own.
"""

import hmac
import secrets
from collections.abc import Collection, Iterable
from pathlib import Path

from bridge.sdk.errors import ConfigError
from bridge.sdk.ids import UserId
from bridge.storage.files import make_folder, write_private

Note = tuple[str, int]
"""The hash of a person, and a portal; 0 is all of them."""


class OptOutNotes:
    """The file ``keys/opted-out``: its key, and then a line for each note.

    It is no part of a backup. Raises ``ConfigError`` if it cannot be read. What writes raises
    ``OSError``; then nothing changed.
    """

    def __init__(self, state_dir: Path) -> None:
        self._path = state_dir / "keys" / "opted-out"
        try:
            words = self._path.read_text().split() if self._path.exists() else []
            self._key = bytes.fromhex(words[0]) if words else secrets.token_bytes(32)
            self._notes = {
                (one, int(portal)) for one, portal in zip(words[1::2], words[2::2], strict=True)
            }
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is damaged"
            raise ConfigError(
                f"{self._path} cannot be read: {reason}. Put it back from a copy; without it, "
                "opt-outs of which a restored backup did not know are lost"
            ) from error
        self._lost: set[Note] = set()

    def settle(self, rows: Collection[tuple[UserId, int]], portals: Collection[int]) -> None:
        """Compare with what the database says, at the start.

        A row without a note gets one. A note without a row is one that a restore took the row of:
        it counts, unless its portal is gone with it, whose number is another's next.
        """
        known = {self._note(subject, portal) for subject, portal in rows}
        there = {0, *portals}
        lost = {note for note in self._notes - known if note[1] in there}
        self._lost = lost
        self._write(known | lost)

    def cover(self, subject: UserId, portal: int) -> bool:
        """Whether the person opted out there, or everywhere, and only a note says so."""
        if not self._lost:
            return False
        one = self._hash(subject)
        return (one, portal) in self._lost or (one, 0) in self._lost

    def has_lost(self, subject: UserId, portal: int) -> bool:
        """Whether only a note says so of that portal; for 0, of any."""
        return any(
            one == self._hash(subject) and portal in (0, where) for one, where in self._lost
        )

    def add(self, subject: UserId, portal: int) -> None:
        """Note it."""
        self._write(self._notes | {self._note(subject, portal)})

    def remove(self, subject: UserId, portal: int) -> None:
        """Note it no more; for portal 0 nowhere."""
        one = self._hash(subject)
        gone = {note for note in self._notes if note[0] == one and portal in (0, note[1])}
        self._write(self._notes - gone)
        self._lost = self._lost - gone

    def _hash(self, subject: UserId) -> str:
        return hmac.digest(self._key, subject.encode("utf-8", "surrogatepass"), "sha256")[
            :16
        ].hex()

    def _note(self, subject: UserId, portal: int) -> Note:
        return self._hash(subject), portal

    def _write(self, notes: Iterable[Note]) -> None:
        notes = set(notes)
        if notes != self._notes:
            make_folder(self._path.parent)
            lines = [self._key.hex(), *(f"{one} {portal}" for one, portal in sorted(notes))]
            write_private(self._path, "".join(f"{line}\n" for line in lines).encode())
            self._notes = notes
