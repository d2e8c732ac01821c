"""Who comes into a portal's room from Matrix, and who leaves it: what follows from that."""

from collections.abc import Awaitable, Callable
from typing import Any

from bridge.core.rooms.chatfacts import ChatFacts
from bridge.core.rooms.house import House
from bridge.core.traffic.voices import Voices
from bridge.model import Permission
from bridge.sdk.events import RemoteChat
from bridge.sdk.ids import UserId

_ALL_POWER = 100
"""What the maker of a room has, and so what those have who run ours."""


class Comings:
    """One portal's."""

    def __init__(self, facts: ChatFacts, voices: Voices, house: House) -> None:
        self._facts = facts
        self._voices = voices
        self._house = house
        self.on_owner_left: Callable[[], Awaitable[None]]
        """Called when the person whose direct chat it is has left the room."""

    async def follow(self, event: dict[str, Any]) -> None:
        """Do what follows from a change of membership.

        Raises ``TemporaryFailure`` when the database is away.
        """
        person = UserId(str(event.get("state_key")))
        match event["content"].get("membership"):
            case "join":
                await self._welcome(person, event)
            case "leave" | "ban":
                await self._let_go(person)

    async def _welcome(self, person: UserId, event: dict[str, Any]) -> None:
        """Give an admin power in a room that we made: nobody there could do that."""
        facts, portal = self._facts, self._facts.portal
        if not facts.is_own_room or _was_there(event):
            return
        if self._house.permissions.allows(person, Permission.ADMIN, portal.instance):
            await self._house.sender.put([facts.powers({person: _ALL_POWER}, voices={})])

    async def _let_go(self, person: UserId) -> None:
        """A Matrix user who leaves the room leaves the chat."""
        portal = self._facts.portal
        if portal.receiver is not None:
            if person == portal.created_by:
                await self.on_owner_left()
            return
        instance = self._house.instances.get(portal.instance)
        lent = await self._voices.end_loan(person, "they have left this room")
        session = instance.find_session(person) if instance else None
        chat = RemoteChat(id=portal.chat, name=portal.chat_name)
        for one in filter(None, {session, lent}):
            await one.leave(chat, "left the room")


def _was_there(event: dict[str, Any]) -> bool:
    """Whether somebody only goes by another name or picture now."""
    before = (event.get("unsigned") or {}).get("prev_content")
    return isinstance(before, dict) and before.get("membership") == "join"
