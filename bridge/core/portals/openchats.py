"""The bridged chats that anybody may know of: open on their network, and open in Matrix."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bridge.core.host.instances import Instance
from bridge.core.portals.portals import Portals
from bridge.core.traffic.doorway import Doorway
from bridge.matrix.client import MatrixError
from bridge.matrix.intents import Intents
from bridge.matrix.links import is_alias, link_to
from bridge.sdk.errors import DeliveryError
from bridge.sdk.ids import InstanceId
from bridge.sdk.wishes import TakesWishes

_FRESH_SECONDS = 60.0
_MOST = 1000
_AT_ONCE = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenChat:
    """One of them."""

    instance: InstanceId
    chat: str
    room: str
    """What people call the room."""
    link: str
    """Where it leads; empty if the room has no alias."""


class OpenChats:
    """Looks into rooms at most once a minute, however often it is asked.

    What is hidden or closed on its network, or is bridged no more, is left out at once.
    """

    def __init__(
        self, portals: Portals, intents: Intents, instances: Mapping[InstanceId, Instance]
    ) -> None:
        self._instances = instances
        self._portals = portals
        self._intents = intents
        self._found: Sequence[tuple[Doorway, OpenChat]] = ()
        self._looked_at: float | None = None
        self._one_at_a_time = asyncio.Lock()

    async def list(self) -> Sequence[OpenChat]:
        """Those that both sides show to everybody. What cannot be asked just now is left out."""
        loop = asyncio.get_running_loop()
        async with self._one_at_a_time:
            if self._looked_at is None or loop.time() - self._looked_at > _FRESH_SECONDS:
                self._found, self._looked_at = await self._look(), loop.time()
        bridged = set(self._portals.all)
        return [one for door, one in self._found if door in bridged and is_open(door)]

    async def _look(self) -> Sequence[tuple[Doorway, OpenChat]]:
        slots = asyncio.Semaphore(_AT_ONCE)
        shown: list[tuple[Doorway, OpenChat]] = []

        async def look_at(door: Doorway) -> None:
            async with slots:
                found = await self._describe(door)
            if found is not None:
                shown.append((door, found))

        async with asyncio.TaskGroup() as group:
            for door in [door for door in self._portals.all if is_open(door)][:_MOST]:
                group.create_task(look_at(door))
        return sorted(shown, key=lambda one: (one[1].instance, one[1].chat.casefold()))

    async def _describe(self, door: Doorway) -> OpenChat | None:
        portal = door.portal
        try:
            rules = await self._intents.state(portal.room, "m.room.join_rules") or {}
            if rules.get("join_rule") != "public":
                return None
            named = await self._intents.state(portal.room, "m.room.canonical_alias") or {}
            room = await self._intents.room_name(portal.room)
        except (DeliveryError, MatrixError):
            return None
        alias = named.get("alias")
        return OpenChat(
            instance=portal.instance, chat=portal.chat_name, room=room,
            link=link_to(alias) if is_alias(alias) else "",
        )  # fmt: skip

    def wishes(self, instance: InstanceId) -> Sequence[tuple[str, str]]:
        """What people of a network type to the bridge, and what comes of it."""
        found = self._instances.get(instance)
        connector: object = found.connector if found is not None else None
        return connector.wishes() if isinstance(connector, TakesWishes) else ()


def is_open(door: Doorway) -> bool:
    """Whether the network shows the chat to everybody. What it has not said is not shown."""
    portal = door.portal
    return portal.receiver is None and portal.listed is True and portal.open is True
