"""What goes round through other bridges is left out of a portal, and people are told of it."""

import logging
from time import monotonic
from typing import Any

from bridge.core.lanes.landing import Stored, now_stored
from bridge.core.outbox.outgoing import notice
from bridge.core.rooms.house import House
from bridge.core.traffic.rounds import Rounds
from bridge.matrix.dates import SAID_AT
from bridge.matrix.html import without_quote
from bridge.model import Portal

log = logging.getLogger(__name__)

_TELL_AGAIN = 3600.0
"""Seconds after which the room is told once more, if something is left out still."""
_NEWS_AFTER = 300.0
"""Seconds without any after which the next one that is left out is news for the log."""
_OVER_AFTER = 600.0
"""So many seconds after the last thing that was left out it is no longer a trouble."""


class Rings:
    """One portal's."""

    def __init__(self, portal: Portal, house: House) -> None:
        self._portal = portal
        self._house = house
        self._rounds = Rounds()
        self._told_at: float | None = None
        self._found_at: float | None = None

    @property
    def trouble(self) -> str:
        """That something was left out lately, in a sentence for admins; empty if nothing was."""
        now = monotonic()
        if self._found_at is None or now - self._found_at > _OVER_AFTER:
            return ""
        return (
            f"what is said in {self._portal.room} comes back through other bridges, or is said "
            "again and again, and is left out; take one of the bridges out, or have the bot say "
            "it less often"
        )

    async def stop(self, event: dict[str, Any], stored: Stored = now_stored) -> bool:
        """Whether the message is to be left out; the room is told so, but not of each.

        Nothing is told before the message is ``stored``. Raises what that does, and
        ``TemporaryFailure`` if it cannot be told: then ask again.
        """
        content = event["content"]
        body = content.get("body")
        text = without_quote(content, body) if isinstance(body, str) else ""
        sender, now = event["sender"], monotonic()
        if not self._rounds.is_endless(
            now, self._said_at(event), event["event_id"], sender, text,
            is_ghost=self._house.namespaces.is_ghost(sender),
        ):  # fmt: skip
            return False
        await stored()
        before, self._found_at = self._found_at, now
        if before is None or now - before > _NEWS_AFTER:
            log.warning(
                "what is said in %s goes round through other bridges, and is left out",
                self._portal.room,
                extra={"event": "goes_round", "instance": self._portal.instance},
            )
        if self._told_at is None or now - self._told_at > _TELL_AGAIN:
            await self._tell(event["event_id"])
            self._told_at = now
        return True

    async def _tell(self, event_id: str) -> None:
        portal, house = self._portal, self._house
        where = f"{portal.chat_name} on {portal.instance}"
        await house.sender.put([
            notice(
                house.key_of, room=portal.room, user=house.namespaces.bot, reply_to=event_id,
                text=f"This was not sent to {where}, and more like it is not: it came back "
                "through other bridges, or was said again and again. If bridges carry it round, "
                "take one of them out; a bot that repeats itself has to do it less often.",
                source=("goes round", portal.id, event_id),
            )
        ])  # fmt: skip

    def _said_at(self, event: dict[str, Any]) -> float:
        """When it was said, in seconds since 1970, as its sender's homeserver says.

        For our own users that is when it left our outbox, so the time that they give counts.
        """
        stamp = event.get("origin_server_ts")
        if self._house.namespaces.is_ours(event["sender"]):
            stamp = event["content"].get(SAID_AT, stamp)
        if isinstance(stamp, int):
            return stamp / 1000
        return self._house.clock.now().timestamp()
