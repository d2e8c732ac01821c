"""Which logins were ended, noted beside the database: no backup brings them back."""

import logging
from pathlib import Path

from bridge.model import LoginRow
from bridge.sdk.ids import InstanceId, UserId
from bridge.storage.hashednotes import HashedNotes, Note, NotNoted

log = logging.getLogger(__name__)


class EndedLogins:
    """The file ``keys/logged-out``: who has ended which login, until they sign in to it again."""

    def __init__(self, state_dir: Path) -> None:
        """Raises ``ConfigError`` if the file cannot be read."""
        self._ended = HashedNotes(
            state_dir / "keys" / "logged-out",
            "logins that were ended since a restored backup was made are there again",
        )

    def cover(self, row: LoginRow) -> bool:
        """Whether the person has ended this login."""
        if row.owner is None or not self._ended.notes:
            return False
        return self._note(row.owner, row.instance, row.name) in self._ended.notes

    async def add(self, owner: UserId, instance: InstanceId, name: str) -> None:
        """Note that a login is ended, before it is."""
        note = self._note(owner, instance, name)
        try:
            await self._ended.change(lambda notes: notes | {note})
        except NotNoted as error:
            log.warning(
                "that a login was ended is not noted beside the database, so that a restore "
                "would undo it: %s", error.cause, extra={"event": "logout_not_noted"},
            )  # fmt: skip

    async def remove(self, owner: UserId, instance: InstanceId, name: str) -> None:
        """Note that the person signs in again, before the login is there: beside the note it
        would not count. Raises ``TemporaryFailure`` if that cannot be noted."""
        note = self._note(owner, instance, name)
        await self._ended.change(lambda notes: notes - {note})

    def _note(self, owner: UserId, instance: InstanceId, name: str) -> Note:
        return self._ended.note(UserId(f"{owner} {instance} {name}"))
