"""What people are called in a room, and their pictures."""

import asyncio
from collections.abc import Mapping
from typing import Any, NamedTuple

from bridge.matrix.cache import Recent
from bridge.matrix.client import MatrixError
from bridge.matrix.htmltree import clean
from bridge.matrix.rooms import RoomQuestions
from bridge.sdk.errors import TemporaryFailure
from bridge.sdk.ids import RoomId, UserId

_PATIENCE = 30.0
"""Seconds without a question about a room after one that was not answered."""


class Members:
    """Knows how people look in rooms: asked once, and kept by membership events.

    While the homeserver does not answer for a room, people who are not known there go by their
    localparts. What is said in other rooms is not touched by that.
    """

    def __init__(self, rooms: RoomQuestions) -> None:
        self._rooms = rooms
        self._members: Recent[tuple[RoomId, UserId], _Member] = Recent(50_000)
        self._asks_again_at: Recent[RoomId, float] = Recent(10_000)
        """By room, in loop time."""

    def note(self, room: RoomId, user: UserId, content: Mapping[str, Any]) -> None:
        """Learn from the content of a membership event."""
        if content.get("membership") == "join":
            self._members.put((room, user), _read(user, content))
        else:
            self._members.drop((room, user))

    def cached_name(self, user: UserId, room: RoomId) -> str:
        """What the user is called in the room as far as we know; else the localpart."""
        member = self._members.get((room, user))
        return member.name if member is not None else _localpart(user)

    async def display_name(self, user: UserId, room: RoomId) -> str:
        """What the user is called in the room."""
        return (await self._find(user, room)).name

    async def avatar(self, user: UserId, room: RoomId) -> str:
        """The ``mxc://`` URI of the user's picture in the room, as they say; empty if none."""
        return (await self._find(user, room)).avatar

    def doubt(self) -> None:
        """Ask again what was not answered: the homeserver is back."""
        self._asks_again_at.clear()

    async def _find(self, user: UserId, room: RoomId) -> "_Member":
        member = self._members.get((room, user))
        if member is not None:
            return member
        loop = asyncio.get_running_loop()
        if loop.time() < (self._asks_again_at.get(room) or 0.0):
            return _read(user, {})  # Not every message must wait for a homeserver that is away.
        content = None
        try:
            content = await self._rooms.state(room, "m.room.member", user)
        except (TemporaryFailure, MatrixError) as error:
            if not isinstance(error, MatrixError) or error.is_of_token:
                # It does not answer, or does not know us just now.
                self._asks_again_at.put(room, loop.time() + _PATIENCE)
                return _read(user, {})
        # What was heard meanwhile is newer than the answer.
        member = self._members.get((room, user)) or _read(user, content or {})
        self._members.put((room, user), member)
        return member


class _Member(NamedTuple):
    """How somebody looks in a room."""

    name: str
    avatar: str


def _read(user: str, content: Mapping[str, Any]) -> _Member:
    name, avatar = content.get("displayname"), content.get("avatar_url")
    return _Member(
        clean(name) if isinstance(name, str) and name else _localpart(user),
        avatar if isinstance(avatar, str) else "",
    )


def _localpart(user: str) -> str:
    return user[1:].partition(":")[0]
