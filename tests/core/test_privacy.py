"""The privacy filter where the homeserver does not answer as it should, or a network is gone."""

import asyncio
from collections.abc import Collection
from dataclasses import replace
from typing import Any, cast

import pytest

from bridge.core.consent.privacy import Privacy
from bridge.core.portals.portals import Portals
from bridge.core.traffic.doorway import Doorway
from bridge.matrix.client import HomeserverAway
from bridge.sdk.errors import TemporaryFailure
from bridge.sdk.ids import RemoteChatId, UserId
from tests.core.ground import ALICE, NEAR, Ground
from tests.core.instances import Line, at_work, network
from tests.rigs.trestle import wait_until


class Chat:
    """A chat in which nobody is to be seen; its room, which Alice reads."""

    def __init__(self) -> None:
        self.is_connected = True
        self.asked = 0
        self.patience = 0.0
        """For so long the homeserver asks to be left alone."""
        self.nonsense = 0
        """So often it answers nonsense."""
        self.readers = frozenset({ALICE})

    def seen(self, chat: RemoteChatId) -> Collection[UserId] | None:
        return () if self.is_connected else None

    async def people(self) -> frozenset[UserId]:
        self.asked += 1
        if self.nonsense:
            self.nonsense -= 1
            return cast(frozenset[UserId], None)
        if self.patience:
            raise HomeserverAway("it asks for patience", retry_after=self.patience)
        return self.readers


async def test_a_room_is_told_later_when_the_homeserver_does_not_know_us() -> None:
    ground = Ground()
    privacy = Privacy(ground.house, Portals(ground.house))
    door = Doorway(ground.portal, ground.house)
    ground.refusing.add("can")
    with pytest.raises(TemporaryFailure, match="M_UNKNOWN_TOKEN"):
        await privacy._change(door, frozenset({ALICE}))
    assert not door.portal.blocked
    await privacy._change(door, frozenset({ALICE}))
    assert (door.portal.blocked, len(ground.waiting)) == (True, 2)


async def test_a_connection_that_breaks_just_then_is_no_news_of_anybody() -> None:
    ground, chat = Ground(), Chat()
    near = ground.instances[NEAR] = network(NEAR, Line())
    at_work(near, chat)
    privacy = Privacy(ground.house, Portals(ground.house))
    door = Doorway(ground.portal, ground.house)
    cast(Any, door).audience = chat
    async with asyncio.TaskGroup() as group, privacy._changing:  # Another room is being told.
        look = group.create_task(privacy.look(door))
        await wait_until(lambda: chat.asked == 1)
        chat.is_connected = False
    assert look.result() == {ALICE}
    assert not door.portal.blocked
    chat.is_connected = True
    await privacy.look(door)
    assert door.portal.blocked


async def test_a_homeserver_that_asks_for_patience_is_not_asked_each_second_who_reads() -> None:
    ground, chat = Ground(), Chat()
    chat.patience = 60.0
    privacy = Privacy(ground.house, Portals(ground.house))
    door = Doorway(ground.portal, ground.house)
    cast(Any, door).audience = chat
    for _ in range(2):
        assert not await privacy._try_to_look(door)
    assert chat.asked == 1


async def test_what_makes_no_sense_of_one_room_ends_nothing_and_is_asked_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    ground, chat = Ground(), Chat()
    at_work(ground.instances.setdefault(NEAR, network(NEAR, Line())), chat)
    portals = Portals(ground.house)
    privacy = Privacy(ground.house, portals)
    door = portals._open(replace(ground.portal, privacy=True))
    cast(Any, door).audience = chat
    chat.nonsense = 1
    async with asyncio.TaskGroup() as group:
        run = group.create_task(privacy.run())
        await wait_until(lambda: door.portal.blocked, 10)
        run.cancel()
    assert [vars(one)["event"] for one in caplog.records] == ["round_failed"]
