"""Who had their data erased, noted beside the database: no backup brings it back."""

from collections.abc import Collection, Iterable, Mapping, Set
from datetime import UTC, datetime, timedelta
from pathlib import Path

from bridge.model import Erasing
from bridge.sdk.ids import UserId
from bridge.storage.hashednotes import HashedNotes, Note

_NOBODY = UserId("")
"""On whom the generation of the database is noted for which the notes were seen to."""
_UNDONE = 0
"""A second note on a person: what was begun is not done."""
_START = datetime.fromtimestamp(0, UTC)
_UNIT = timedelta(microseconds=1)


class ErasedPeople:
    """The file ``keys/erased-people``: who, when it was begun, and whether it is done.

    Moments, since the numbers of the audit's rows come again after a restore.
    """

    def __init__(self, state_dir: Path) -> None:
        """Raises ``ConfigError`` if the file cannot be read."""
        self._erased = HashedNotes(
            state_dir / "keys" / "erased-people",
            "what people had erased since a restored backup was made is there again",
        )
        self._nobody = self._erased.hash(_NOBODY)

    @property
    def has_any(self) -> bool:
        """Whether anybody is noted."""
        return bool(self._erased.notes)

    @property
    def generation(self) -> int:
        """Of the database for which the notes were seen to."""
        return max((what for who, what in self._erased.notes if who == self._nobody), default=0)

    def find(self, people: Iterable[UserId]) -> Mapping[UserId, Erasing]:
        """Those of the people who are noted."""
        begun = {who: what for who, what in self._erased.notes if what != _UNDONE}
        undone = {who for who, what in self._erased.notes if what == _UNDONE}
        hashes = {person: self._erased.hash(person) for person in people}
        return {
            person: Erasing(begun_at=_START + begun[one] * _UNIT, is_done=one not in undone)
            for person, one in hashes.items() if one in begun
        }  # fmt: skip

    async def note(self, person: UserId, begun_at: datetime, generation: int) -> None:
        """Note that it is begun. Raises ``TemporaryFailure`` if that cannot be: then it is not."""
        one, begun = self._erased.hash(person), (begun_at - _START) // _UNIT

        def change(notes: Set[Note]) -> Set[Note]:
            others = {note for note in notes if note[0] not in (one, self._nobody)}
            return {*others, (one, begun), (one, _UNDONE), (self._nobody, generation)}

        await self._erased.change(change)

    async def settle(self, person: UserId) -> None:
        """Note that it is done. Raises ``TemporaryFailure`` if that cannot be."""
        undone = (self._erased.hash(person), _UNDONE)
        await self._erased.change(lambda notes: notes - {undone})

    async def settle_all(self, generation: int, *, undone: Collection[UserId]) -> None:
        """Note that all are seen to in that generation, but for these.

        Raises ``TemporaryFailure`` if that cannot be.
        """
        left = {self._erased.hash(person) for person in undone}

        def change(notes: Set[Note]) -> Set[Note]:
            begun = {note for note in notes if note[1] != _UNDONE and note[0] != self._nobody}
            return {*begun, *((one, _UNDONE) for one in left), (self._nobody, generation)}

        await self._erased.change(change)
