"""``kill -9`` in the middle, and a restart: nothing is missing, nothing is doubled unsaid."""

import asyncio
import logging
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from bridge.settings import DatabaseSettings
from tests.crash.storm import Storm, assert_order_kept, find_late, read_arrivals
from tests.flow.test_conversation import bridge, irc_module
from tests.rigs.inspircd import run_inspircd
from tests.rigs.irc_user import irc_user
from tests.rigs.ircd import IrcServer
from tests.rigs.ngircd import run_ngircd
from tests.rigs.program import trestle_program
from tests.rigs.scale import SCALE, chance
from tests.rigs.trestle import Town, make_modules

RUN = {"ngircd": run_ngircd, "inspircd": run_inspircd}
LINES = 60

log = logging.getLogger(__name__)


@pytest_asyncio.fixture(params=list(RUN))
async def irc(request: pytest.FixtureRequest) -> AsyncIterator[IrcServer]:
    """A real server of each kind."""
    async with RUN[request.param]() as started:
        yield started


async def test_a_conversation_survives_kills_in_its_middle(
    town: Town, irc: IrcServer, folder: Path, database_settings: DatabaseSettings
) -> None:
    settings = town.settings_for(folder, database_settings, modules=make_modules(irc_module(irc)))
    dice = chance(f"kills beside {irc.kind}")
    kills = sorted(dice.sample(range(5, LINES), 2 + SCALE // 10))
    async with trestle_program(settings, folder) as trestle:
        alice = await town.person("alice")
        room = await bridge(alice, "#storm")
        async with (
            irc_user(irc.port, "watcher") as watcher,
            irc_user(irc.port, "carl") as carl,
        ):
            await watcher.join("#storm")
            await carl.join("#storm")
            storm = Storm(alice, room, carl, watcher, "#storm")
            in_the_air: set[str] = set()
            for number in range(LINES):
                if number in kills:
                    # Of carl's words only the last may be on its way to us at the kill.
                    await storm.wait_for_word(storm.words[-1])
                if number in kills or number % 3 == 0:
                    await storm.say_word(f"word {number}")
                await storm.say_line(f"line {number}")
                if number in kills:
                    in_the_air.add(storm.words[-1])
                    if number == kills[-1]:
                        # At the worst moment: it is out, and is hardly known to be.
                        await storm.watch_for_lines()
                    await trestle.kill()
                    assert not processes_of(folder)
                    await trestle.start()
                    await storm.wait_for_bridge()
            await storm.say_word("the last word")
            await storm.watch_for_lines()
            await storm.wait_for_word("the last word")
            doubled = storm.doubled()
            for text in doubled:
                await storm.wait_until_flagged(text)
        words = storm.words_heard()
    assert not processes_of(folder)
    arrivals = await read_arrivals(database_settings, settings.state_dir, room)
    late = find_late(list(storm.lines), arrivals)
    lost = set(storm.words) - set(words)
    log.info("doubled %s, late %s, words lost %s", doubled, late, lost)
    assert_order_kept(storm.seen, arrivals)
    assert len(doubled) <= len(kills), f"{doubled} by {len(kills)} kills"
    assert words == [one for one in storm.words if one in words], "doubled or not in order"
    # Plain IRC says nothing again: what a connection had not read yet is gone with it.
    assert lost <= in_the_air
    assert "item_parked" not in trestle.log_text()


async def test_a_backlog_at_the_kill_parks_none_of_it(
    town: Town, folder: Path, database_settings: DatabaseSettings
) -> None:
    async with run_ngircd() as irc:
        modules = make_modules(irc_module(irc, flood_burst=500, flood_rate=500))
        settings = town.settings_for(folder, database_settings, modules=modules)
        async with trestle_program(settings, folder) as trestle:
            alice = await town.person("alice")
            room = await bridge(alice, "#pile")
            async with (
                irc_user(irc.port, "watcher") as watcher,
                irc_user(irc.port, "carl") as carl,
            ):
                await watcher.join("#pile")
                storm = Storm(alice, room, carl, watcher, "#pile")
                await trestle.kill()
                async with asyncio.TaskGroup() as talk:  # Homeservers are slow to one alone.
                    for part in range(4):
                        talk.create_task(say_many(storm, range(part, 400, 4)))
                await trestle.start()
                await storm.watch_for_lines(50)
                await trestle.kill()
                await trestle.start()
                await storm.watch_for_lines()
                doubled = storm.doubled()
                for text in doubled:
                    await storm.wait_until_flagged(text)
                held = [e["content"].get("body") for e in await alice.messages(room, 2000)]
    arrivals = await read_arrivals(database_settings, settings.state_dir, room)
    late = find_late([text for text in held if text in storm.lines], arrivals)
    log.info("doubled %s, late %s", doubled, late)
    assert_order_kept(storm.seen, arrivals)
    assert len(doubled) <= 1
    assert "item_parked" not in trestle.log_text()


async def say_many(storm: Storm, numbers: range) -> None:
    for number in numbers:
        await storm.say_line(f"line {number}")


async def test_no_process_of_ours_outlives_a_kill(folder: Path, town: Town) -> None:
    settings = town.settings_for(folder, DatabaseSettings())
    async with trestle_program(settings, folder) as trestle:
        before = processes_of(settings.state_dir)
        assert before
        await trestle.kill()
        async with asyncio.timeout(15):
            while processes_of(settings.state_dir):
                await asyncio.sleep(0.05)
        await trestle.start()
    assert not processes_of(settings.state_dir)


def processes_of(folder: Path) -> list[int]:
    """Processes that name the folder."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                command = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if os.fsencode(folder) in command:
                found.append(int(entry.name))
    return found
