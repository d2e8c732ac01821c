"""What was said in a room, read backwards (client-server API, ``/rooms/{roomId}/messages``)."""

from dataclasses import dataclass
from typing import Any

import orjson

from bridge.matrix.client import HomeserverClient, MatrixError, path
from bridge.sdk.ids import RoomId, UserId

_TYPES = (
    "m.room.message", "m.room.encrypted", "m.sticker", "m.reaction", "m.room.redaction",
    "m.room.member",
)  # fmt: skip
_FILTER = orjson.dumps({"types": _TYPES}).decode()


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Some events of a room, the newest first."""

    events: list[dict[str, Any]]
    before: str = ""
    """Where the next page begins; empty if there is none."""


class History:
    """Reads rooms as one of our users who is in them."""

    def __init__(self, client: HomeserverClient) -> None:
        self._client = client

    async def page(self, room: RoomId, user: UserId, *, before: str = "") -> Page | None:
        """The newest events, or those before a point: of the types that are routed.

        None if the user may not see them. Raises ``TemporaryFailure``.
        """
        query = {"dir": "b", "limit": "100", "filter": _FILTER}
        if before:
            query["from"] = before
        try:
            reply = await self._client.request(
                "GET", path("v3", "rooms", room, "messages"), user=user, query=query
            )
        except MatrixError as error:
            if error.status in {403, 404}:
                return None
            raise
        chunk, end = reply.get("chunk"), reply.get("end")
        events = [event for event in chunk if isinstance(event, dict)] if chunk else []
        return Page(events=events, before=end if isinstance(end, str) and chunk else "")
