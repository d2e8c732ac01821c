"""Who does not want to be bridged: in one portal or everywhere, on either side."""

import asyncio

from bridge.model import AuditAction
from bridge.sdk.ids import UserId
from bridge.storage.audit import Audit
from bridge.storage.optouts import OptOutStore

EVERYWHERE = 0
"""Instead of a portal's number."""


class OptOuts:
    """Asked of every message, so it is held in memory."""

    def __init__(self, store: OptOutStore, audit: Audit) -> None:
        self._store = store
        self._audit = audit
        self._rows: set[tuple[UserId, int]] = set()
        self._unsure: set[tuple[UserId, int]] = set()
        """Rows that count, though nobody heard whether they are stored."""
        self._changing = asyncio.Lock()

    async def load(self) -> None:
        """Read them. Call once, before events are dispatched."""
        self._rows = await self._store.all()

    def cover(self, person: UserId, portal: int) -> bool:
        """Whether the person (a Matrix user or a ghost) is not to be bridged there."""
        rows = self._rows
        if rows and ((person, portal) in rows or (person, EVERYWHERE) in rows):
            return True
        return self._store.is_noted(person, portal)

    async def add(self, person: UserId, portal: int) -> None:
        """Stop bridging the person there. Raises ``TemporaryFailure``; then nothing changed."""
        async with self._changing:
            row = (person, portal)
            if row in self._rows - self._unsure:
                return
            await self._record(person, AuditAction.OPT_OUT, portal)
            try:
                await self._store.add(person, portal)
            except asyncio.CancelledError:
                self._rows.add(row)
                self._unsure.add(row)
                raise
            self._rows.add(row)
            self._unsure.discard(row)

    async def remove(self, person: UserId, portal: int) -> None:
        """Bridge the person there again; ``EVERYWHERE`` takes back all that was said."""
        async with self._changing:
            gone = {
                row for row in self._rows if row[0] == person and portal in (row[1], EVERYWHERE)
            }
            if not gone and not self._store.may_take_back(person, portal):
                return
            await self._record(person, AuditAction.OPT_IN, portal)
            await self._store.remove(person, portal)
            self._rows -= gone

    async def _record(self, person: UserId, action: AuditAction, portal: int) -> None:
        target = "everywhere" if portal == EVERYWHERE else f"portal {portal}"
        await self._audit.record(actor=person, action=action, target=target, subject=person)
