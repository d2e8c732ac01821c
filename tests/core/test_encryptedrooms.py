"""The ends of bridges whose rooms were made encrypted, where something fails."""

import asyncio
from typing import Any, cast

import pytest

from bridge.core.portals.encryptedrooms import EncryptedRooms
from bridge.core.portals.portals import Portals
from bridge.sdk.ids import RoomId
from tests.core.ground import ROOM, Ground
from tests.rigs.trestle import wait_until


class Noted:
    """A room that was noted as encrypted and is not; the first answer to that makes no sense."""

    def __init__(self) -> None:
        self.asked = 0
        self.times: list[float] = []

    def is_known(self, room: RoomId) -> bool:
        return self.asked < 2

    async def check(self, room: RoomId) -> bool:
        self.asked += 1
        self.times.append(asyncio.get_running_loop().time())
        if self.asked == 1:
            raise KeyError("what is not there")
        return False


async def test_what_nobody_foresaw_of_one_room_ends_nothing_and_is_tried_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    ground, noted, nothing = Ground(), Noted(), cast(Any, None)
    portals = Portals(ground.house)
    door = portals._open(ground.portal)
    rooms = EncryptedRooms(ground.house, portals, nothing, nothing, cast(Any, noted))
    rooms.pauses = (0.01, 0.01)
    async with asyncio.TaskGroup() as group:
        run = group.create_task(rooms.run())
        await wait_until(lambda: noted.asked == 2)
        run.cancel()
    assert noted.times[1] - noted.times[0] > 0.9
    failed, clear = caplog.records
    assert (vars(failed)["event"], vars(failed)["part"]) == ("round_failed", f"look 1 {ROOM}")
    assert vars(clear)["event"] == "not_encrypted"
    assert door.ends_in is None
