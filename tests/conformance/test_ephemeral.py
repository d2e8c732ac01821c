"""Lines 94 and 97: what is not an event of a room is kept or dropped by what it is worth."""

from typing import Any

from bridge.matrix.body import parse_transaction
from bridge.model import RowId
from tests.conformance.stage import ALICE, DICE, ROOM, Play, ask


def to_device(number: int) -> dict[str, Any]:
    """A message for a device of the bot's."""
    return {
        "type": "m.room.encrypted", "sender": ALICE, "to_user_id": DICE, "to_device_id": "D",
        "content": {"number": number},
    }  # fmt: skip


async def kept(stage: Play) -> list[int]:
    """The numbers of the messages to devices that the journal holds."""
    parts, numbers = stage.app.parts, []
    for row in await parts.database.core.fetch("SELECT day, seq FROM journal ORDER BY day, seq"):
        landed = await parts.journal.read(RowId(row["day"], row["seq"]))
        assert landed is not None
        for message in parse_transaction(landed.body).to_device:
            numbers.append(message["content"]["number"])
    return numbers


async def test_line_94_messages_to_devices_are_kept_whatever_becomes_of_the_events(
    stage: Play,
) -> None:
    events: list[list[Any]] = [
        [ask("good")], [ask("good")], ["x", None, {"type": 5}], [ask("bad", sender=5)], [],
    ]  # fmt: skip
    for number, of_one in enumerate(events):
        assert await stage.put(*of_one, to_device=[to_device(number)]) == 200
    # A repeated transaction comes without them (Synapse empties it); they are there already.
    assert await stage.put(*events[0], name="1", to_device=[]) == 200
    assert await stage.heard() == ["good"]
    assert await kept(stage) == list(range(len(events)))


async def test_line_97_any_number_of_ephemeral_events_holds_up_no_message(stage: Play) -> None:
    receipt = {"type": "m.receipt", "room_id": ROOM, "content": {"$e": {"m.read": {ALICE: {}}}}}
    odd: list[Any] = [None, 5, "x", {"type": 5}, {"type": "m.novelty"}, {"content": "x"}]
    for number in range(5):
        assert await stage.put(ask(number), ephemeral=[receipt] * 10_000 + odd) == 200
    assert await stage.heard() == [str(number) for number in range(5)]


async def test_line_97_ephemeral_events_alone_are_not_stored(stage: Play) -> None:
    count = "SELECT count(*) FROM journal"
    before = await stage.app.parts.database.core.fetchval(count)
    for _ in range(20):
        assert await stage.put(ephemeral=[{"type": "m.typing", "room_id": ROOM}]) == 200
    assert await stage.app.parts.database.core.fetchval(count) == before
