"""What several parts change of a portal at the same time is all there in the end."""

import asyncio

from bridge.core.consent.privacy import Privacy
from bridge.core.portals.choices import Wish
from bridge.core.portals.portals import Portals
from bridge.core.traffic.doorway import Doorway
from bridge.model import InstanceRules, Telling, Uncertain
from tests.core.ground import ALICE, Ground


def make() -> tuple[Ground, Portals, Doorway]:
    ground = Ground()
    portals = Portals(ground.house)
    return ground, portals, portals._open(ground.portal)


def wish(door: Doorway) -> Wish:
    return Wish(portal=door.portal, person=ALICE, instance=None, rules=InstanceRules())


async def test_a_choice_undoes_neither_another_nor_what_became_of_the_room() -> None:
    ground, portals, door = make()

    async def pause() -> None:
        await portals.set_paused(door, True, ALICE)

    ground.meanwhile["set_choices"] = pause
    # Both began on the same ground.
    first, second = wish(door), wish(door)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(portals.choose(door, first, {"telling": "reaction"}))
        tasks.create_task(portals.choose(door, second, {"uncertain": "hold"}))
    chosen = {"telling": Telling.REACTION, "uncertain": Uncertain.HOLD}
    assert ground.stored == {"paused": True, **chosen}
    assert {key: getattr(door.portal, key) for key in ground.stored} == ground.stored


async def test_a_room_that_is_held_back_keeps_what_is_chosen_meanwhile() -> None:
    ground, portals, door = make()
    privacy = Privacy(ground.house, portals)

    async def pause() -> None:
        await portals.set_paused(door, True, ALICE)

    ground.meanwhile["set_blocked"] = pause
    await privacy._change(door, frozenset({ALICE}))
    assert (door.portal.blocked, door.portal.paused) == (True, True)
