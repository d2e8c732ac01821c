"""A Trestle with a bot and a network that write everything down, before a fast homeserver."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from bridge.settings.records import DatabaseSettings, Settings
from tests.rigs.program import TrestleProgram, trestle_program
from tests.rigs.scripted_homeserver import (
    SERVER,
    Answer,
    Asked,
    ScriptedHomeserver,
    scripted_homeserver,
)
from tests.rigs.sink import install_sink, read_sink
from tests.rigs.trestle import make_settings
from tests.rigs.unruly_homeserver import Event, UnrulyHomeserver, message

ALICE = f"@alice:{SERVER}"
BOT = f"@_trestle_sink:{SERVER}"
MAIN_BOT = f"@trestle:{SERVER}"
ROOMS = tuple(f"!room{number}" for number in range(5))


def alice_rules(asked: Asked) -> Answer | None:
    """Alice may do everything in every room."""
    if asked.method == "GET" and asked.parts[2:3] == ("context",):
        levels = {
            "type": "m.room.power_levels",
            "state_key": "",
            "content": {"users": {ALICE: 100}},
        }
        return Answer(content={"state": [levels]})
    return None


@dataclass(slots=True)
class Sinks:
    """What runs, and what was said so far."""

    homeserver: ScriptedHomeserver
    unruly: UnrulyHomeserver
    trestle: TrestleProgram
    ledger: Path
    said: dict[str, list[str]]
    """By room, in order; the places of a network are called like their rooms."""

    @property
    def settings(self) -> Settings:
        """Trestle's."""
        return self.trestle.settings

    def say(self, number: int, text: str = "", room: str = "") -> Event:
        """An event of some room, which counts as said."""
        room = room or ROOMS[number % len(ROOMS)]
        text = text or f"line {number}"
        self.said.setdefault(room, []).append(text)
        return message(text, number, room, ALICE)

    def some(self, transaction: int, size: int) -> list[Event]:
        """The events of a transaction of a long stream."""
        return [self.say(transaction * size + place) for place in range(size)]

    @property
    def count(self) -> int:
        """How many were said."""
        return sum(map(len, self.said.values()))

    @property
    def written(self) -> int:
        """How many lines the ledger has."""
        return self.ledger.read_bytes().count(b"\n") if self.ledger.exists() else 0

    def shown(self, place: str) -> list[str]:
        """What reached the place, in order; what ran twice in a row counts once."""
        return [text for text, _ in groupby(read_sink(self.ledger, place))]


@asynccontextmanager
async def sinks(
    folder: Path,
    database: DatabaseSettings | None = None,
    *,
    consumer: str = "bot",
    hold: bool = False,
    **extra: Any,
) -> AsyncIterator[Sinks]:
    """Run it until the block ends, with the bot in the rooms or with the network.

    Without a database it has one of its own. With ``hold`` what is taken is held until the file
    of that name is removed.
    """
    ledger = folder / "ledger"
    if hold:
        Path(f"{ledger}.hold").touch()
    async with scripted_homeserver() as homeserver:
        member = BOT if consumer == "bot" else MAIN_BOT
        homeserver.rooms.update({room: {member} for room in ROOMS})
        homeserver.rules.append(alice_rules)
        options = {"ledger": str(ledger)}
        settings = make_settings(
            folder / "state", database=database, homeserver_url=homeserver.url,
            modules={"sink": ("sinkbot" if consumer == "bot" else "sink", options)},
        )  # fmt: skip
        env = {"PYTHONPATH": install_sink(folder)}
        async with trestle_program(settings, folder, env=env, **extra) as trestle:
            await homeserver.wait_until_greeted()
            unruly = UnrulyHomeserver(settings)
            try:
                yield Sinks(homeserver, unruly, trestle, ledger, {})
            finally:
                await unruly.close()
