"""Which event is which remote message: gathered, and written in batches."""

import asyncio
from collections.abc import Sequence
from typing import Protocol

from bridge.model import MessageLink


class LinkStore(Protocol):
    """The part of the storage that keeps what crossed."""

    async def add_links(self, links: Sequence[MessageLink]) -> None: ...
    async def find_remote(self, portal_id: int, remote_id: str) -> Sequence[MessageLink]: ...


class Crossings:
    """Written before the marks of the items that they came from."""

    def __init__(self, store: LinkStore) -> None:
        self._store = store
        self._links: list[MessageLink] = []
        self._one_at_a_time = asyncio.Lock()

    def note(self, links: Sequence[MessageLink]) -> None:
        """Have the links written soon."""
        self._links += links

    def pending(self, portal: int, event_id: str) -> list[MessageLink]:
        """What was noted of an event and is not written yet."""
        return [one for one in self._links if (one.portal, one.event_id) == (portal, event_id)]

    async def find_remote(self, portal: int, remote_id: str) -> Sequence[MessageLink]:
        """The events that a message of the network is; empty if it did not cross, or long ago.

        Raises ``TemporaryFailure`` when the database is away.
        """
        pending = [
            one for one in self._links if (one.portal, one.remote_id) == (portal, remote_id)
        ]
        return pending or await self._store.find_remote(portal, remote_id)

    async def flush(self) -> None:
        """Write what was noted. Raises ``TemporaryFailure``; then it is written later."""
        async with self._one_at_a_time:
            links = list(self._links)
            if links:
                await self._store.add_links(links)
                del self._links[: len(links)]
