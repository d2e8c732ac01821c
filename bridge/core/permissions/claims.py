"""Whose data is being erased just now: nothing is begun for them meanwhile."""

from bridge.sdk.errors import PermanentFailure, TemporaryFailure
from bridge.sdk.ids import UserId


class Claims:
    """Each person is claimed once at a time."""

    def __init__(self) -> None:
        self._people: set[UserId] = set()

    def claim(self, person: UserId) -> None:
        """Raises ``PermanentFailure`` if they are claimed."""
        if person in self._people:
            raise PermanentFailure("that is being done just now")
        self._people.add(person)

    def release(self, person: UserId) -> None:
        """Let things be begun for them again."""
        self._people.discard(person)

    def check(self, person: UserId) -> None:
        """Raises ``TemporaryFailure`` while they are claimed."""
        if person in self._people:
            raise TemporaryFailure(
                f"what is kept about {person} is being erased just now", retry_after=1
            )
