"""Putting people out of rooms and letting them in again, as one of ours."""

from collections.abc import Callable

from bridge.matrix.client import HomeserverClient, path
from bridge.matrix.rooms import RoomQuestions
from bridge.model import Outgoing, SendKind
from bridge.sdk.ids import UserId


class Removals:
    """Does it as late as can be, and leaves alone what people in Matrix decided meanwhile."""

    def __init__(
        self, client: HomeserverClient, rooms: RoomQuestions, is_ours: Callable[[str], bool]
    ) -> None:
        self._client = client
        self._rooms = rooms
        self._is_ours = is_ours

    async def do(self, outgoing: Outgoing) -> None:
        """Kick, ban or unban. Raises :class:`MatrixError`.

        A ban of people's own stays: it is not made ours, and only ours are lifted.
        """
        if outgoing.kind is not SendKind.KICK:
            event = await self._rooms.member(outgoing.room, UserId(outgoing.target))
            is_banned = (event.get("content") or {}).get("membership") == "ban"
            is_theirs = is_banned and not self._is_ours(str(event.get("sender")))
            if is_theirs or is_banned is (outgoing.kind is SendKind.BAN):
                return
        place = path("v3", "rooms", outgoing.room, outgoing.kind.value)
        content = {"user_id": outgoing.target, **outgoing.content}
        await self._client.request("POST", place, user=outgoing.user, content=content)
