"""Whom a room's version sets above all its levels, and whom nobody but they themselves."""

from typing import Any

import pytest

from bridge.matrix.client import HomeserverClient
from bridge.matrix.rooms import RoomQuestions
from bridge.matrix.standing import Standing
from bridge.sdk.ids import RoomId, UserId
from bridge.sdk.secret import Secret
from tests.rigs.scripted_homeserver import Answer, Asked, refuse, scripted_homeserver

BOT, ROOM = UserId("@bot:test.example"), RoomId("!room:test.example")
ALICE, EVE = UserId("@alice:test.example"), UserId("@eve:test.example")


async def powers(creation: dict[str, Any], levels: dict[str, Any]) -> list[bool]:
    """Whether Alice, who made the room, and Eve, whom it names, may do what takes power."""

    def state(asked: Asked) -> Answer | None:
        match asked.parts:
            case ("rooms", _, "state", "m.room.power_levels", *_):
                return Answer(content=levels)
            case ("rooms", _, "state", "m.room.create", *_):
                event = {"type": "m.room.create", "sender": ALICE, "content": creation}
                return Answer(content=event if "format" in asked.query else creation)
        return refuse(404, "M_NOT_FOUND")

    async with (
        scripted_homeserver() as homeserver,
        HomeserverClient(homeserver.url, Secret("token")) as client,
    ):
        homeserver.rules.append(state)
        rooms = RoomQuestions(client, BOT)
        found = [await rooms.can(ROOM, user, "ban") for user in (ALICE, EVE)]
        named = await rooms.who_can(ROOM, "ban")
        assert [user in named for user in (ALICE, EVE)] == found
        return found


@pytest.mark.parametrize(
    "version",
    [None, "1", "11", "org.matrix.msc3757.10", "org.matrix.msc3757.11", "²", "fancy", "", 5, [12]],
)
async def test_who_made_a_room_and_was_demoted_has_no_power_in_it(version: object) -> None:
    creation = {"room_version": version, "additional_creators": [EVE]}
    if version is None:
        del creation["room_version"]
    assert await powers(creation, {"users": {ALICE: 0}}) == [False, False]


@pytest.mark.parametrize(
    "version", ["12", "13", "100", "org.matrix.hydra.11", "org.matrix.msc4242.12"]
)
async def test_a_version_that_privileges_creators_sets_them_above_all_levels(version: str) -> None:
    creation = {"room_version": version, "additional_creators": [EVE]}
    assert await powers(creation, {"users": {}}) == [True, True]


@pytest.mark.parametrize("named", [[{"user": EVE}, 5, None, [EVE]], EVE, {EVE: 1}, None])
async def test_what_is_no_list_of_texts_names_no_creators(named: object) -> None:
    creation = {"room_version": "12", "additional_creators": named}
    assert await powers(creation, {"users": {}}) == [True, False]


@pytest.mark.parametrize("level", ["--100", "\u00b2", "1" * 5000, "", "-", None, True, [100]])
async def test_a_level_that_is_no_number_gives_nobody_power(level: object) -> None:
    assert await powers({"room_version": "9"}, {"users": {ALICE: level}}) == [False, False]
    found = await powers({"room_version": "9"}, {"users": {ALICE: 100}, "ban": level})
    assert found == [True, False]


@pytest.mark.parametrize("level", [100, "100", " 100 "])
async def test_an_old_rooms_level_may_be_a_text(level: object) -> None:
    assert await powers({"room_version": "9"}, {"users": {ALICE: level}}) == [True, False]


async def test_levels_that_name_nobody_leave_whoever_made_the_room_without_power() -> None:
    assert await powers({"room_version": "9"}, {}) == [False, False]


def test_in_a_room_of_which_nothing_is_seen_nobody_has_power() -> None:
    unseen = Standing(None, None)
    assert not unseen.named
    assert not unseen.may(ALICE, "ban")
    assert not unseen.may("", "ban")
