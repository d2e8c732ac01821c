"""``STOP``: somebody takes back what of their own is not said yet."""

from typing import Any

from bridge.core.lanes.lane import Item
from bridge.core.lanes.router import Router
from bridge.core.traffic.departures import Said
from bridge.sdk.module import Client, StopsSending

STOP = "STOP"
_FLOOD = 3
"""So many messages of one person that wait may be stopped, too."""


class Stops:
    """Who stopped what in one portal. Kept in memory: after a crash the rest is sent."""

    def __init__(self, router: Router, lane: str) -> None:
        self._router = router
        self._lane = lane
        self._stopped: dict[str, str] = {}
        """By sender the event with which they stopped what they were saying."""
        self.saying: tuple[Said, Client] | None = None
        """What is on its way, and by whom."""
        self.begun: Item | None = None
        """What is to go next and may not be on its way: it may be tried again, or wait."""

    def overhear(self, event: dict[str, Any]) -> None:
        """Have the rest of what its sender is saying left out, and what of theirs waits.

        Heard when it comes, since in the lane it would stand behind what it is about.
        """
        sender, ends = event["sender"], False
        if self.saying is not None and self.saying[0].sender.user_id == sender:
            said, client = self.saying
            ends = isinstance(client, StopsSending) and client.stop_sending(said.event_id)
        elif self.begun is not None:
            ends = self.begun.event["sender"] == sender
        lane = self._router.lanes.get(self._lane)
        waiting = sum(one.event["sender"] == sender for one in lane.queue) if lane else 0
        if ends or waiting >= _FLOOD:
            self._stopped[sender] = event["event_id"]

    def cover(self, item: Item) -> bool:
        """Whether the item's sender stopped it."""
        return item.event["sender"] in self._stopped

    def end_with(self, item: Item) -> bool:
        """Whether it is what the sender stopped the others with."""
        return bool(self._stopped.get(item.event["sender"]) == item.event["event_id"])

    def pass_by(self, item: Item) -> None:
        """Take note that an item is done with and not said: what its sender stopped was before
        it, if that is what they stopped it with."""
        self.begun = None
        if self.end_with(item):
            self.forget(item)

    def forget(self, item: Item) -> None:
        """Let the sender speak again."""
        self._stopped.pop(item.event["sender"], None)
