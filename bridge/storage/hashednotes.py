"""Notes on people beside the database, so that restoring a backup does not undo what they said.

The file names nobody: a person is a hash with a key of the file's own.
"""

import asyncio
import hmac
import secrets
from collections.abc import Callable, Iterable, Set
from pathlib import Path

from bridge.sdk.errors import ConfigError, TemporaryFailure
from bridge.sdk.ids import UserId
from bridge.storage.files import make_folder, write_private
from bridge.storage.thread import to_its_end

Note = tuple[str, int]
"""The hash of a person (or of a token), and what it is about."""


class NotNoted(TemporaryFailure):
    """The notes cannot be written now; they are as they were."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"it cannot be noted: {reason}")
        self.cause = reason
        """The system's own word."""


class HashedNotes:
    """A file: its key, and then a line for each note. It is no part of a backup."""

    def __init__(self, path: Path, lost: str) -> None:
        """``lost`` says what happens without it. Raises ``ConfigError`` if it cannot be read."""
        self._path = path
        self._changing = asyncio.Lock()
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

    async def change(self, change: Callable[[Set[Note]], Set[Note]]) -> None:
        """Have others than those that there are. Raises :class:`NotNoted`."""
        async with self._changing:
            try:
                await to_its_end(self._write, change(self.notes))
            except OSError as error:
                raise NotNoted(error.strerror or str(error)) from error

    def _write(self, notes: Iterable[Note]) -> None:
        """Have these notes and no others. Raises ``OSError``; then nothing changed."""
        notes = set(notes)
        if notes != self.notes:
            make_folder(self._path.parent)
            lines = [self._key.hex(), *(f"{one} {what}" for one, what in sorted(notes))]
            write_private(self._path, "".join(f"{line}\n" for line in lines).encode())
            self.notes = notes
