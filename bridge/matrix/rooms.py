"""Questions about rooms: power, members, encryption."""

import math
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

from bridge.matrix.client import HomeserverClient, MatrixError, path
from bridge.matrix.htmltree import clean
from bridge.matrix.standing import Standing
from bridge.sdk.errors import TemporaryFailure
from bridge.sdk.ids import EventId, RoomId, UserId
from bridge.sdk.secret import Secret

NOT_THERE = {"M_NOT_FOUND", "M_FORBIDDEN", "M_UNKNOWN"}
"""What is answered where there is nothing, or nothing that we may see."""
_WHOLE = {"format": "event"}
"""Asks for a state event, and not for its content alone."""
_NAME_BYTES = 100


class RoomQuestions:
    """Asks as one user, who must be in the room.

    ``token`` is another appservice's, if the user is one of its own.
    """

    def __init__(
        self, client: HomeserverClient, user: UserId, *, token: Secret | None = None
    ) -> None:
        self._client = client
        self._user = user
        self._token = token

    async def state(
        self, room: RoomId, kind: str, key: str = "", *, user: UserId | None = None
    ) -> dict[str, Any] | None:
        """The content of a state event, None if there is none or we may not see it."""
        return await self._find("state", room, kind, key, user=user)

    async def state_event(self, room: RoomId, kind: str) -> dict[str, Any]:
        """The whole state event without a key; empty if there is none or we may not see it."""
        return await self._find("state", room, kind, "", query=_WHOLE) or {}

    async def membership(self, room: RoomId, user: UserId) -> dict[str, Any]:
        """The event that says whether one of our users is in the room, as they see it.

        Raises :class:`MatrixError` if they may not see it.
        """
        return await self._ask("state", room, "m.room.member", user, user=user, query=_WHOLE)

    async def member(self, room: RoomId, user: UserId) -> dict[str, Any]:
        """The event that says what anybody is in a room; empty if there is none, or we may not
        see it."""
        return await self._find("state", room, "m.room.member", user, query=_WHOLE) or {}

    async def see_encryption(self, room: RoomId, user: UserId | None = None) -> bool | None:
        """Whether the room is encrypted; None if the user may not see that."""
        try:
            await self._ask("state", room, "m.room.encryption", "", user=user)
        except MatrixError as error:
            if error.status == 404:
                return False
            if error.errcode in NOT_THERE:
                return None
            raise
        return True

    async def states(
        self, room: RoomId, kinds: Collection[str]
    ) -> Mapping[tuple[str, str], dict[str, Any]]:
        """The contents of all state events of these types, by type and state key.

        Raises :class:`MatrixError` if we may not see them.
        """
        found = await self._client.request_list(
            path("v3", "rooms", room, "state"), user=self._user, token=self._token
        )
        return {
            (one["type"], str(one.get("state_key"))): one["content"]
            for one in found
            if isinstance(one, dict) and one.get("type") in kinds
            and isinstance(one.get("content"), dict)
        }  # fmt: skip

    async def name(self, room: RoomId) -> str:
        """What people call the room: its alias, else its name, else its id."""
        for kind, field in (("m.room.canonical_alias", "alias"), ("m.room.name", "name")):
            found = (await self.state(room, kind) or {}).get(field)
            if isinstance(found, str) and found.strip():
                # Other networks count bytes.
                whole = " ".join(clean(found).split()).encode("utf-8", "replace")
                return whole[:_NAME_BYTES].decode("utf-8", "ignore")
        return room

    async def joined_members(self, room: RoomId) -> dict[UserId, str]:
        """Who is in the room, with display names; empty if we are not in it."""
        joined = (await self._find("joined_members", room) or {}).get("joined")
        if not isinstance(joined, dict):
            return {}
        return {
            UserId(user): clean(str((profile or {}).get("display_name") or ""))
            for user, profile in joined.items()
            if profile is None or isinstance(profile, dict)
        }

    async def standing(self, room: RoomId) -> Standing:
        """Who has which power now."""
        levels = await self.state(room, "m.room.power_levels")
        return Standing(levels, await self.state_event(room, "m.room.create"))

    async def can(
        self, room: RoomId, user: UserId, action: str, *, at: EventId | None = None
    ) -> bool:
        """Whether the user has the power for ``action``, as in :meth:`Standing.may`. ``at`` is the
        event at which it counts; else it is now."""
        if at is None:
            standing = await self.standing(room)
        else:
            state = _by_type(await self._context(room, at))  # Of what we may not see: nobody.
            levels = state.get("m.room.power_levels", {}).get("content")
            standing = Standing(levels, state.get("m.room.create"))
        return standing.may(user, action)

    async def who_can(self, room: RoomId, action: str) -> set[UserId]:
        """All who have the power for ``action`` now by being named, as in :meth:`can`."""
        standing = await self.standing(room)
        return {one for one in standing.named if standing.may(one, action)}

    async def level(self, room: RoomId, user: UserId) -> float:
        """How much power the user has now, as in :meth:`Standing.of`."""
        return (await self.standing(room)).of(user)

    async def may_remove(
        self, room: RoomId, user: UserId, target: UserId, how: str, *, most: float = math.inf
    ) -> bool:
        """Whether the user may kick or ban (or let in again) that one: it takes the power to,
        and more of it than the other has. With ``most`` as if they had no more than that."""
        action = "kick" if how == "kick" else "ban"
        standing = await self.standing(room)
        if standing.needed(action) > most or not standing.may(user, action):
            return False
        return min(most, standing.of(user)) > standing.of(target)

    async def event(self, room: RoomId, event: str) -> dict[str, Any] | None:
        """An event, None if there is none or we may not see it."""
        if not event.isprintable():
            return None  # None has such an id, and no address can even hold it.
        return await self._find("event", room, event)

    async def find_content(self, room: RoomId, event_id: EventId) -> dict[str, Any] | None:
        """The content of an event as it was first said; None if we cannot see it just now."""
        try:
            event = await self.event(room, event_id)
        except (MatrixError, TemporaryFailure):
            return None
        content = (event or {}).get("content")
        return content if isinstance(content, dict) else None

    async def is_taken_back(self, room: RoomId, event: EventId) -> bool:
        """Whether the event was redacted, as far as we may see it."""
        found = await self.event(room, event)
        return found is not None and not found.get("content")

    async def read_said(self, room: RoomId, event: EventId) -> "Said | None":
        """What an event says by now, None if it says nothing: it was taken back, or we may not
        see it. Raises :class:`MatrixError`."""
        reply = await self._context(room, event)
        content = _content_now(reply.get("event"))
        if not content:
            return None
        state = _by_type(reply).get("m.room.history_visibility")
        return Said(content, read_visibility(state["content"] if state is not None else None))

    async def _context(self, room: RoomId, event: EventId) -> dict[str, Any]:
        """An event with the room's state at it, empty if we may not see it.

        By ``/context``, whose state is that at its last event (client-server API).
        """
        query = {"limit": "0", "filter": '{"lazy_load_members":true}'}
        return await self._find("context", room, event, query=query) or {}

    async def _find(
        self, what: str, room: RoomId, *more: str, user: UserId | None = None,
        query: Mapping[str, str] | None = None,
    ) -> dict[str, Any] | None:  # fmt: skip
        """As :meth:`_ask`; None if there is nothing, or nothing that we may see."""
        try:
            return await self._ask(what, room, *more, user=user, query=query)
        except MatrixError as error:
            if error.errcode in NOT_THERE:
                return None
            raise

    async def _ask(
        self, what: str, room: RoomId, *more: str, user: UserId | None = None,
        query: Mapping[str, str] | None = None,
    ) -> dict[str, Any]:  # fmt: skip
        return await self._client.request(
            "GET", path("v3", "rooms", room, what, *more), user=user or self._user, query=query,
            token=self._token,
        )  # fmt: skip


class Said(NamedTuple):
    """What an event says."""

    content: dict[str, Any]
    """After its newest edit."""
    visibility: str
    """The room's ``history_visibility`` when it was said."""


def read_visibility(content: Mapping[str, Any] | None) -> str:
    """Read the state of ``m.room.history_visibility``; without one it is ``shared``."""
    return str((content or {}).get("history_visibility", "shared"))


def _by_type(context: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    state = context.get("state")
    return {
        str(one.get("type")): one
        for one in (state if isinstance(state, list) else [])
        if isinstance(one, dict) and one.get("state_key") == ""
        and isinstance(one.get("content"), dict)
    }  # fmt: skip


def _content_now(event: object) -> dict[str, Any]:
    """The content of an event, or of the edit that the homeserver says is its newest; empty if it
    was taken back, or is edited and nothing says into what."""
    event = event if isinstance(event, dict) else {}
    unsigned, content = event.get("unsigned"), event.get("content")
    unsigned = unsigned if isinstance(unsigned, dict) else {}
    relations = unsigned.get("m.relations")
    edit = relations.get("m.replace") if isinstance(relations, dict) else None
    if isinstance(edit, dict):
        edited = edit.get("content")
        content = edited.get("m.new_content") if isinstance(edited, dict) else None
    is_there = isinstance(content, dict) and "redacted_because" not in unsigned
    return content if is_there and isinstance(content, dict) else {}
