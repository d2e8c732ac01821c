"""Who had what is kept about them erased, beside the database: no backup brings it back."""

import asyncio
from collections.abc import Iterable, Mapping
from pathlib import Path

from bridge.sdk.errors import TemporaryFailure
from bridge.sdk.ids import UserId
from bridge.storage.hashednotes import HashedNotes
from bridge.storage.thread import to_its_end


class ErasedPeople:
    """The file ``keys/erased-people``: who, and by which row of the audit it was begun."""

    def __init__(self, state_dir: Path) -> None:
        """Raises ``ConfigError`` if the file cannot be read."""
        self._erased = HashedNotes(
            state_dir / "keys" / "erased-people",
            "what people had erased since a restored backup was made is there again",
        )
        self._writing = asyncio.Lock()

    @property
    def has_any(self) -> bool:
        """Whether anybody is noted."""
        return bool(self._erased.notes)

    def find(self, people: Iterable[UserId]) -> Mapping[UserId, int]:
        """Those of the people who are noted, and the row."""
        rows = dict(self._erased.notes)
        hashes = {person: self._erased.hash(person) for person in people}
        return {person: rows[one] for person, one in hashes.items() if one in rows}

    async def note(self, person: UserId, row: int) -> None:
        """Note that it is begun. Raises ``TemporaryFailure`` if that cannot be: then it is not."""
        one = self._erased.hash(person)
        async with self._writing:
            kept = {note for note in self._erased.notes if note[0] != one}
            try:
                await to_its_end(self._erased.write, {*kept, (one, row)})
            except OSError as error:
                raise TemporaryFailure(f"it cannot be noted: {error.strerror}") from error
