"""How everything is, at a glance: for `trestle status`, for the main bot, for the status room."""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from math import isfinite
from time import monotonic
from typing import Any

from bridge.core.host.instances import Instance
from bridge.core.lanes.router import Router
from bridge.core.outbox.sender import Sender
from bridge.core.oversight.statuslines import in_lines
from bridge.core.portals.portals import Portals
from bridge.logs import redact
from bridge.sdk.errors import TemporaryFailure
from bridge.sdk.ids import InstanceId
from bridge.sdk.login import LoginState
from bridge.storage.items import Items
from bridge.telemetry import Telemetry

_RECENT = 10
_LONGEST = 5
"""Lanes that are listed: those that wait longest."""

PATIENCE = 5.0
"""Seconds for the database where somebody asks: of a slow one they hear while it is slow."""
_LEAVE = 0.3
"""Seconds more for the database to take back a question whose answer nobody waits for."""


class Troubles(logging.Handler):
    """Keeps the last warnings and errors, as they stand in the log."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.recent: deque[tuple[datetime, str, str]] = deque(maxlen=_RECENT)
        """When, the event's name, the sentence."""

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the line, without tokens."""
        at = datetime.fromtimestamp(record.created, UTC)
        event = str(getattr(record, "event", "library"))
        try:
            self.recent.append((at, event, redact(record.getMessage())))
        except Exception:  # noqa: BLE001 - as in every handler: whoever logs goes on
            self.handleError(record)


@dataclass(slots=True, kw_only=True)
class Status:
    """Looks around. Every answer is for machines; ``in_lines`` writes it out."""

    version: str
    telemetry: Telemetry
    router: Router
    sender: Sender
    portals: Portals
    instances: Mapping[InstanceId, Instance]
    bots: Callable[[], Sequence[tuple[str, str, str]]]
    """(instance, name, Matrix id) of each."""
    items: Items
    homeserver: Callable[[], str]
    difference: Callable[[], Mapping[str, int]]
    unfinished: Callable[[], Mapping[str, int]]
    """What was not delivered before it was forgotten, and what soon will not have been."""
    encrypted: Callable[[], Mapping[str, str]]
    """A sentence for each bridge that ended since its room was made encrypted."""
    troubles: Troubles
    began: float

    async def look(self, patience: float | None = None) -> dict[str, Any]:
        """See how everything is. ``parked`` is None while the database is away, or if it needs
        more than ``patience`` seconds; without any, what it needs is waited for."""
        parked, database = await self._count_parked(patience)
        return {
            "version": self.version,
            "up_seconds": round(monotonic() - self.began),
            "homeserver": self.sender.trouble or self.homeserver(),
            "database": database,
            "instances": [self._instance(one) for _, one in sorted(self.instances.items())],
            "bots": [{"name": name, "title": title, "user": user}
                     for name, title, user in self.bots()],
            "portals": len(self.portals.all),
            "lanes": self._lanes(),
            "into_matrix_waiting": self.sender.waiting,
            "into_matrix_held_up": [
                lane.look() for lane in self.sender.standing() if lane.trouble
            ][:_LONGEST],
            "parked": parked,
            "seconds_end_to_end": {
                direction: self._median(direction) for direction in ("to_network", "to_matrix")
            },
            "unaccounted": dict(self.difference()),
            "unfinished": dict(self.unfinished()),
            "encrypted": dict(self.encrypted()),
            "troubles": [{"at": at.isoformat(timespec="seconds"), "event": event, "said": said}
                         for at, event, said in self.troubles.recent],
        }  # fmt: skip

    async def in_words(self) -> str:
        """How everything is, for somebody who asks in a room and is not to wait long."""
        return "\n".join(in_lines(await self.look(PATIENCE)))

    async def refuse_silence(self) -> None:
        """Raise ``TemporaryFailure`` if the database does not answer those who ask by now."""
        parked, said = await self._count_parked(PATIENCE)
        if parked is None:
            raise TemporaryFailure(
                f"the database is {said}. Nothing was done: try again once `trestle doctor` finds "
                "that it answers"
            )

    async def _count_parked(self, patience: float | None) -> tuple[dict[str, int] | None, str]:
        """What is put aside; and what the database says to that."""
        try:
            # Whose question is cut off waits for the server's word on that, which one that stands
            # still never gives: the second limit cuts that off too.
            leave = None if patience is None else patience + _LEAVE
            async with asyncio.timeout(leave), asyncio.timeout(patience):
                counted = await self.items.count_parked()
        except TimeoutError:
            return None, f"slow: no answer within {patience:g} s"
        except TemporaryFailure as error:
            return None, str(error).removeprefix("the database is ")
        return {reason.value: number for reason, number in counted.items()}, "answers"

    def _instance(self, instance: Instance) -> dict[str, Any]:
        state, reason = instance.state
        relay = instance.relay.supervisor if instance.relay is not None else None
        states = [session.supervisor.state for session in instance.sessions]
        return {
            "name": instance.name,
            "module": instance.connector.info.name,
            "state": state.value,
            "reason": reason if relay is None else relay.because,
            "outlook": "" if relay is None else relay.outlook,
            "logins": {one.value: n for one in LoginState if (n := states.count(one))},
            "logins_in_trouble": [
                {
                    "login": session.row.id,
                    "owner": session.row.owner or "",
                    "state": session.supervisor.state.value,
                    "reason": session.supervisor.because,
                    "outlook": session.supervisor.outlook,
                }
                for session in instance.sessions
                if session.supervisor.state is LoginState.OFF or session.supervisor.outlook
            ],
            "chats_in_trouble": {
                **self._in_rings(instance.name),
                **instance.trouble,
                **self.portals.shut(instance.name),
            },
        }

    def _in_rings(self, instance: InstanceId) -> dict[str, str]:
        """The chats to which something goes round, or is said again and again."""
        return {
            door.portal.chat: why for door in self.portals.all
            if door.portal.instance == instance and (why := door.departures.rings.trouble)
        }  # fmt: skip

    def _lanes(self) -> dict[str, Any]:
        oldest = {item.lane.consumer.name: item.age for item in self.router.heads}
        longest = sorted(oldest.items(), key=lambda pair: -pair[1])[:_LONGEST]
        return {
            "busy": len(oldest),
            "waiting": self.router.waiting + self.router.beyond,
            "oldest_seconds": round(max(oldest.values(), default=0.0), 1),
            "longest": [
                {"lane": self.portals.name_of(name), "waiting": len(self.router.lanes[name]),
                 "seconds": round(seconds, 1), "because": self.portals.why_waiting(name)}
                for name, seconds in longest
            ],
        }  # fmt: skip

    def _median(self, direction: str) -> float | None:
        """The upper bound of the half that crossed faster (or the longest that is measured).

        None if nothing crossed yet.
        """
        counts: list[tuple[float, float]] = []
        for metric in self.telemetry.end_to_end_seconds.collect():
            for sample in metric.samples:
                if sample.name.endswith("_bucket") and sample.labels["direction"] == direction:
                    counts.append((float(sample.labels["le"]), sample.value))
        total = counts[-1][1] if counts else 0.0
        half = next((bound for bound, n in counts if total and n >= total / 2), None)
        return half if half is None or isfinite(half) else counts[-2][0]
