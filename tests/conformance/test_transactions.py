"""Lines 20 to 46 where the whole program decides: what reaches a module, once and in order."""

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import orjson
import pytest

from bridge.demo.matrix_user import PATIENCE
from bridge.model import ParkReason
from bridge.settings.records import DatabaseSettings
from bridge.storage.shelf import Parked
from tests.conformance.stage import DICE, Play, ask, settings_for
from tests.rigs.scripted_homeserver import scripted_homeserver
from tests.rigs.trestle import running

CANARY = "what nobody may read in a log"


async def test_line_20_three_events_reach_the_module_in_order(stage: Play) -> None:
    assert await stage.put(*map(ask, "abc")) == 200
    assert await stage.heard() == ["a", "b", "c"]


async def test_line_21_the_same_transaction_again_runs_nothing_new(stage: Play) -> None:
    for _ in range(3):
        assert await stage.put(ask("once"), name="7") == 200
    assert await stage.heard() == ["once"]


async def test_line_23_another_body_under_the_same_id_is_read(stage: Play) -> None:
    assert await stage.put(ask("first"), name="7") == 200
    assert await stage.put(ask("first"), ask("second"), name="7") == 200
    assert await stage.heard() == ["first", "second"]


async def test_line_24_an_event_in_another_transaction_is_the_same_event(stage: Play) -> None:
    assert await stage.put(ask("once"), name="7") == 200
    assert await stage.put(ask("once"), ask("new"), ask("new"), name="8") == 200
    assert await stage.heard() == ["once", "new"]


async def test_line_25_a_lower_transaction_id_is_no_reason_to_drop_its_events(stage: Play) -> None:
    for name in ("1000", "999", "1", "a"):
        assert await stage.put(ask(f"of {name}"), name=name) == 200
    assert await stage.heard() == ["of 1000", "of 999", "of 1", "of a"]


async def test_line_21_what_was_handled_is_known_after_a_restart(
    database_settings: DatabaseSettings, folder: Path
) -> None:
    async with scripted_homeserver() as homeserver:
        settings = settings_for(homeserver, database_settings, folder)
        for _ in range(2):
            homeserver.asked.clear()
            async with running(settings) as app:
                await homeserver.wait_until_greeted()
                stage = Play(homeserver, settings, app)
                assert await stage.put(ask("once"), name="7") == 200
                assert await stage.heard() == ["once"]


async def test_line_22_two_copies_that_arrive_side_by_side_are_one(stage: Play) -> None:
    body = orjson.dumps({"events": [ask("once"), ask("twice")]})
    half_there, go_on = asyncio.Barrier(3), asyncio.Event()

    async def trickle() -> AsyncIterator[bytes]:
        yield body[:40]
        await half_there.wait()
        await go_on.wait()
        yield body[40:]

    async with asyncio.TaskGroup() as group:
        copies = [group.create_task(_stream(stage, "7", trickle())) for _ in range(2)]
        await half_there.wait()
        go_on.set()
    assert [copy.result() for copy in copies] == [200, 200]
    assert await stage.heard() == ["once", "twice"]


async def _stream(stage: Play, name: str, body: AsyncIterator[bytes]) -> int:
    path = f"/_matrix/app/v1/transactions/{name}"
    async with stage.homeserver.request(stage.settings, "PUT", path, body) as response:
        return response.status


BAD: dict[str, Any] = {
    "a text": "x",
    "null": None,
    "unsigned is a list": {"unsigned": [CANARY]},
    "no type": {"type": None},
    "content is a number": {"content": 5},
    "content is missing": {"content": None},
    "the time is a text": {"origin_server_ts": CANARY},
    "the sender is an object": {"sender": {CANARY: 1}},
    "the room is a number": {"room_id": 1},
    "the state key is a list": {"state_key": [CANARY]},
    "a line break in its id": {"event_id": f"$a\n{CANARY}"},
    "a list": [CANARY],
    "a number": 1e300,
}
"""Elements that are no events: what they are, or what makes a good event a bad one."""


async def test_line_34_a_bad_element_costs_no_neighbour_and_is_kept(
    stage: Play, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    events: list[Any] = [ask("first")]
    for name, bad in BAD.items():
        marked = {"content": {"msgtype": "m.text", "body": CANARY}}
        broken = ask(f"bad {name}", **{**marked, **bad}) if isinstance(bad, dict) else bad
        events += [broken, ask(f"after {name}")]
    assert await stage.put(*events) == 200
    assert await stage.heard() == ["first", *(f"after {name}" for name in BAD)]
    parked = await _parked(stage, len(BAD))
    assert {item.reason for item in parked} == {ParkReason.MALFORMED}
    assert sorted(item.key[2] for item in parked) == list(range(1, 2 * len(BAD), 2))
    assert CANARY not in caplog.text


async def _parked(stage: Play, count: int) -> Sequence[Parked]:
    async with asyncio.timeout(PATIENCE):
        while len(parked := await stage.app.parts.aside.all()) < count:
            await asyncio.sleep(0.02)
    return parked


async def test_line_41_the_state_key_decides_what_is_state_and_not_the_type(stage: Play) -> None:
    state = [ask("with an empty key", state_key=""), ask("with a key", state_key="x")]
    kicked: dict[str, Any] = {"type": "m.room.member", "content": {"membership": "leave"}}
    no_state = ask("x", event_id="$no-state", **kicked)  # Without a key it removes nobody.
    assert await stage.put(*state, no_state, ask("a message")) == 200
    assert await stage.heard() == ["a message"]


async def test_line_42_what_homeservers_do_with_unsigned_and_old_content_is_no_error(
    stage: Play,
) -> None:
    room, stripped = "!new:test.example", {"type": "m.room.name", "content": {"name": "x"}}
    invitation = {
        **ask("x", room), "type": "m.room.member", "state_key": DICE,
        "content": {"membership": "invite"},
    }  # fmt: skip
    odd: list[dict[str, Any]] = [
        {"unsigned": None},
        {"unsigned": {"prev_content": {"membership": "join"}}},
        {"prev_content": {"membership": "join"}},
        {"prev_content": None, "unsigned": {"invite_room_state": None}},
        {"invite_room_state": [stripped, None, "x"]},
    ]
    events = [
        {**invitation, "event_id": f"$invites{number}", **one} for number, one in enumerate(odd)
    ]
    assert await stage.put(*events, *(ask(n, **one) for n, one in enumerate(odd))) == 200
    await stage.homeserver.wait_until(lambda: DICE in stage.homeserver.rooms.get(room, ()))
    assert await stage.heard() == [str(number) for number in range(len(odd))]
    assert await stage.app.parts.items.count_parked() == {}


async def test_line_43_a_room_id_needs_no_server_part(stage: Play) -> None:
    def is_in(room: str) -> bool:
        return DICE in stage.homeserver.rooms.get(room, ())

    invitation: dict[str, Any] = {"type": "m.room.member", "content": {"membership": "invite"}}
    for room in ("!31hneApxJ_1o-63DmFrpeqnkFfWppnzWso1JvH3ogLM", "!", "!a:b:c"):
        assert await stage.put(ask("x", room, state_key=DICE, **invitation)) == 200
        await stage.homeserver.wait_until(partial(is_in, room))
        assert await stage.put(ask("here", room)) == 200
        assert await stage.heard(room) == ["here"]
