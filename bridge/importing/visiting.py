"""Our bot's way into the rooms of another bridge, by that bridge's own hand where it may act."""

import math
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bridge.matrix.client import HomeserverClient, MatrixError, path
from bridge.matrix.registration import read_registration
from bridge.matrix.rooms import RoomQuestions
from bridge.sdk.errors import ConfigError, PermanentFailure
from bridge.sdk.ids import RoomId, UserId
from bridge.sdk.secret import Secret

_LEVELS = "m.room.power_levels"
_ENCRYPTION = "m.room.encryption"
_CREATORS = 100
"""The least that stands for a creator's rights."""
_ENCRYPTED = "the room is encrypted, which cannot be bridged yet"


@dataclass(frozen=True, slots=True, kw_only=True)
class FormerBot:
    """Another bridge's bot, in whose name we may act."""

    user: UserId
    token: Secret = field(repr=False)

    @classmethod
    def read(cls, registration: Path, server_name: str) -> "FormerBot":
        """Read that bridge's registration. Raises ``ConfigError`` if it is none."""
        try:
            data = read_registration(registration)
        except ConfigError as error:  # Its way out is for our own.
            raise ConfigError(
                f"{error.reason.partition('; `trestle')[0]}; give the registration that the "
                "homeserver has of the other bridge"
            ) from error
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
        self._questions = RoomQuestions(client, bot)
        self._joined: set[RoomId] = set()
        self._formers: set[RoomId] | None = None
        """Where the other bridge's bot is; None if that was not looked at."""

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
        self._joined = await self._rooms_of(self._bot)

    async def knock(self) -> None:
        """Ask whether the homeserver is there. Raises ``TrestleError`` if not, or not for us."""
        try:
            await self._client.whoami()
        except MatrixError as error:
            if error.errcode == "M_UNKNOWN_TOKEN":  # Else the bot has no account yet.
                raise

    async def look(self, room: RoomId) -> str:
        """Foretell :meth:`enter` by reading alone: raise what it would, as far as it can be seen.

        Gives in words what cannot be seen from outside; empty if that is nothing.
        """
        if self._formers is None:
            await self._look_around()
        former, is_in = self._former, room in self._joined
        if is_in:
            questions = self._questions
        elif former is not None and room in (self._formers or ()):
            questions = RoomQuestions(self._client, former.user, token=former.token)
        else:
            return f"if {self._bot} is let in and the room is not encrypted, which is seen then"
        if await questions.state(room, _ENCRYPTION) is not None:
            raise PermanentFailure(_ENCRYPTED)
        if former is not None and not is_in:
            await self._foretell_entry(questions, room, former)
        level = await self._missing_level(questions, room, await questions.state(room, _LEVELS))
        if former is not None and level is not None:
            may = await questions.can(room, former.user, _LEVELS)
            if not may or room not in (self._formers or ()):
                raise self._no_rights(former, level, "it may not give them there")
        return ""

    async def enter(self, room: RoomId) -> None:
        """Have the bot in the room, and as high there as the other bridge's.

        Raises ``PermanentFailure`` with the way out, ``MatrixError`` for another refusal,
        ``TemporaryFailure`` when the homeserver is away.
        """
        was_in = room in self._joined
        if not was_in:
            await self._come_in(room)
        if await self._questions.state(room, _ENCRYPTION) is not None:
            if not was_in:
                await self._post(room, "leave")
            raise PermanentFailure(_ENCRYPTED)
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
            raise self._not_let_in(str(error)) from error

    async def _look_around(self) -> None:
        """See where the bots are. Ours may have no account yet, and the other none any more."""
        formers: set[RoomId] = set()
        with suppress(MatrixError):
            self._joined = await self._rooms_of(self._bot)
        if self._former is not None:
            with suppress(MatrixError):
                formers = await self._rooms_of(self._former.user, self._former.token)
        self._formers = formers

    async def _foretell_entry(
        self, questions: RoomQuestions, room: RoomId, former: FormerBot
    ) -> None:
        member = await questions.state(room, "m.room.member", self._bot) or {}
        rule = await questions.state(room, "m.room.join_rules") or {}
        if member.get("membership") == "ban":
            raise self._not_let_in("it is banned there")
        is_open = rule.get("join_rule") == "public" or member.get("membership") == "invite"
        if not is_open and not await questions.can(room, former.user, "invite"):
            raise self._not_let_in(f"{former.user} may not invite it")

    async def _rise(self, room: RoomId) -> None:
        """Give our bot the level of the other's, which made the room or was trusted in it."""
        former, levels = self._former, await self._questions.state(room, _LEVELS)
        level = await self._missing_level(self._questions, room, levels)
        if former is None or levels is None or level is None:
            return
        users = levels.get("users")
        users = users if isinstance(users, dict) else {}
        content = {**levels, "users": {**users, self._bot: level}}
        try:
            await self._client.request(
                "PUT", path("v3", "rooms", room, "state", _LEVELS, ""), user=former.user,
                token=former.token, content=content,
            )  # fmt: skip
        except MatrixError as error:
            raise self._no_rights(former, level, str(error)) from error

    async def _missing_level(
        self, questions: RoomQuestions, room: RoomId, levels: Mapping[str, Any] | None
    ) -> int | None:
        """The level of the other bridge's bot, where ours stands lower.

        A creator of a room of version 12 stands above all levels; what is asked for is enough.
        """
        if self._former is None or levels is None:
            return None
        level = await questions.level(room, self._former.user)
        own = await questions.level(room, self._bot)
        if math.isinf(level):
            level = max([_CREATORS, *_asked_for(levels)])
        return int(level) if own < level else None

    def _not_let_in(self, why: str) -> PermanentFailure:
        return PermanentFailure(f"{self._bot} is not let in ({why}); invite it, and import again")

    def _no_rights(self, former: FormerBot, level: int, why: str) -> PermanentFailure:
        return PermanentFailure(
            f"{self._bot} does not get the rights that {former.user} has ({why}); give it the "
            f"level {level}, and import again"
        )

    async def _post(self, room: RoomId, what: str) -> None:
        await self._client.request("POST", path("v3", "rooms", room, what), user=self._bot)

    async def _rooms_of(self, user: UserId, token: Secret | None = None) -> set[RoomId]:
        reply = await self._client.request(
            "GET", path("v3", "joined_rooms"), user=user, token=token
        )
        return {RoomId(str(room)) for room in reply.get("joined_rooms", [])}


def _asked_for(levels: Mapping[str, Any]) -> list[int]:
    """Every level that is asked for something in the room."""
    found = [value for key, value in levels.items() if key != "users_default"]
    for more in (levels.get("events"), levels.get("notifications")):
        found += more.values() if isinstance(more, dict) else ()
    return [one for one in found if isinstance(one, int)]
