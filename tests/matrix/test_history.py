"""A room is read back as far as is needed, and no further."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase
from typing import Any

import pytest

from bridge.core.intake.routes import ROUTED
from bridge.matrix.client import HomeserverClient
from bridge.matrix.history import TYPES, History, Page
from bridge.matrix.intents import MARK
from bridge.sdk.errors import TemporaryFailure
from bridge.sdk.ids import RoomId, UserId
from bridge.sdk.secret import Secret
from tests.rigs.scripted_homeserver import Answer, Asked, refuse, scripted_homeserver

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


@pytest.mark.parametrize("answer", [Answer(404), Answer(403), refuse(401, "M_UNKNOWN_TOKEN")])
async def test_that_a_room_cannot_be_read_is_not_that_nothing_is_there(answer: Answer) -> None:
    async with (
        scripted_homeserver() as homeserver,
        HomeserverClient(homeserver.url, Secret("token")) as client,
    ):
        history, rules = History(client, lambda user: user == BOT), homeserver.rules
        rules.append(lambda asked: answer)
        with pytest.raises(TemporaryFailure):
            await history.find_ours(ROOM, [BOT], [BOT], NOW)
        rules[:] = [lambda asked: refuse(403, "M_FORBIDDEN")]
        assert await history.find_ours(ROOM, [BOT], [BOT], NOW) == {}


async def test_behind_a_page_of_which_nothing_is_to_be_seen_the_room_goes_on() -> None:
    async with (
        scripted_homeserver() as homeserver,
        HomeserverClient(homeserver.url, Secret("token")) as client,
    ):
        chunks = {"": "1", "1": "2", "2": "3", "3": "3"}
        homeserver.rules.append(lambda asked: Answer(content={
            "chunk": [event(1)] if asked.query.get("from") == "2" else [], "start": "begin",
            "end": chunks[asked.query.get("from", "")],
        }))  # fmt: skip
        history = History(client, lambda user: user == BOT)
        first = await history.page(ROOM, BOT)
        assert first is not None
        assert ([one["event_id"] for one in first.events], first.before) == (["$e1"], "3")
        assert first.start == "begin"
        assert await history.page(ROOM, BOT, before="3") == Page(events=[], start="begin")


def test_all_that_somebody_may_want_is_looked_for_but_what_may_be_outdated() -> None:
    sought = {kind for kind in ROUTED if any(fnmatchcase(kind, one) for one in TYPES)}
    assert ROUTED - sought == {"m.room.topic", "m.room.power_levels"}
    assert all(any(fnmatchcase(kind, one) for kind in ROUTED) for one in TYPES)
