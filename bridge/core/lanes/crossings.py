"""Which event is which remote message: gathered, and written in batches."""

from collections.abc import Sequence

from bridge.model import MessageLink
from bridge.storage.portals import PortalStore


class Crossings:
    """Written together with the marks of the items that they came from."""

    def __init__(self, store: PortalStore) -> None:
        self._store = store
        self._links: list[MessageLink] = []

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

    def noted(self) -> Sequence[MessageLink]:
        """What is to be written."""
        return tuple(self._links)

    def written(self, number: int) -> None:
        """Take note that the first of what was noted is written."""
        del self._links[:number]
