"""Which logins were ended, beside the database: no backup brings them back."""

import asyncio
import logging
from pathlib import Path

from bridge.model import LoginRow
from bridge.sdk.errors import TemporaryFailure
from bridge.sdk.ids import InstanceId, UserId
from bridge.storage.hashednotes import HashedNotes, Note
from bridge.storage.thread import to_its_end

log = logging.getLogger(__name__)


class EndedLogins:
    """The file ``keys/logged-out``: who has ended which login, until they sign in to it again."""

    def __init__(self, state_dir: Path) -> None:
        """Raises ``ConfigError`` if the file cannot be read."""
        self._ended = HashedNotes(
            state_dir / "keys" / "logged-out",
            "logins that were ended since a restored backup was made are there again",
        )
        self._writing = asyncio.Lock()

    def cover(self, row: LoginRow) -> bool:
        """Whether the person has ended this login."""
        if row.owner is None or not self._ended.notes:
            return False
        return self._note(row.owner, row.instance, row.name) in self._ended.notes

    async def add(self, owner: UserId, instance: InstanceId, name: str) -> None:
        """Note that a login is ended, before it is."""
        async with self._writing:
            notes = {*self._ended.notes, self._note(owner, instance, name)}
            try:
                await to_its_end(self._ended.write, notes)
            except OSError as error:
                log.warning(
                    "that a login was ended is not noted beside the database, so that a restore "
                    "would undo it: %s", error.strerror, extra={"event": "logout_not_noted"},
                )  # fmt: skip

    async def remove(self, owner: UserId, instance: InstanceId, name: str) -> None:
        """Note that the person signs in again, before the login is there: beside the note it
        would not count. Raises ``TemporaryFailure`` if that cannot be noted."""
        async with self._writing:
            notes = self._ended.notes - {self._note(owner, instance, name)}
            try:
                await to_its_end(self._ended.write, notes)
            except OSError as error:
                raise TemporaryFailure(f"it cannot be noted: {error.strerror}") from error

    def _note(self, owner: UserId, instance: InstanceId, name: str) -> Note:
        return self._ended.note(UserId(f"{owner} {instance} {name}"))
