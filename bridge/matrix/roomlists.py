"""The homeserver's lists of rooms that are to be found: its own, and one for each network."""

import logging

from bridge.matrix.client import HomeserverClient, MatrixError, path
from bridge.sdk.ids import InstanceId, RoomId, UserId

log = logging.getLogger(__name__)


class RoomLists:
    """Reads and writes them as one of our bots. A list that we may not change stays as it is."""

    def __init__(self, client: HomeserverClient, user: UserId) -> None:
        self._client = client
        self._user = user

    async def is_listed(self, room: RoomId) -> bool:
        """Whether the room is in the homeserver's own list, as far as it says."""
        try:
            reply = await self._client.request(
                "GET", path("v3", "directory", "list", "room", room), user=self._user
            )
        except MatrixError:
            return False
        return reply.get("visibility") == "public"

    async def set_listed(self, room: RoomId, is_listed: bool) -> None:
        """Have the room in the homeserver's own list, or not. Some let nobody put it there."""
        await self._put(("room", room), is_listed)

    async def set_listed_in(self, network: InstanceId, room: RoomId, is_listed: bool) -> None:
        """Have the room in the list of a network of ours, or not (application service API)."""
        await self._put(("appservice", network, room), is_listed)

    async def _put(self, place: tuple[str, ...], is_listed: bool) -> None:
        content = {"visibility": "public" if is_listed else "private"}
        try:
            await self._client.request(
                "PUT", path("v3", "directory", "list", *place), user=self._user, content=content
            )
        except MatrixError as error:
            log.info("the directory stays as it is: %s", error, extra={"event": "not_listed"})
