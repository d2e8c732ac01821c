"""Notes on people beside the database, so that restoring a backup does not undo what they said.

Nobody can be read off the file: a person is a hash with a key of the file's own.
"""

import hmac
import secrets
from collections.abc import Iterable, Set
from pathlib import Path

from bridge.sdk.errors import ConfigError
from bridge.sdk.ids import UserId
from bridge.storage.files import make_folder, write_private

Note = tuple[str, int]
"""The hash of a person, and what it is about."""


class HashedNotes:
    """A file: its key, and then a line for each note. It is no part of a backup."""

    def __init__(self, path: Path, lost: str) -> None:
        """``lost`` says what happens without it. Raises ``ConfigError`` if it cannot be read."""
        self._path = path
        try:
            words = path.read_text().split() if path.exists() else []
            self._key = bytes.fromhex(words[0]) if words else secrets.token_bytes(32)
            self.notes: Set[Note] = {
                (one, int(what)) for one, what in zip(words[1::2], words[2::2], strict=True)
            }
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is damaged"
            raise ConfigError(
                f"{path} cannot be read: {reason}. Put it back from a copy; without it, {lost}"
            ) from error

    def hash(self, subject: UserId) -> str:
        """What stands for the person."""
        data = subject.encode("utf-8", "surrogatepass")
        return hmac.digest(self._key, data, "sha256")[:16].hex()

    def note(self, subject: UserId, what: int = 0) -> Note:
        """A note on the person."""
        return self.hash(subject), what

    def write(self, notes: Iterable[Note]) -> None:
        """Have these notes and no others. Raises ``OSError``; then nothing changed."""
        notes = set(notes)
        if notes != self.notes:
            make_folder(self._path.parent)
            lines = [self._key.hex(), *(f"{one} {what}" for one, what in sorted(notes))]
            write_private(self._path, "".join(f"{line}\n" for line in lines).encode())
            self.notes = notes
