"""A homeserver that is slow, full, broken or away: what is for Matrix waits, and comes once."""

import random
from pathlib import Path

from bridge.settings.records import DatabaseSettings
from tests.crash.sinks import ROOMS, Sinks, sinks
from tests.rigs.scale import chance, scaled
from tests.rigs.scripted_homeserver import Answer, Asked, Rule, ScriptedHomeserver, refuse
from tests.rigs.unruly_homeserver import Event

SAID = max(100, scaled(5_000))
SIZE = 20
LIMIT = max(240, SAID / 5)
"""Seconds: of each room's thousand answers in the long form every fourth waits for half of one."""
AWAY = refuse(503, "M_UNKNOWN")


def says(stage: Sinks, number: int) -> Event:
    """Something that the bot repeats."""
    return stage.say(number, f"say {number}")


def troubled(homeserver: ScriptedHomeserver, dice: random.Random) -> Rule:
    """Three of ten requests to send something fail, in the ways in which they do."""

    def rule(asked: Asked) -> Answer | None:
        if asked.parts[2:3] != ("send",):
            return None
        match dice.randrange(10):
            case 0:
                return refuse(429, "M_LIMIT_EXCEEDED", retry_after_ms=dice.randrange(5, 50))
            case 1:
                return Answer(502, {"errcode": "M_UNKNOWN", "error": "a proxy says this"})
            case 2:  # It is done, and the proxy gives up waiting for the answer.
                homeserver.do(asked)
                return Answer(504, {"errcode": "M_UNKNOWN", "error": "a proxy says this"})
        return None

    return rule


async def test_a_homeserver_that_fails_three_of_ten_requests_gets_each_answer_once_and_in_order(
    database_settings: DatabaseSettings, folder: Path
) -> None:
    async with sinks(folder, database_settings) as stage:
        stage.homeserver.rules.append(troubled(stage.homeserver, chance("trouble")))
        for start in range(0, SAID, SIZE):
            await stage.unruly.deliver([says(stage, start + place) for place in range(SIZE)])
        await wait_for_answers(stage)
    assert "send_parked" not in stage.trestle.log_text()


async def test_what_is_for_a_homeserver_that_is_away_outlives_kills_and_comes_when_it_is_back(
    database_settings: DatabaseSettings, folder: Path
) -> None:
    away = [True]
    async with sinks(folder, database_settings) as stage:
        stage.homeserver.rules.append(
            lambda asked: AWAY if away and asked.parts[2:3] == ("send",) else None
        )
        for kill in range(2):
            for start in range(0, SAID, SIZE):
                first = kill * SAID + start
                await stage.unruly.deliver([says(stage, first + n) for n in range(SIZE)])
            await stage.trestle.kill()
            await stage.trestle.start()
        away.clear()
        await wait_for_answers(stage)
    assert "send_parked" not in stage.trestle.log_text()


async def wait_for_answers(stage: Sinks) -> None:
    """Wait until everything said was repeated; once each, in the order of its room."""
    homeserver = stage.homeserver
    await homeserver.wait_until(lambda: len(homeserver.said) >= stage.count, LIMIT)
    # One thing more in each room: whatever comes twice comes before the answer to that.
    for number, room in enumerate(ROOMS):
        await stage.unruly.deliver([stage.say(10**6 + number, f"say the end {number}", room)])
    await homeserver.wait_until(lambda: len(homeserver.said) >= stage.count)
    assert {room: homeserver.texts(room) for room in ROOMS} == stage.said
