"""A whole Trestle with the dice bot, its homeserver scripted; people whom the bot answers."""

import itertools
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bridge.app import App
from bridge.model import Clock
from bridge.settings.records import DatabaseSettings, Settings
from tests.rigs.scripted_homeserver import SERVER, Rule, ScriptedHomeserver, scripted_homeserver
from tests.rigs.trestle import make_settings, running

DICE = f"@_trestle_dice:{SERVER}"
ALICE = f"@alice:{SERVER}"
ROOM = "!room-without-a-server"
"""Rooms of version 12 have no server in their ids."""
_NUMBERS = itertools.count(1)


def ask(text: object, room: str = ROOM, **changes: Any) -> dict[str, Any]:
    """An event to which the dice bot answers ``text``: it chooses between that and that."""
    return {
        "type": "m.room.message", "event_id": f"$asks-{text}-{room}", "room_id": room,
        "sender": ALICE, "origin_server_ts": 1, "unsigned": {"age": 1},
        "content": {"msgtype": "m.text", "body": f"!choose {text}, {text}"}, **changes,
    }  # fmt: skip


@dataclass(slots=True)
class Play:
    """Trestle and its homeserver."""

    homeserver: ScriptedHomeserver
    settings: Settings
    app: App

    async def put(self, *events: Any, name: str = "", **more: Any) -> int:
        """Put a transaction; give the status."""
        return await self.homeserver.put(self.settings, events, name, **more)

    async def heard(self, room: str = ROOM) -> list[str]:
        """What the bot answered in the room to everything put so far.

        Asks one thing more; its answer is the last, since a room keeps its order.
        """
        last = f"last {next(_NUMBERS)}"
        assert await self.put(ask(last, room), name=last.replace(" ", "-")) == 200
        await self.homeserver.wait_until(lambda: last in self.homeserver.texts(room))
        return [text for text in self.homeserver.texts(room) if not text.startswith("last ")]


def settings_for(
    homeserver: ScriptedHomeserver, database: DatabaseSettings, folder: Path, **more: Any
) -> Settings:
    """Settings of a Trestle with the dice bot, which sits in :data:`ROOM`."""
    homeserver.rooms.setdefault(ROOM, {DICE})
    modules = {"dice": ("dice", {}), **more.pop("modules", {})}
    return make_settings(
        folder / "state", database=database, homeserver_url=homeserver.url, modules=modules, **more
    )


@asynccontextmanager
async def play(
    database: DatabaseSettings,
    folder: Path,
    *,
    rooms: Sequence[str] = (),
    rules: Sequence[Rule] = (),
    greeted: bool = True,
    clock: Clock | None = None,
    **more: Any,
) -> AsyncIterator[Play]:
    """Run Trestle and its homeserver until the block ends; the bot is in its rooms.

    The block begins when Trestle has greeted the homeserver, or before that: ``greeted=False``.
    """
    async with scripted_homeserver() as homeserver:
        homeserver.rules += rules
        homeserver.rooms.update({room: {DICE} for room in rooms})
        settings = settings_for(homeserver, database, folder, **more)
        async with running(settings, clock=clock) as app:
            if greeted:
                await homeserver.wait_until_greeted()
            yield Play(homeserver, settings, app)
