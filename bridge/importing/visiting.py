"""Our bot's way into the rooms of another bridge, by that bridge's own hand where it may act."""

from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bridge.matrix.client import HomeserverClient, MatrixError, path
from bridge.matrix.registration import read_registration
from bridge.sdk.errors import ConfigError, PermanentFailure
from bridge.sdk.ids import RoomId, UserId
from bridge.sdk.secret import Secret

_LEVELS = "m.room.power_levels"


@dataclass(frozen=True, slots=True, kw_only=True)
class FormerBot:
    """Another bridge's bot, in whose name we may act."""

    user: UserId
    token: Secret = field(repr=False)

    @classmethod
    def read(cls, registration: Path, server_name: str) -> "FormerBot":
        """Read that bridge's registration. Raises ``ConfigError`` if it is none."""
        data = read_registration(registration)
        localpart, token = data.get("sender_localpart"), data.get("as_token")
        if not (isinstance(localpart, str) and localpart and isinstance(token, str) and token):
            raise ConfigError(
                f"{registration} has no sender_localpart and as_token: give the registration that "
                "the homeserver has of the other bridge"
            )
        return cls(user=UserId(f"@{localpart}:{server_name}"), token=Secret(token))


class Visit:
    """Has our bot in rooms. Nothing is sent to a room that it is in already."""

    def __init__(
        self, client: HomeserverClient, bot: UserId, former: FormerBot | None = None
    ) -> None:
        self._client = client
        self._bot = bot
        self._former = former
        self._joined: set[RoomId] = set()

    async def begin(self) -> None:
        """See where the bot is; it gets its account if it has none. Raises ``TrestleError``."""
        localpart = self._bot[1:].partition(":")[0]
        content = {
            "type": "m.login.application_service", "username": localpart, "inhibit_login": True,
        }  # fmt: skip
        try:
            await self._client.request(
                "POST", path("v3", "register"), query={"kind": "user"}, content=content
            )
        except MatrixError as error:
            if error.errcode != "M_USER_IN_USE":
                raise
        reply = await self._client.request("GET", path("v3", "joined_rooms"), user=self._bot)
        self._joined = {RoomId(str(room)) for room in reply.get("joined_rooms", [])}

    async def enter(self, room: RoomId) -> None:
        """Have the bot in the room, and as high there as the other bridge's.

        Raises ``PermanentFailure`` with the way out, ``MatrixError`` for another refusal,
        ``TemporaryFailure`` when the homeserver is away.
        """
        was_in = room in self._joined
        if not was_in:
            await self._come_in(room)
        if await self._state(room, "m.room.encryption") is not None:
            if not was_in:
                await self._post(room, "leave")
            raise PermanentFailure("the room is encrypted, which cannot be bridged yet")
        self._joined.add(room)
        await self._rise(room)

    async def _come_in(self, room: RoomId) -> None:
        if self._former is not None:
            # The room may be open to all, or somebody may have invited the bot.
            with suppress(MatrixError):
                await self._client.request(
                    "POST", path("v3", "rooms", room, "invite"), user=self._former.user,
                    token=self._former.token, content={"user_id": self._bot},
                )  # fmt: skip
        try:
            await self._post(room, "join")
        except MatrixError as error:
            raise PermanentFailure(
                f"{self._bot} is not let in ({error}); invite it, and import again"
            ) from error

    async def _rise(self, room: RoomId) -> None:
        """Give our bot the level of the other's, which made the room or was trusted in it."""
        former, levels = self._former, await self._state(room, _LEVELS)
        users = (levels or {}).get("users")
        if former is None or levels is None or not isinstance(users, dict):
            return
        level, own = users.get(former.user), users.get(self._bot, levels.get("users_default", 0))
        if not isinstance(level, int) or not isinstance(own, int) or own >= level:
            return
        content = {**levels, "users": {**users, self._bot: level}}
        try:
            await self._client.request(
                "PUT", path("v3", "rooms", room, "state", _LEVELS, ""), user=former.user,
                token=former.token, content=content,
            )  # fmt: skip
        except MatrixError as error:
            raise PermanentFailure(
                f"{self._bot} does not get the rights that {former.user} has ({error}); give "
                f"it the level {level}, and import again"
            ) from error

    async def _post(self, room: RoomId, what: str) -> None:
        await self._client.request("POST", path("v3", "rooms", room, what), user=self._bot)

    async def _state(self, room: RoomId, kind: str) -> dict[str, Any] | None:
        place = path("v3", "rooms", room, "state", kind, "")
        try:
            return await self._client.request("GET", place, user=self._bot)
        except MatrixError as error:
            if error.status == 404:
                return None
            raise
