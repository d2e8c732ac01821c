"""What a bot hears of a room: what is surely not for it does not go through its lane."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from bridge.core.lanes.lane import Item
from bridge.core.lanes.progress import Row
from bridge.model import Outcome, RowId
from bridge.running.parts import Parts
from bridge.sdk.ids import InstanceId, RoomId, UserId
from bridge.settings.records import DatabaseSettings
from tests.conformance.stage import play

SHARED, ALONE = RoomId("!shared:test.example"), RoomId("!alone:test.example")
DICE = RoomId("!dice:test.example")
ANN = UserId("@ann:test.example")
IRC = {"servers": [{"host": "127.0.0.1", "port": 9}]}
EDIT = {"m.relates_to": {"rel_type": "m.replace", "event_id": "$0"}}
ANSWER = {"m.relates_to": {"m.in_reply_to": {"event_id": "$0"}}}


def event(room: RoomId, kind: str = "m.room.message", **content: Any) -> dict[str, Any]:
    return {"type": kind, "event_id": "$1", "room_id": room, "sender": ANN, "content": content}


@pytest_asyncio.fixture
async def parts(database_settings: DatabaseSettings, folder: Path) -> AsyncIterator[Parts]:
    """Of a bridge whose main bot is in a room of several people, and in a direct chat."""
    async with play(
        database_settings, folder, modules={"net": ("irc", IRC), "dice": ("dice", {})}
    ) as stage:
        parts = stage.app.parts
        parts.seat(parts.namespaces.bot, SHARED, None)
        parts.seat(parts.namespaces.bot, ALONE, ANN)
        parts.seat(parts.namespaces.bot_of(InstanceId("dice")), DICE, None)
        yield parts


@pytest.mark.parametrize(
    ("content", "is_wanted"),
    [
        ({"body": "good morning"}, False),
        ({"body": "the bot is called by !trestle"}, True),
        ({"body": "!trestle help"}, True),
        ({"body": "> <@bob:test.example> hi\n\n!trestle help", **ANSWER}, True),
        ({"body": "* anything", "m.new_content": {"body": "!trestle help"}, **EDIT}, True),
        ({"body": 5}, False),
        ({}, False),
    ],
)
async def test_of_what_people_say_to_each_other_the_main_bot_hears_what_may_be_an_order(
    parts: Parts, content: dict[str, Any], is_wanted: bool
) -> None:
    assert bool(parts.routes(event(SHARED, **content))) is is_wanted
    is_message = isinstance(content.get("body"), str)
    assert bool(parts.routes(event(ALONE, **content))) is is_message


async def test_it_hears_of_encryption_but_of_no_sticker(parts: Parts) -> None:
    assert parts.routes(event(SHARED, "m.room.encrypted"))
    for kind in ("m.sticker", "m.reaction"):
        assert not parts.routes(event(ALONE, kind, body="!trestle help"))


async def test_where_it_told_how_a_secret_is_said_it_hears_one_without_its_name(
    parts: Parts,
) -> None:
    secret = event(SHARED, body="key sesame")
    assert not parts.routes(secret)
    parts.main_bot.bare_orders.note(SHARED, "Say !trestle net key <key>.")
    assert parts.routes(secret)
    assert not parts.routes(event(SHARED, body="good morning"))


async def test_it_hears_whatever_is_said_while_it_has_not_obeyed_what_was_said_before(
    parts: Parts,
) -> None:
    order, remark = event(SHARED, body="!trestle help"), event(SHARED, body="good morning")
    (lane,) = parts.routes(order)
    row = Row(RowId(parts.database.clock.now().date(), 1), 2, landed_at=0.0)
    parts.router.push(lane, row, 0, order)
    assert list(parts.routes(remark)) == [lane]


async def test_what_was_said_before_may_lie_in_the_journal_alone(parts: Parts) -> None:
    order, remark = event(SHARED, body="!trestle help"), event(SHARED, body="good morning")
    (lane,) = parts.routes(order)
    row = Row(RowId(parts.database.clock.now().date(), 1), 1, landed_at=0.0)
    lane.beyond.append((row, 0))
    assert not lane.queue
    assert list(parts.routes(remark)) == [lane]
    lane.beyond.clear()


@pytest.mark.parametrize(
    ("room", "remark"),
    [
        (DICE, event(DICE, body="good morning")),
        (DICE, event(DICE, "m.sticker", body="!roll")),
        (SHARED, event(SHARED, body="good morning")),
        (SHARED, event(SHARED, body=["!trestle help"])),
        (SHARED, event(SHARED, "m.reaction")),
        (ALONE, event(ALONE, body=5)),
        (ALONE, event(ALONE, "m.sticker", body="!trestle help")),
    ],
)
async def test_what_it_does_not_want_it_does_not_hear_though_it_waited_in_the_lane(
    parts: Parts, room: RoomId, remark: dict[str, Any]
) -> None:
    (lane,) = parts.routes(event(room, body="!trestle help"))
    row = Row(RowId(parts.database.clock.now().date(), 1), 1, landed_at=0.0)
    item = Item(row, 0, remark, lane)
    await lane.consumer.handle(item)
    assert item.outcome is Outcome.DROPPED
