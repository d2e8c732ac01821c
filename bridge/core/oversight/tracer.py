"""Where an event or a message is, and was: received, laned, sent, confirmed."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from bridge.core.lanes.lane import Lane
from bridge.model import ItemId, MessageLink, Source
from bridge.sdk.errors import PermanentFailure
from bridge.sdk.ids import UserId
from bridge.storage.traces import Departure, Landing, Traces


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One thing that happened to it, or is so now."""

    what: str
    """One of a closed set: received, laned, sent, confirmed, parked, waits, left out, handled."""
    at: datetime | None = None
    detail: str = ""

    def __str__(self) -> str:
        when = f"{self.at:%Y-%m-%d %H:%M:%S}.{self.at.microsecond // 1000:03d} " if self.at else ""
        return f"{when}{self.what}" + (f": {self.detail}" if self.detail else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """All that is known of one id."""

    steps: Sequence[Step]
    sender: UserId | None = None
    room: str = ""


_SOURCES = {
    Source.TRANSACTION: "from the homeserver",
    Source.RECONCILE: "late, found in the room: the homeserver had not told us",
    Source.RETRY: "again, as somebody asked",
}
_STATES = {"queued": "waits", "waiting": "waits", "parked": "parked", "dropped": "left out"}


class Tracer:
    """Puts together what the tables know and what is in hand."""

    def __init__(
        self,
        traces: Traces,
        *,
        lanes: Callable[[], Mapping[str, Lane]] = dict,
        name_of: Callable[[str], str] = str,
        why_waiting: Callable[[str], str] = lambda name: "",
    ) -> None:
        """``name_of`` names a lane for people; ``why_waiting`` says why it stands still."""
        self._traces = traces
        self._lanes = lanes
        self._name_of = name_of
        self._why_waiting = why_waiting
        self._one_at_a_time = asyncio.Lock()

    async def trace(self, identifier: str) -> Trace:
        """Tell all that is known of a Matrix event id or a network's message id.

        Raises ``PermanentFailure`` if nothing is, ``TemporaryFailure`` when the database is away.
        """
        async with self._one_at_a_time:  # It reads much, beside what matters more.
            return await self._trace(identifier)

    async def _trace(self, identifier: str) -> Trace:
        steps: list[Step] = []
        sender: UserId | None = None
        room = ""
        for departure in await self._traces.departures(identifier):
            steps += _depart(departure)
            sender, room = UserId(departure.sender), departure.room
        # What we said ourselves comes back from the homeserver, and is no news.
        for landing in () if steps else await self._traces.landings(identifier):
            steps += self._land(landing, await self._traces.links(identifier))
            if landing.event is not None:
                sender, room = UserId(landing.event["sender"]), str(landing.event["room_id"])
        if not steps:
            # A message that went to a network is known by the event that it was.
            for event_id in await self._traces.events_of(identifier):
                if event_id != identifier:
                    return await self._trace(event_id)
            raise PermanentFailure(
                "nothing is known of it: it never came, or longer than 14 days ago"
            )
        return Trace(steps=steps, sender=sender, room=room)

    def _land(self, landing: Landing, links: Sequence[MessageLink]) -> list[Step]:
        detail = f"{_SOURCES[landing.source]}, as {landing.item}"
        steps = [Step(what="received", at=landing.received_at, detail=detail)]
        for link in links:
            whose = self._name_of(f"portal:{link.portal}")
            steps += [
                Step(what=what, at=at, detail=whose + (f", as {link.remote_id}" if last else ""))
                for what, at, last in (
                    ("laned", link.laned_at, False),
                    ("sent", link.sent_at, False),
                    ("confirmed", link.confirmed_at, link.remote_id is not None),
                )
                if at is not None
            ]
        for consumer, reason, since in landing.aside:
            detail = f"{self._name_of(consumer)}, {reason.value}"
            steps.append(Step(what="parked", at=since, detail=detail))
        waiting = self._waiting(landing.item)
        steps += waiting
        if landing.is_done and not links and not landing.aside:
            detail = "by whoever it was for, or left out by a rule"
            steps.append(Step(what="handled", at=landing.marked_at, detail=detail))
        elif not landing.is_done and not waiting and not links:
            steps.append(Step(what="waits", detail="in the journal"))
        return steps

    def _waiting(self, item: ItemId) -> list[Step]:
        found = []
        for name, lane in self._lanes().items():
            for ahead, (row, index) in enumerate(lane.places()):
                if index == item.place and row.id == (item.day, item.seq):
                    why = self._why_waiting(name)
                    detail = f"{self._name_of(name)}, {ahead} before it" + (why and f": {why}")
                    found.append(Step(what="waits", detail=detail))
                    break
        return found


def _depart(departure: Departure) -> list[Step]:
    came = f"from the network, as {departure.remote_id}" if departure.remote_id else "from a bot"
    steps = [Step(what="received", at=departure.received_at, detail=came)]
    if departure.state == "sent":
        steps.append(
            Step(
                what="confirmed",
                at=departure.sent_at,
                detail=f"in Matrix, as {departure.event_id}",
            )
        )
    else:
        detail = departure.reason or "in the outbox"
        steps.append(Step(what=_STATES[departure.state], detail=detail))
    return steps


async def steps_of(tracer: Tracer, identifier: str) -> list[dict[str, Any]]:
    """What :meth:`Tracer.trace` tells, for machines."""
    trace = await tracer.trace(identifier)
    return [
        {"what": step.what, "at": step.at.isoformat() if step.at else None,
         "detail": step.detail}
        for step in trace.steps
    ]  # fmt: skip
