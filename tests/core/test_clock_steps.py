"""The machine's clock is set while people talk: nothing is lost, doubled, forgotten too soon."""

import asyncio
from datetime import UTC, datetime, time, timedelta
from pathlib import Path

import pytest

from bridge.demo.matrix_user import PATIENCE
from bridge.settings.records import DatabaseSettings
from bridge.storage.keys import key_files
from tests.conformance.stage import DICE, ROOM, Play, ask, play, settings_for
from tests.core.outgoing import LostAnswer, say
from tests.rigs.scripted_homeserver import scripted_homeserver
from tests.rigs.trestle import running, wait_until
from tests.storage.conftest import TurnedClock, agree

ROOMS = ("!one", "!two", "!three")
DAY = timedelta(days=1)


async def talk(stage: Play, clock: TurnedClock, ahead: timedelta, name: str) -> list[str]:
    """Say five things in each room, and set the clock amid that; give them."""
    texts = [f"{name} {number}" for number in range(5)]
    for number, text in enumerate(texts):
        if number == 2:
            clock.ahead = ahead
        for room in ROOMS:
            name_of_it = f"{text}{room}".replace(" ", "")
            # A day without tables yet has them within a second.
            async with asyncio.timeout(PATIENCE):
                while await stage.put(ask(text, room), name=name_of_it) != 200:
                    pass
    return texts


def until_midnight(clock: TurnedClock) -> timedelta:
    """From now on the machine's clock to the end of its day."""
    now = clock.now() - clock.ahead
    return datetime.combine(now.date() + DAY, time(), UTC) - now


async def test_a_clock_that_is_set_ahead_and_back_amid_talk_costs_nothing(
    database_settings: DatabaseSettings, folder: Path
) -> None:
    clock, said = TurnedClock(), []
    minute, to_midnight = timedelta(minutes=1), until_midnight(clock)
    steps = {
        "an hour back": timedelta(hours=-1), "over midnight": to_midnight + minute,
        "back over midnight": to_midnight - minute, "two weeks ahead": 15 * DAY,
        "as it was": timedelta(), "three weeks back": -21 * DAY, "far ahead": 40 * DAY,
    }  # fmt: skip
    async with scripted_homeserver() as homeserver:
        homeserver.rooms.update({room: {DICE} for room in ROOMS})
        settings = settings_for(homeserver, database_settings, folder)
        kept: set[object] = set()
        # The second start is far from the database's clock: that must not keep it.
        for after in ({}, {"an hour back after a restart": timedelta(hours=-1)}):
            async with running(settings, clock=clock) as app:
                agree(app.parts.database)
                await homeserver.wait_until_greeted()
                stage = Play(homeserver, settings, app)
                for name, ahead in (after or steps).items():
                    said += await talk(stage, clock, ahead, name)
                    # The work of the night: tomorrow's key is what it makes last.
                    await wait_until(lambda: clock.today() + DAY in key_files(settings.state_dir))
                    assert kept <= key_files(settings.state_dir).keys(), name
                    kept |= key_files(settings.state_dir).keys()
                for room in ROOMS:
                    assert await stage.heard(room) == said
                assert await app.parts.bookkeeper.balance() == {"to_network": 0, "to_matrix": 0}
                assert not await app.parts.items.count_parked()


@pytest.mark.parametrize("since", [timedelta(minutes=20), timedelta(hours=7)])
async def test_what_was_put_while_the_clock_was_ahead_is_found_once_it_is_set_right(
    database_settings: DatabaseSettings, folder: Path, since: timedelta
) -> None:
    clock = TurnedClock(timedelta(minutes=40))
    async with play(database_settings, folder, clock=clock) as stage:
        homeserver, sender = stage.homeserver, stage.app.parts.sender
        homeserver.rules.append(lost := LostAnswer(homeserver))
        await sender.put([say("once"), say("after")])
        await homeserver.wait_until(lambda: lost.is_lost)
        homeserver.forget_transactions()
        clock.ahead = since  # Set right, and so long has passed since then.
        sender.doubt()
        await sender.put([say("last")])
        await homeserver.wait_until(lambda: "last" in homeserver.texts(ROOM))
        assert homeserver.texts(ROOM) == ["once", "after", "last"]
