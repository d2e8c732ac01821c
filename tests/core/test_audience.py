"""Who reads in a room in which many come and go."""

from collections.abc import Callable, Mapping
from typing import Any, cast

import pytest

from bridge.core.rooms.audience import Audience
from bridge.matrix.client import HomeserverAway
from bridge.sdk.ids import RoomId, UserId

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
    with pytest.raises(HomeserverAway, match="all the time"):
        await busy.audience.people()
    assert busy.asked == 10
