"""What several parts change of a portal at the same time is all there in the end."""

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from bridge.core.consent.privacy import Privacy
from bridge.core.portals.choices import Wish, change_all, describe
from bridge.core.portals.portals import Portals
from bridge.core.traffic.doorway import Doorway
from bridge.matrix.client import HomeserverAway
from bridge.model import InstanceRules, Members, Telling, Uncertain
from bridge.sdk.errors import PermanentFailure
from bridge.sdk.ids import InstanceId, LoginId, RemoteUserId
from bridge.settings.records import DatabaseSettings
from tests.conformance.stage import play
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


async def test_a_choice_that_met_no_homeserver_is_made_good_when_it_is_said_again() -> None:
    ground, portals, door = make()
    ground.members = {ground.namespaces.ghost(ground.portal.instance, RemoteUserId("carl"))}
    ground.is_away = True
    with pytest.raises(HomeserverAway):
        await portals.choose(door, wish(door), {"members": "none"})
    ground.is_away = False
    await portals.choose(door, wish(door), {"members": "none"})
    attendance = door.arrivals.attendance
    while attendance.waiting:
        await attendance.admit(2)
        ground.arrive()
    assert not ground.members


async def test_a_room_that_is_held_back_keeps_what_is_chosen_meanwhile() -> None:
    ground, portals, door = make()
    privacy = Privacy(ground.house, portals)

    async def pause() -> None:
        await portals.set_paused(door, True, ALICE)

    ground.meanwhile["set_blocked"] = pause
    await privacy._change(door, frozenset({ALICE}))
    assert (door.portal.blocked, door.portal.paused) == (True, True)


async def test_what_is_default_is_shown_as_it_holds_for_the_room(
    database_settings: DatabaseSettings, folder: Path
) -> None:
    modules = {"near": ("irc", {"servers": [{"host": "127.0.0.1", "port": 9}]})}
    rules, portal = InstanceRules(members=Members.FULL, privacy=True), Ground().portal
    async with play(database_settings, folder, modules=modules) as stage:
        instance = stage.app.parts.instances[InstanceId("near")]
        many = Wish(portal=portal, person=ALICE, instance=instance, rules=rules)
        shown = describe(many)
        assert "members: default, here full (" in shown
        assert "privacy: default, here on (" in shown
        assert "puppets: default, here automatic (" in shown
        shown = describe(replace(many, portal=replace(portal, receiver=LoginId(1))))
        assert "members: default, here speakers (" in shown
        assert "privacy: default, here off (" in shown
        direct = replace(many, portal=replace(portal, receiver=LoginId(1), members=Members.FULL))
        assert "members: default, here speakers (whom it is with is shown" in describe(direct)
    # Of a network that is switched off nothing is said.
    assert ", here" not in describe(replace(many, instance=None))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("members", "full"),
        ("members", "none"),
        ("privacy", "on"),
        ("puppets", "login"),
        ("relay", "mine"),
        ("relay_name", "{user}"),
        ("relay_name", "bot"),
    ],
)
def test_what_changes_nothing_in_a_direct_chat_is_not_taken_there(key: str, value: str) -> None:
    direct = replace(Ground().portal, receiver=LoginId(1))
    said = Wish(portal=direct, person=ALICE, instance=None, rules=InstanceRules())
    with pytest.raises(PermanentFailure, match="that changes nothing in a direct chat: "):
        change_all({key: value}, said)


def test_what_is_so_in_a_direct_chat_anyway_is_taken_there() -> None:
    direct = replace(Ground().portal, receiver=LoginId(1), members=Members.FULL)
    said = Wish(portal=direct, person=ALICE, instance=None, rules=InstanceRules())
    for members in ("full", "speakers"):  # As it was left by an earlier version, too.
        change_all({"members": members}, said)
    as_is = {"members": "default", "privacy": "off", "relay": "bot", "follow": "topic"}
    assert change_all(as_is, said).members is None
