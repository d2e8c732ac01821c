"""A room is read back as far as is needed, and no further."""

import random
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase
from typing import Any

import pytest

from bridge.core.intake.routes import ROUTED
from bridge.matrix.client import HomeserverClient
from bridge.matrix.dates import SAID_AT
from bridge.matrix.history import TYPES, History, Page
from bridge.matrix.intents import MARK
from bridge.sdk.errors import TemporaryFailure
from bridge.sdk.ids import RoomId, UserId
from bridge.sdk.secret import Secret
from tests.rigs.scale import SCALE, chance
from tests.rigs.scripted_homeserver import Answer, Asked, Rule, refuse, scripted_homeserver

BOT, ROOM = UserId("@bot:test.example"), RoomId("!room:test.example")
GHOSTS = [UserId("@_trestle_irc_ann:test.example"), UserId("@_trestle_irc_bob:test.example")]
NOW = datetime(2026, 11, 1, tzinfo=UTC)


def event(number: int) -> dict[str, Any]:
    """The bot's, one each second."""
    at = NOW + timedelta(seconds=number)
    return {
        "event_id": f"$e{number}", "type": "m.room.message", "sender": BOT,
        "content": {MARK: f"t{number}"}, "origin_server_ts": int(at.timestamp() * 1000),
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


async def test_a_homeserver_that_leads_back_to_the_same_page_is_at_the_rooms_beginning() -> None:
    def pages(one: Asked) -> Answer | None:
        if one.parts[-1] != "messages":
            return None
        return Answer(content={"chunk": [event(1)], "start": "s", "end": "0"})

    async with (
        scripted_homeserver() as homeserver,
        HomeserverClient(homeserver.url, Secret("token")) as client,
    ):
        homeserver.rules.append(pages)
        history = History(client, lambda user: user == BOT)
        first = await history.page(ROOM, BOT)
        assert first is not None
        assert first.before == "0"
        last = await history.page(ROOM, BOT, before="0")
        assert last is not None
        assert [one["event_id"] for one in last.events] == ["$e1"]
        assert not last.before


RULES: list[dict[str, Any]] = [
    {"type": "m.room.power_levels", "state_key": "", "content": {}},
    {"type": "m.room.message", "state_key": "", "content": {}},
    {"type": "m.room.redaction", "content": {"reason": "spam"}},
    {"type": "m.reaction", "content": {}},
]
"""What is never told late; the last was taken back."""


class Late:
    """A room of a second for each event, in which much was told late or taken back."""

    def __init__(self, luck: random.Random, *, dates: bool) -> None:
        """``dates``: the homeserver gives an event the time that it is asked to, in half of the
        rooms in whole seconds only."""
        rounds = luck.random() < 0.5
        self.since = luck.randrange(200)
        """The second from which on events are looked for, with the slack before it."""
        self.events = [event(number) for number in range(luck.randrange(200, 300))]
        self.last_sure = -1
        """The newest event whose own time says that it came before."""
        self.left: dict[str, str] = {}
        """What is there of what came since then, by its mark."""
        late, gone = luck.choice((0.0, 0.3, 0.9, 1.0)), luck.choice((0.0, 0.3, 0.9))
        ruled = luck.choice((0.0, 0.0, 0.02))
        for number, one in enumerate(self.events):
            if luck.random() < ruled:
                one.update(luck.choice(RULES))
                if number < self.since:
                    self.last_sure = number
                continue
            is_late, is_gone = luck.random() < late, luck.random() < gone
            if is_late:
                said_at = one["origin_server_ts"] - luck.randrange(1, 10**9)
                one["content"][SAID_AT] = said_at
                if dates:
                    one["origin_server_ts"] = said_at - (said_at % 1000 if rounds else 0)
            elif luck.random() < 0.5:
                one["content"][SAID_AT] = one["origin_server_ts"] - 5
            if is_gone:
                one["content"] = {}
                by, gone_at = luck.choice((BOT, "@mod:test.example")), number + luck.randrange(100)
                because = event(gone_at) | {"sender": by, "type": "m.room.redaction"}
                if luck.random() < 0.1:
                    one["unsigned"] = {"redacted_because": because}
                    if by == BOT and gone_at < self.since:
                        self.last_sure = number
            elif number >= self.since:
                self.left[f"t{number}"] = f"$e{number}"
            elif not (is_late and dates):
                self.last_sure = number

    def pages(self, luck: random.Random) -> Rule:
        """Serve it, the newest first, some at a time."""

        def serve(one: Asked) -> Answer | None:
            if one.parts[-1] != "messages":
                return None
            end = int(one.query.get("from", len(self.events)))
            start = max(0, end - luck.randrange(1, 40))
            chunk = self.events[start:end][::-1]
            return Answer(content={"chunk": chunk} | ({"end": str(start)} if start else {}))

        return serve


@pytest.mark.parametrize("dates", [True, False])
async def test_what_was_told_late_or_taken_back_ends_no_search_whatever_time_it_bears(
    *, dates: bool
) -> None:
    async with (
        scripted_homeserver() as homeserver,
        HomeserverClient(homeserver.url, Secret("token")) as client,
    ):
        history = History(client, lambda user: user == BOT)
        for number in range(20 * SCALE):
            luck = chance(f"late {dates} {number}")
            room = Late(luck, dates=dates)
            homeserver.rules[:] = [room.pages(luck)]
            since = NOW + timedelta(seconds=room.since, minutes=10)
            found = await history.find_ours(ROOM, [BOT], [BOT], since)
            assert found.items() >= room.left.items(), number
            # No further than to what surely came before.
            assert all(int(mark[1:]) > room.last_sure for mark in found), number


@pytest.mark.parametrize(
    ("joined", "read_by"),
    [
        ({"origin_server_ts": event(-1)["origin_server_ts"]}, [BOT]),
        ({"origin_server_ts": event(1)["origin_server_ts"]}, [*GHOSTS, BOT]),
        ({}, [*GHOSTS, BOT]),
        (None, [*GHOSTS, BOT]),
    ],
)
async def test_where_the_bot_was_out_of_the_room_meanwhile_the_others_read_it_too(
    joined: dict[str, Any] | None, read_by: list[UserId]
) -> None:
    read: list[str] = []

    def see(one: Asked) -> Answer | None:
        if one.parts[-1] == "messages":
            read.append(one.user)
            if one.user == GHOSTS[0]:
                return refuse(403, "M_FORBIDDEN")  # It has left, and sees nothing.
            number = [*GHOSTS, BOT].index(UserId(one.user))
            return Answer(content={"chunk": [event(number)]})
        if joined is None:
            return refuse(403, "M_FORBIDDEN")
        assert one.parts[-2:] == ("m.room.member", BOT)
        return Answer(content={"content": {"membership": "join"}} | joined)

    async with (
        scripted_homeserver() as homeserver,
        HomeserverClient(homeserver.url, Secret("token")) as client,
    ):
        homeserver.rules.append(see)
        history = History(client, lambda user: user in {*GHOSTS, BOT})
        since = NOW + timedelta(minutes=10)
        found = await history.find_ours(ROOM, [*GHOSTS, BOT], [], since)
        assert read == read_by
        assert set(found) == ({"t2"} if read_by == [BOT] else {"t1", "t2"})


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
