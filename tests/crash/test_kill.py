"""``kill -9`` in the middle, and a restart: nothing is missing, nothing is doubled."""

import asyncio
import os
from pathlib import Path

from bridge.demo.matrix_user import MatrixUser
from bridge.matrix.body import parse_transaction
from bridge.model import RowId, SystemClock
from bridge.settings import DatabaseSettings
from bridge.storage.journal import Journal
from bridge.storage.keys import DayKeys
from bridge.storage.pool import Database
from tests.flow.test_conversation import bridge, irc_module, read_texts
from tests.rigs.irc_user import IrcUser, irc_user
from tests.rigs.ngircd import run_ngircd
from tests.rigs.program import trestle_program
from tests.rigs.scale import SCALE, chance
from tests.rigs.trestle import Town, make_modules


async def test_a_conversation_survives_kills_in_its_middle(
    town: Town, folder: Path, database_settings: DatabaseSettings
) -> None:
    dice = chance("kills")
    async with run_ngircd() as irc:
        settings = town.settings_for(
            folder, database_settings, modules=make_modules(irc_module(irc))
        )
        async with trestle_program(settings, folder) as trestle:
            alice = await town.person("alice")
            room = await bridge(alice, "#storm")
            async with (
                irc_user(irc.port, "watcher") as watcher,
                irc_user(irc.port, "carl") as carl,
            ):
                await watcher.join("#storm")
                await carl.join("#storm")
                total = 60
                kills = {dice.randrange(5, total) for _ in range(2 + SCALE // 10)}
                for number in range(total):
                    await alice.say(room, f"line {number}")
                    if number in kills:
                        await trestle.kill()
                        await trestle.start()
                await alice.say(room, "the last line")
                seen = await read_until(watcher, "the last line")
    arrived = await read_arrivals(database_settings, settings.state_dir)
    expected = [text for text in arrived if text.startswith("line ")]
    # A transaction that the homeserver stranded in the outage is not ours to deliver yet.
    assert len(expected) >= total - len(kills)
    assert_as_promised(seen, expected, len(kills))


async def read_arrivals(settings: DatabaseSettings, state_dir: Path) -> list[str]:
    """What was said, in the order in which the homeserver handed it to us.

    A homeserver that was told to wait may hand on a later transaction first; the order that a
    bridge can keep is the one that it is given.
    """
    texts: list[str] = []
    async with Database.open(settings, state_dir, SystemClock()) as database:
        journal = Journal(database, DayKeys(state_dir, database.clock))
        for row in await database.core.fetch("SELECT day, seq FROM journal ORDER BY day, seq"):
            landed = await journal.read(RowId(row["day"], row["seq"]))
            assert landed is not None
            for event in parse_transaction(landed.body).events:
                text = event["content"].get("body") if event["type"] == "m.room.message" else None
                if isinstance(text, str) and text not in texts:
                    texts.append(text)
    return texts


def assert_as_promised(seen: list[str], expected: list[str], kills: int) -> None:
    """Plain IRC acknowledges nothing: a kill may lose or double one message a connection."""
    wrong = sum(abs(seen.count(text) - 1) for text in expected)
    assert wrong <= kills, f"{wrong} lost or doubled by {kills} kills"
    firsts = list(dict.fromkeys(seen))
    assert firsts == [text for text in expected if text in firsts], "not in order"


async def read_until(user: IrcUser, last: str) -> list[str]:
    """What is said in the channel until the last line, without it."""
    found: list[str] = []
    async with asyncio.timeout(90):
        while True:
            line = await user.read()
            text = line.partition(" :")[2]
            if text == last:
                return found
            if " PRIVMSG #" in line:
                found.append(text)


async def test_a_backlog_at_the_kill_parks_none_of_it(
    town: Town, folder: Path, database_settings: DatabaseSettings
) -> None:
    async with run_ngircd() as irc:
        modules = make_modules(irc_module(irc, flood_burst=500, flood_rate=500))
        settings = town.settings_for(folder, database_settings, modules=modules)
        async with trestle_program(settings, folder) as trestle:
            alice = await town.person("alice")
            room = await bridge(alice, "#pile")
            async with irc_user(irc.port, "watcher") as watcher:
                await watcher.join("#pile")
                await trestle.kill()
                await send_many(alice, room, 400)
                await trestle.start()
                await asyncio.sleep(0)
                first = await read_texts(watcher, 50, limit=120)
                await trestle.kill()
                await trestle.start()
                await alice.say(room, "the last line")
                rest = await read_until(watcher, "the last line")
    expected = [f"line {number}" for number in range(400)]
    assert_as_promised([text for _, text in first] + rest, expected, 1)
    assert "item_parked" not in trestle.log_text()


async def send_many(person: MatrixUser, room: str, count: int) -> None:
    """Say ``count`` lines, in order."""
    for number in range(count):
        await person.say(room, f"line {number}")


async def test_no_process_of_ours_outlives_a_kill(folder: Path, town: Town) -> None:
    settings = town.settings_for(folder, DatabaseSettings())
    async with trestle_program(settings, folder) as trestle:
        before = postgres_of(settings.state_dir)
        assert before
        await trestle.kill()
        async with asyncio.timeout(15):
            while postgres_of(settings.state_dir):
                await asyncio.sleep(0.05)
        await trestle.start()
    assert not postgres_of(settings.state_dir)


def postgres_of(state_dir: Path) -> list[int]:
    """Processes that name the state directory."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                command = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if os.fsencode(state_dir) in command:
                found.append(int(entry.name))
    return found
