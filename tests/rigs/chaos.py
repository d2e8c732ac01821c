"""A Trestle with a bot that misbehaves on command, and somebody in rooms with it."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bridge.demo.matrix_user import MatrixUser
from bridge.settings.records import DatabaseSettings
from tests.rigs.program import TrestleProgram, trestle_program
from tests.rigs.sink import install_sink, read_sink
from tests.rigs.trestle import Town, make_modules

BOT = "@_trestle_chaos:test.example"


@dataclass(slots=True)
class Chaos:
    """What runs, and where."""

    trestle: TrestleProgram
    alice: MatrixUser
    rooms: Sequence[str]
    ledger: Path

    def did(self, room: str) -> list[str]:
        """What the bot did in a room, in order."""
        return read_sink(self.ledger, room)

    def mend(self) -> None:
        """Have what is flaky work from now on."""
        Path(f"{self.ledger}.mended").touch()


@asynccontextmanager
async def chaos(
    town: Town, folder: Path, database: DatabaseSettings, *, rooms: int = 1, **extra: Any
) -> AsyncIterator[Chaos]:
    """Run it until the block ends; the bot is in so many rooms of Alice's."""
    ledger = folder / "ledger"
    modules = make_modules({"chaos": ("sinkbot", {"ledger": str(ledger)})})
    settings = town.settings_for(folder, database, modules=modules)
    env = {"PYTHONPATH": install_sink(folder)}
    async with trestle_program(settings, folder, env=env, **extra) as trestle:
        alice = await town.person("alice")
        made = [await alice.create_room(preset="public_chat") for _ in range(rooms)]
        for room in made:
            await alice.invite(room, BOT)
            await alice.wait_until_joined(room, BOT)
        yield Chaos(trestle, alice, made, ledger)
