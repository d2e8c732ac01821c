"""The privacy filter waits for a homeserver that does not answer as it should."""

from typing import cast

import pytest

from bridge.core.consent.privacy import Privacy
from bridge.core.portals.portals import Portals
from bridge.core.traffic.doorway import Doorway
from bridge.sdk.errors import TemporaryFailure
from tests.core.ground import ALICE, Ground


async def test_a_room_is_told_later_when_the_homeserver_does_not_know_us() -> None:
    ground = Ground()
    privacy = Privacy(ground.house, cast(Portals, None))
    door = Doorway(ground.portal, ground.house)
    ground.refusing.add("can")
    with pytest.raises(TemporaryFailure, match="M_UNKNOWN_TOKEN"):
        await privacy._change(door, frozenset({ALICE}))
    assert not door.portal.blocked
    await privacy._change(door, frozenset({ALICE}))
    assert (door.portal.blocked, len(ground.waiting)) == (True, 2)
