"""Names of rooms at the homeserver: which there are, and those that we give and take back."""

import logging
from collections.abc import Sequence

from bridge.matrix.client import HomeserverClient, MatrixError, failure_of, path
from bridge.sdk.ids import RoomId, UserId

log = logging.getLogger(__name__)


class RoomAliases:
    """Asks, and acts, as one of our bots."""

    def __init__(self, client: HomeserverClient, user: UserId) -> None:
        self._client = client
        self._user = user

    async def find_room(self, alias: str) -> RoomId | None:
        """The room that an alias leads to, None if there is none. Raises :class:`MatrixError`."""
        try:
            reply = await self._client.request(
                "GET", path("v3", "directory", "room", alias), user=self._user
            )
        except MatrixError as error:
            if error.errcode == "M_NOT_FOUND":
                return None
            raise
        room = reply.get("room_id")
        return RoomId(room) if isinstance(room, str) else None

    async def put(self, alias: str, room: RoomId) -> None:
        """Have the alias lead to the room."""
        try:
            await self._client.request(
                "PUT", path("v3", "directory", "room", alias), user=self._user,
                content={"room_id": room},
            )  # fmt: skip
        except MatrixError as error:
            if error.status != 409:
                raise failure_of(error) from error

    async def of(self, room: RoomId) -> Sequence[str]:
        """The aliases here that lead to the room; none if the homeserver does not say."""
        try:
            reply = await self._client.request(
                "GET", path("v3", "rooms", room, "aliases"), user=self._user
            )
        except MatrixError as error:
            log.info("a room's aliases are not known: %s", error, extra={"event": "alias_stays"})
            return ()
        found = reply.get("aliases")
        return [one for one in found if isinstance(one, str)] if isinstance(found, list) else ()

    async def delete(self, alias: str) -> None:
        """Have no such alias."""
        try:
            await self._client.request(
                "DELETE", path("v3", "directory", "room", alias), user=self._user
            )
        except MatrixError as error:
            if error.status != 404:
                log.info("an alias stays: %s", error, extra={"event": "alias_stays"})
