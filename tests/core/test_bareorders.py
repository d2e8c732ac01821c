"""A secret that is said without the bot's name before it, where the bot told how it is said."""

from dataclasses import replace

import pytest

from bridge.core.host.bareorders import BareOrders
from bridge.core.traffic.bothsides import say_here
from bridge.core.traffic.telling import tell
from bridge.model import Telling
from bridge.sdk.ids import RoomId
from tests.core import ground as around
from tests.core.ground import changed

ROOM, OTHER = RoomId("!room"), RoomId("!other")
TOLD = "#den cannot be joined: it needs a key. Say it: !trestle key <key>"


def told(seconds: float = 60) -> BareOrders:
    bare = BareOrders(seconds=seconds)
    bare.secrets = lambda: {"key", "near key"}
    bare.note(ROOM, TOLD)
    return bare


def text(body: str) -> dict[str, object]:
    return {"msgtype": "m.text", "body": body}


@pytest.mark.parametrize(
    ("said", "is_one"),
    [
        ("key sesame", True), (" KEY  sesame ", True), ("Near key sesame", True),
        ("`key sesame`", True), ("key", False), ("", False), ("key lime pie", False),
        ("the key sesame", False), ("keys sesame", False), ("sesame", False),
    ],
)  # fmt: skip
def test_it_is_the_command_and_one_word_alone(said: str, is_one: bool) -> None:
    assert told().holds(ROOM, text(said)) is is_one


def test_what_a_message_is_changed_to_counts_too() -> None:
    assert told().holds(ROOM, text("* key sesame") | {"m.new_content": text("key sesame")})


def test_it_is_looked_for_only_where_it_was_told_how_and_only_for_a_while() -> None:
    bare, said = told(), text("key sesame")
    assert not bare.holds(OTHER, said)
    bare.note(OTHER, "!trestle near key [key|off] — keep the key")
    assert not bare.holds(OTHER, said)
    assert not told(seconds=0).holds(ROOM, said)


@pytest.mark.parametrize("how", list(Telling))
async def test_it_is_looked_for_wherever_a_portal_told_it(how: Telling) -> None:
    ground = around.Ground()
    house = ground.house
    house.bare_orders.secrets = lambda: {"key"}
    item = changed(0, "m.room.message", text("hello"))
    await tell(house, replace(ground.portal, telling=how), item, "parked", TOLD)
    assert house.bare_orders.holds(around.ROOM, text("key sesame")) is (how is Telling.NOTICE)
    said = say_here(house, OTHER, TOLD)
    assert said.content["body"] == TOLD
    assert house.bare_orders.holds(OTHER, text("key sesame"))
