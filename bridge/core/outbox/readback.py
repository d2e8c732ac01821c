"""What a homeserver may have of what we put, though we heard no answer: looked for in its room."""

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta

from bridge.core.outbox.roomlane import RoomLane
from bridge.matrix.history import WereSent
from bridge.model import Clock, QueuedOutgoing, SendKind
from bridge.sdk.ids import EventId, RoomId, UserId
from bridge.storage.life import uptime
from bridge.storage.outbox import Outbox

log = logging.getLogger(__name__)

_REMEMBERED = timedelta(hours=20)
"""How long a homeserver surely knows a transaction id: Synapse keeps it for a day."""

_ASTRAY = timedelta(days=1)
"""By how much our clock may have been ahead without anybody knowing it by now. As a rule it costs
nothing: a room is read no further than to what was answered before."""
_LONG_AGO = datetime(1970, 1, 2, tzinfo=UTC)

FindOurs = Callable[
    [RoomId, Sequence[UserId], Sequence[UserId], datetime, WereSent],
    Awaitable[Mapping[str, EventId]],
]
"""Reads a room back: (room, who may read it, whose events, since when, whether one of so many
transaction ids was answered before that), by transaction id."""


class ReadBack:
    """Reads rooms back before something is put again that may be there."""

    def __init__(self, outbox: Outbox, find_ours: FindOurs, clock: Clock, bot: UserId) -> None:
        self._outbox = outbox
        self._find_ours = find_ours
        self._clock = clock
        self._bot = bot
        self.elapsed: Callable[[], float] = uptime
        """Seconds from whenever, by a clock that cannot be set."""

    def doubt(self, lane: RoomLane) -> None:
        """Have the lane's room read back before anything that waits there now is put."""
        # Told by numbers, since the clock may be set back.
        newest = max((one.seq for one in lane.queue), default=0)
        lane.doubtful_until, lane.there = max(newest, lane.until), None

    async def look(self, lane: RoomLane, queued: QueuedOutgoing) -> None:
        """Look for the entry in the room, if it may be there and its transaction id forgotten.

        One look serves all that waited for the room at that time: nobody else sends it.
        """
        if queued.outgoing.kind is not SendKind.EVENT:
            return  # A membership or a state that is set twice is as if set once.
        now = self._clock.now()
        is_doubtful = queued.seq <= lane.doubtful_until and lane.there is None
        is_old = now - queued.received_at > _REMEMBERED and (
            lane.asked_at is None or now - lane.asked_at > _REMEMBERED
        )
        # The clock may have been set back since then.
        is_old = is_old or (
            lane.tried and self.elapsed() - lane.tried_at > _REMEMBERED.total_seconds()
        )
        # People have no device by which a homeserver knows it again after its restart.
        if not (is_doubtful or is_old or (lane.tried and queued.outgoing.double)):
            return
        # At each try of a person's message; what the first look found so far back stays found.
        astray = _ASTRAY if lane.there is None else timedelta()
        found = await self.find(lane.room, lane.queue, astray)
        lane.there, lane.asked_at = {**(lane.there or {}), **found}, now
        lane.tried_at = self.elapsed()

    async def find(
        self, room: RoomId, waiting: Sequence[QueuedOutgoing], astray: timedelta = _ASTRAY
    ) -> Mapping[str, EventId]:
        """What is in the room of all that waits for it, by transaction id; ``waiting`` are the
        first of that. Raises ``TemporaryFailure``.

        ``astray``: by how much our clock may have been ahead as that was put.
        """
        senders = await self._outbox.senders_waiting(room)
        if any(one.outgoing.double for one in waiting):
            senders = []  # Real people are among them; so all are looked at.
        # The bot comes last: as a rule it has been there all the time.
        users = list(dict.fromkeys(one.outgoing.user for one in waiting))
        since = min(one.received_at for one in waiting)
        # Of what came while our clock was ahead, the homeserver's time is earlier than ours. Once
        # our clock has come as far as it was then, nothing tells.
        was_ahead = max(one.received_at for one in waiting) > self._clock.now()
        earliest = _LONG_AGO if was_ahead else since - astray
        found = await self._find_ours(
            room, [*users[:3], self._bot], senders, earliest,
            lambda ids: self._outbox.have_sent(ids, before=since),
        )  # fmt: skip
        log.info("a room was read back before sending", extra={"event": "read_back"})
        return found
