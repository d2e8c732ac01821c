"""A room is read back as far as is needed, and no further."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from bridge.matrix.client import HomeserverClient
from bridge.matrix.history import History
from bridge.matrix.intents import MARK
from bridge.sdk.ids import RoomId, UserId
from bridge.sdk.secret import Secret
from tests.rigs.scripted_homeserver import Answer, Asked, scripted_homeserver

BOT, ROOM = UserId("@bot:test.example"), RoomId("!room:test.example")
NOW = datetime(2026, 11, 1, tzinfo=UTC)


def event(number: int) -> dict[str, Any]:
    """The bot's, one each second."""
    at = NOW + timedelta(seconds=number)
    return {
        "event_id": f"$e{number}", "sender": BOT, "content": {MARK: f"t{number}"},
        "origin_server_ts": int(at.timestamp() * 1000),
    }  # fmt: skip


async def test_it_is_read_to_what_was_answered_before_all_that_waits_or_to_its_time() -> None:
    asked: list[str] = []

    def pages(one: Asked) -> Answer | None:
        if one.parts[-1] != "messages":
            return None
        end = int(one.query.get("from", "5000"))
        asked.append(str(end))
        chunk = [event(number) for number in range(end - 1, end - 101, -1)]
        return Answer(content={"chunk": chunk, "end": str(end - 100)})

    async def were_sent(ids: Sequence[str]) -> bool:
        return "t4750" in ids

    async with (
        scripted_homeserver() as homeserver,
        HomeserverClient(homeserver.url, Secret("token")) as client,
    ):
        homeserver.rules.append(pages)
        history = History(client, lambda user: user == BOT)
        since = NOW + timedelta(seconds=4755)
        found = await history.find_ours(ROOM, [BOT], [BOT], since, were_sent)
        assert found["t4999"] == "$e4999"
        assert "t4755" in found
        assert asked == ["5000", "4900", "4800"]
        # Where nothing was answered before, the time tells.
        asked.clear()
        found = await history.find_ours(ROOM, [BOT], [BOT], since)
        assert "t4755" in found
        assert len(asked) == 9
