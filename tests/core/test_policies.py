"""A network that does not answer about its bans keeps no other network's rooms waiting."""

import asyncio
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

from bridge.core.consent.policies import Policies
from bridge.core.permissions.policyrules import InForce
from bridge.core.portals.portals import Portals
from bridge.core.rooms.house import House
from bridge.core.traffic.doorway import Doorway
from bridge.matrix.namespaces import Namespaces
from bridge.model import Portal, Subscription
from bridge.sdk.events import RemoteChat
from bridge.sdk.ids import InstanceId, RemoteChatId, RoomId, UserId
from tests.core.ground import ALICE, NEAR, Ground
from tests.rigs.trestle import wait_until

FAR, LIST = InstanceId("far"), RoomId("!list")


class Channel:
    """A client that bans, once its network answers."""

    def __init__(self) -> None:
        self.answers = asyncio.Event()
        self.asked: list[RemoteChatId] = []
        self.banned: dict[RemoteChatId, set[str]] = {}

    def seen(self, chat: RemoteChatId) -> Collection[UserId]:
        return ()

    async def find_bans(self, chat: RemoteChat, patterns: Sequence[str]) -> Sequence[str]:
        self.asked.append(chat.id)
        await self.answers.wait()
        return sorted(self.banned.get(chat.id, set()) & set(patterns))

    async def change_bans(self, chat: RemoteChat, add: Sequence[str], lift: Sequence[str]) -> None:
        self.banned.setdefault(chat.id, set()).update(add)


class Lists(Ground):
    """A list that two portals of one network and one of another follow."""

    def __init__(self) -> None:
        super().__init__()
        self.near, self.far = Channel(), Channel()
        self.namespaces = Namespaces(server_name="test.example", networks=[NEAR, FAR])
        house = cast(Any, self.house)
        house.namespaces, house.policies = self.namespaces, InForce()
        house.instances = {
            name: SimpleNamespace(relay=SimpleNamespace(client=client), sessions=())
            for name, client in ((NEAR, self.near), (FAR, self.far))
        }
        self.doors = [
            Doorway(self._portal(number, name), self.house)
            for number, name in ((1, NEAR), (2, NEAR), (3, FAR))
        ]
        portals = SimpleNamespace(all=self.doors)
        self.policies = Policies(self.house, cast(Portals, portals), cast(Any, self))

    def _portal(self, number: int, instance: InstanceId) -> Portal:
        chat = RemoteChatId(f"#{number}")
        return replace(self.portal, id=number, instance=instance, chat=chat)

    async def states(
        self, room: RoomId, kinds: Collection[str]
    ) -> Mapping[tuple[str, str], Mapping[str, Any]]:
        """What the list says."""
        spam = {"entity": "@_trestle_*_spam:test.example", "recommendation": "m.ban"}
        return {("m.policy.rule.user", "spam"): spam}

    # --- what is kept ---

    async def all(self) -> Sequence[Subscription]:
        """Who follows the list."""
        return [
            Subscription(portal=number, room=LIST, by=ALICE, applied=True, agreed=True)
            for number in (1, 2, 3)
        ]

    async def bans(self) -> Sequence[tuple[int, str]]:
        """None are ours yet."""
        return ()

    async def add_bans(self, portal: int, patterns: Sequence[str]) -> None:
        """Keep nothing."""


async def test_a_network_that_does_not_answer_keeps_no_room_waiting_and_no_other_network() -> None:
    ground = Lists()
    house: House = ground.house
    await ground.policies.load()
    assert house.policies.waiting == {1, 2, 3}
    ground.far.answers.set()
    async with asyncio.TaskGroup() as group:
        run = group.create_task(ground.policies.run())
        await wait_until(lambda: bool(ground.far.banned))
        assert not house.policies.waiting
        assert all(house.policies.of(number) for number in (1, 2, 3))
        # Of the one that is silent nothing else is asked meanwhile.
        assert len(ground.near.asked) == 1
        ground.near.answers.set()
        await wait_until(lambda: len(ground.near.banned) == 2)
        run.cancel()
