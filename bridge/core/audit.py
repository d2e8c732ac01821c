"""The record of who changed what, as the core writes it."""

from typing import Protocol

from bridge.model import AuditAction
from bridge.sdk.ids import UserId


class Audit(Protocol):
    """The part of the storage that keeps who changed what."""

    async def record(
        self, *, actor: UserId, action: AuditAction, target: str, subject: UserId | None = None
    ) -> int:
        """Note it, before it is done. Raises ``TemporaryFailure``: then do not do it."""
        ...
