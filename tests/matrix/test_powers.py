"""Who may speak in a room is changed where people have not decided otherwise."""

from collections.abc import Callable
from typing import Any

import pytest

from bridge.matrix.client import HomeserverClient
from bridge.matrix.namespaces import Namespaces
from bridge.matrix.powers import Powers, Speaking, change_speaking
from bridge.matrix.rooms import RoomQuestions
from bridge.sdk.ids import InstanceId, RoomId
from bridge.sdk.secret import Secret
from tests.rigs.scripted_homeserver import Answer, Asked, refuse, scripted_homeserver

BOT = 100
ROOM = RoomId("!room:test.example")
GHOSTS = ("_trestle_irc_carl", "_trestle_irc_dora")


def changed(levels: dict[str, Any], is_limited: bool | None, **voices: bool) -> dict[str, Any]:
    wanted = Speaking(level=1, is_limited=is_limited, voices=voices)
    found = change_speaking({"users": {}, **levels}, wanted, BOT, {"creator"})
    return {name: value for name, value in found.items() if value != {}}


@pytest.mark.parametrize(
    ("before", "is_limited", "after"),
    [
        ({}, True, {"events_default": 1}),
        ({"events_default": 0}, True, {"events_default": 1}),
        ({"events_default": "0"}, True, {"events_default": 1}),
        ({"events_default": 1}, False, {"events_default": 0}),
        ({"events_default": 1}, None, {"events_default": 1}),
        # Those are people's own.
        ({"events_default": 50}, True, {"events_default": 50}),
        ({"events_default": 50}, False, {"events_default": 50}),
        ({"events_default": -1}, True, {"events_default": -1}),
        ({"events_default": None}, True, {"events_default": None}),
        ({}, False, {}),
    ],
)
def test_what_speaking_takes_is_ours_only_where_it_stands_as_we_would_have_it(
    before: dict[str, Any], is_limited: bool | None, after: dict[str, Any]
) -> None:
    assert changed(before, is_limited) == after


def test_a_voice_is_given_to_whom_it_lifts_and_taken_from_who_has_just_that() -> None:
    there = {"low": -1, "one": 1, "mod": 50, "bot": 100, "text": "50"}
    users = changed({"users": there}, None, low=True, new=True, mod=True, bot=True,
                    text=True, creator=True)["users"]  # fmt: skip
    assert users == {**there, "low": 1, "new": 1}
    users = changed({"users": there}, None, low=False, one=False, mod=False, new=False)["users"]
    assert users == {"low": -1, "mod": 50, "bot": 100, "text": "50"}
    # Where everybody stands there, it is nobody's own.
    high = {"users_default": 1, "users": {"one": 1}}
    assert changed(high, None, one=False, new=True) == high


async def given(levels: dict[str, Any], wanted: dict[str, int]) -> dict[str, Any] | None:
    """The levels that the homeserver is given, None if it is given none."""
    namespaces = Namespaces(server_name="test.example", networks=[InstanceId("irc")])
    bot, place = namespaces.bot, ("rooms", ROOM, "state", "m.room.power_levels", "")

    def read(asked: Asked) -> Answer | None:
        if asked.method != "GET" or asked.parts[:3] != place[:3]:
            return None
        return Answer(content=levels) if asked.parts[3] == place[3] else refuse(404, "M_NOT_FOUND")

    async with (
        scripted_homeserver() as homeserver,
        HomeserverClient(homeserver.url, Secret("token")) as client,
    ):
        homeserver.rules.append(read)
        powers = Powers(client, RoomQuestions(client, bot), namespaces)
        await powers.change(ROOM, bot, wanted, "irc")
        put = homeserver.of("PUT", *place)
        return put[0].content if put else None


@pytest.mark.parametrize("form", [int, str])
async def test_levels_are_given_and_taken_also_where_a_room_has_them_as_texts(
    form: Callable[[int], object],
) -> None:
    bot, carl, dora = (f"@{name}:test.example" for name in ("trestle", *GHOSTS))
    before = {bot: form(100), carl: form(0), dora: form(50)}
    levels = {"users": before, "users_default": form(10)}
    after = {bot: form(100), carl: 50}
    assert await given(levels, {carl: 50}) == {**levels, "users": after}
    assert await given({**levels, "users": after}, {carl: 50}) is None
