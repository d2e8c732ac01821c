"""Who reads in a room in which many come and go."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, cast

import pytest

from bridge.core.rooms.audience import Audience
from bridge.core.traffic.discretion import may_show
from bridge.matrix.client import HomeserverAway
from bridge.sdk.errors import TemporaryFailure
from bridge.sdk.events import MessageKind, RemoteMessage, RemoteTyping, RemoteUser
from bridge.sdk.ids import LoginId, RemoteMessageId, RemoteUserId, RoomId, UserId
from bridge.sdk.rich import Rich
from tests.core.ground import Ground

ROOM, BOT, ALICE = RoomId("!room"), UserId("@_trestle_bot:hs"), UserId("@alice:hs")


class Busy:
    """A room into which somebody comes while it is asked who is there."""

    def __init__(self, whom: Callable[[int], str]) -> None:
        self.asked = 0
        self.whom = whom
        self.audience = Audience(
            ROOM, cast(Any, self), BOT, lambda user: user.startswith("@_trestle_")
        )

    async def joined_members(self, room: RoomId) -> Mapping[UserId, str]:
        self.asked += 1
        coming = {"state_key": self.whom(self.asked), "content": {"membership": "join"}}
        self.audience.note(coming)
        return {BOT: "", ALICE: ""}


async def test_ghosts_that_come_by_the_hundred_have_nobody_asked_again() -> None:
    busy = Busy(lambda number: f"@_trestle_near_{number}:hs")
    assert await busy.audience.people() == {ALICE}
    assert busy.asked == 1


async def test_where_people_come_all_the_time_it_is_asked_a_few_times_and_tried_later() -> None:
    busy = Busy(lambda number: f"@guest{number}:hs")
    with pytest.raises(TemporaryFailure, match="all the time") as raised:
        await busy.audience.people()
    assert busy.asked == 10
    # It answers, and is not to be taken for one that is away.
    assert not isinstance(raised.value, HomeserverAway)


async def test_for_what_is_said_to_one_alone_a_busy_room_is_as_one_that_is_not_known() -> None:
    busy, ground = Busy(lambda number: f"@guest{number}:hs"), Ground()
    ground.house.is_encrypted = lambda room: False
    portal = replace(ground.portal, receiver=LoginId(1), created_by=ALICE)
    dora = RemoteUser(id=RemoteUserId("dora"), name="Dora")
    said = RemoteMessage(
        chat=portal.chat, id=RemoteMessageId("1"), sender=dora, kind=MessageKind.TEXT,
        body=Rich.plain("hello"), at=ground.house.clock.now(),
    )  # fmt: skip
    with pytest.raises(HomeserverAway, match="all the time"):
        await may_show(said, portal, busy.audience, ground.house)
    typing = RemoteTyping(chat=portal.chat, user=dora, is_typing=True)
    assert not await may_show(typing, portal, busy.audience, ground.house)
