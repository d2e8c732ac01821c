"""Who may speak in a room is changed where people have not decided otherwise."""

from typing import Any

import pytest

from bridge.matrix.powers import Speaking, change_speaking

BOT = 100


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
