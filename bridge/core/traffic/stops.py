"""``STOP``: somebody takes back what of their own is not said yet."""

from time import monotonic
from typing import Any, NamedTuple

from bridge.core.lanes.lane import Item
from bridge.core.lanes.router import Router
from bridge.core.traffic.departures import Said
from bridge.sdk.module import Client, StopsSending

STOP = "STOP"
_FLOOD = 3
"""So many messages of one person that wait may be stopped, too."""


class _Stop(NamedTuple):
    """What somebody stopped the rest with, and when it was heard (``monotonic``)."""

    event_id: str
    at: float


class Stops:
    """Who stopped what in one portal. Kept in memory: after a crash the rest is sent."""

    def __init__(self, router: Router, lane: str) -> None:
        self._router = router
        self._lane = lane
        self._stopped: dict[str, _Stop] = {}
        """By sender what they stopped what they were saying with."""
        self.saying: tuple[Said, Client] | None = None
        """What is on its way, and by whom."""
        self.begun: Item | None = None
        """What is to go next and may not be on its way: it may be tried again, or wait."""

    def overhear(self, event: dict[str, Any]) -> None:
        """Have the rest of what its sender is saying left out, and what of theirs waits.

        Heard when it is safe, since in the lane it would stand behind what it is about.
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
            self._stopped[sender] = _Stop(event["event_id"], monotonic())

    def cover(self, item: Item) -> bool:
        """Whether the item's sender stopped it."""
        stop = self._stopped.get(item.event["sender"])
        if stop is None:
            return False
        if item.row.landed_at <= stop.at:
            return True
        # The stop was before it in the lane: it waited so long that it went with its day.
        self.forget(item)
        return False

    def end_with(self, item: Item) -> bool:
        """Whether it is what the sender stopped the others with."""
        stop = self._stopped.get(item.event["sender"])
        return stop is not None and stop.event_id == item.event["event_id"]

    def pass_by(self, item: Item) -> None:
        """Take note that an item is done with and not said: what its sender stopped was before
        it, if that is what they stopped it with."""
        self.begun = None
        if self.end_with(item):
            self.forget(item)

    def forget(self, item: Item) -> None:
        """Let the sender speak again."""
        self._stopped.pop(item.event["sender"], None)
