"""However many names, rooms, types and words strangers bring, ``/metrics`` grows by nothing."""

import re
from typing import Any

import aiohttp

from tests.admin.watcher import Watcher
from tests.conformance.stage import ROOM, Play, ask
from tests.deploy.tools import run

EVENTS = 20_000
"""Each with five strings of its own: event, room, sender, kind and words."""

AT_ONCE = 1000
DOORS = 5
"""Strings for each of the doors that are not events: tokens, paths, names that are asked for."""


def strange(number: int) -> dict[str, Any]:
    """An event each of whose strings nobody has seen before."""
    kinds = ("m.room.message", f"x.type{number}", "m.room.member", "m.reaction")
    event: dict[str, Any] = {
        "type": kinds[number % 4], "event_id": f"$event{number}", "room_id": f"!room{number}",
        "sender": f"@sender{number}:server{number}.example", "origin_server_ts": number,
        "content": {"msgtype": f"m.kind{number}", "body": f"word{number}", "membership": "join"},
    }  # fmt: skip
    if number % 4 == 2:
        event["state_key"] = event["sender"]
    if number % 100 == 0:  # Some reach a bot.
        event |= {"type": "m.room.message", "room_id": ROOM}
    return event


async def knock(play: Play, number: int) -> None:
    """Ask the listener by other strings than those of events."""
    receiver = f"http://{play.settings.appservice.listen}/_matrix/app/v1"
    token = {"Authorization": f"Bearer {play.settings.appservice.hs_tokens[0].reveal()}"}
    async with aiohttp.ClientSession() as session:
        for path, headers, status in (
            (f"transactions/t{number}", {"Authorization": f"Bearer wrong{number}"}, 403),
            (f"users/@_trestle_libera_nick{number}:test.example", token, 404),
            (f"rooms/%23_trestle_libera_chat{number}:test.example", token, 404),
            (f"thirdparty/user/irc{number}?nick=n{number}", token, 404),
            (f"nowhere{number}", token, 404),
        ):
            async with session.get(f"{receiver}/{path}", headers=headers) as answer:
                assert answer.status == status, path


async def test_a_hundred_thousand_strings_make_no_series(watched: tuple[Play, Watcher]) -> None:
    play, watcher = watched
    assert await play.put(ask("tea"), name="first") == 200
    assert await play.heard() == ["tea"]
    before = set(await watcher.values())
    for first in range(0, EVENTS, AT_ONCE):
        events = [strange(number) for number in range(first, first + AT_ONCE)]
        assert await play.put(*events, name=f"strangers{first}") == 200
    for number in range(DOORS):
        await knock(play, number)
    assert await play.heard() == ["tea"]
    values = await watcher.values()
    assert set(values) == before
    counted = sum(
        value for (name, labels), value in values.items()
        if name == "trestle_events_total" and ("source", "transaction") in labels
    )  # fmt: skip
    assert counted >= EVENTS
    text = (await watcher.ask("/metrics"))[1]
    strangers = ("sender3", "server7.example", "room100", "type5", "kind7", "word100", "event7")
    assert not any(word in text for word in strangers)
    knocked = ("wrong3", "nick3", "chat3", "irc3", "nowhere3", "t3")
    assert not re.search(rf"\b({'|'.join(knocked)})\b", text)


async def test_the_linter_of_metrics_finds_nothing(watched: tuple[Play, Watcher]) -> None:
    play, watcher = watched
    assert await play.put(ask("tea"), name="first") == 200
    text = (await watcher.ask("/metrics"))[1]
    assert run("promtool", "check", "metrics", text=text) == ""
