"""What goes into one room: in order, the nearest in memory and the rest in the outbox."""

import asyncio
from collections import deque
from collections.abc import Mapping, Set
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

from bridge.model import Outgoing, QueuedOutgoing
from bridge.sdk.ids import EventId, RoomId
from bridge.slots import Slots


class Pause(NamedTuple):
    """How long until the next try."""

    seconds: float
    is_asked_for: bool = False


def _one() -> Slots:
    return Slots(1)


@dataclass(slots=True)
class RoomLane:
    """What goes into one room."""

    room: RoomId
    queue: deque[QueuedOutgoing]
    beyond: int = 0
    """How many more lie in the outbox."""
    last: int = 0
    """The number of the last that came into memory in its turn."""
    until: int = 0
    """The number of the last that is known of."""
    is_misread: bool = False
    """Something came that may be missing among what is being read of the outbox."""
    left: int = 0
    """The number of the last that an earlier process left."""
    is_running: bool = False
    is_resting: bool = False
    """Between two tries."""
    limit: asyncio.Timeout | None = None
    """When its rest is over; None if it does not rest."""
    turn: Slots = field(default_factory=_one)
    """Held while the first is tried, or what waits is another meanwhile."""
    parking: Slots = field(default_factory=_one)
    """Held while somebody puts the first aside: it is not tried meanwhile."""
    unwanted: int = 0
    """The number of an entry that somebody put aside while it was being tried."""
    trouble: str = ""
    """Why the first is still there, as the homeserver said."""
    tried: bool = False
    """The first was put at least once, and no answer came."""
    tried_at: float = 0.0
    """When it was first put, or the room read back since then, by the machine's uptime."""
    asked_at: datetime | None = None
    """When the room was read back."""
    there: Mapping[str, EventId] | None = None
    """What that found: none of it is put again."""
    found: Mapping[str, EventId] = field(default_factory=dict)
    """And what was found of a portal's entries when that moved away."""
    doubtful_until: int = 0
    """The homeserver may have forgotten what it was given of entries up to this number."""

    def wake(self) -> None:
        """Have its rest be over."""
        self.is_resting = False
        if self.limit is not None and not self.limit.expired():
            self.limit.reschedule(asyncio.get_running_loop().time())

    def note_try(self, now: float) -> None:
        """Take note that the first is put; ``now`` is the machine's uptime."""
        if not self.tried:
            self.tried, self.tried_at = True, now

    def may_hold(self, entry: Outgoing) -> bool:
        """Whether an entry that was put may be on its way yet."""
        # Of what is not in memory nobody knows.
        return self.beyond > 0 or any(
            one.outgoing.transaction_id == entry.transaction_id for one in self.queue
        )

    def has(self, number: int) -> bool:
        """Whether the entry of that number is in memory."""
        return number <= self.last and any(one.seq == number for one in self.queue)

    def find_there(self, entry: Outgoing) -> EventId | None:
        """The event that an entry is in the room, where that was found."""
        name = entry.transaction_id
        return (self.there or {}).get(name) or self.found.get(name)

    def take_out(self, numbers: Set[int]) -> int:
        """Have entries wait no longer; how many of them were in memory."""
        kept = deque(one for one in self.queue if one.seq not in numbers)
        taken = len(self.queue) - len(kept)
        if taken and (not kept or kept[0] is not self.queue[0]):
            self.tried, self.trouble = False, ""
        self.queue = kept
        if self.beyond:  # Counted as one at least, so that it is looked how many there are.
            self.beyond = max(1, self.beyond - (len(numbers) - taken))
        self.wake()
        return taken

    @property
    def is_of_now(self) -> bool:
        """Whether nothing that an earlier process left is waiting any more."""
        if self.queue:
            return self.queue[0].seq > self.left
        return not self.beyond or self.last >= self.left

    @property
    def by_hand(self) -> str:
        """What is said of an entry that somebody put aside."""
        return f"put aside by hand; {self.trouble}" if self.trouble else "put aside by hand"

    def look(self) -> dict[str, Any]:
        """What waits, for how long, and why. Only while something does."""
        return {
            "room": self.room, "waiting": len(self), "because": self.trouble,
            "since": self.queue[0].received_at.isoformat(),
        }  # fmt: skip

    def __len__(self) -> int:
        return len(self.queue) + self.beyond
