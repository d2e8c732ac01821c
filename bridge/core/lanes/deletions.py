"""What is deleted in Matrix, so that the links to what it showed end with it."""

from collections.abc import Sequence
from typing import Any

from bridge.core.lanes.lane import Item, Lane
from bridge.core.lanes.router import Router
from bridge.matrix.medialinks import MediaLinks
from bridge.model import ParkReason
from bridge.sdk.ids import EventId, RoomId
from bridge.storage.deletions import DeletionStore


class Deletions:
    """Has a lane of its own: a deletion counts at once, also where the network is away, the room
    is paused or no longer bridged, or deletions do not cross.
    """

    name, deadline, holds = "deletions", 60.0, False

    def __init__(self, store: DeletionStore, links: MediaLinks, router: Router) -> None:
        self._store = store
        self._links = links
        self._router = router

    def lanes(self) -> Sequence[Lane]:
        """The lane of a redaction; none where there are no links."""
        return [self._router.lane(self)] if self._links.can_link else ()

    async def handle(self, item: Item) -> None:
        """Take a redaction; whether it was allowed, the homeserver has seen to."""
        item.drop()
        target = redacted_by(item.event)
        if target:
            await self.end_links(RoomId(item.event["room_id"]), EventId(target))

    async def parked(self, item: Item, reason: ParkReason, detail: str) -> None:
        """Nobody to tell: the log has it."""

    async def end_links(self, room: RoomId, event: EventId) -> None:
        """Have the links to what a message shows lead nowhere, those too that are made later.

        Raises ``TemporaryFailure`` when the database is away.
        """
        await self._store.add(self._links.mark_of(room, event))


def redacted_by(event: dict[str, Any]) -> str:
    """Which event a redaction takes back: it stands in the content from room version 11 on.

    Empty if that is no id that an event can have.
    """
    for place in (event["content"], event):
        target = place.get("redacts")
        if isinstance(target, str):
            return target if target.isprintable() else ""
    return ""
