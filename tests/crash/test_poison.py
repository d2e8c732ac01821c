"""A module that raises, hangs, blocks the loop or ends the process on one event."""

import asyncio
import os
from pathlib import Path

import pytest

from bridge.settings.records import DatabaseSettings
from tests.rigs.chaos import install_chaos, read_ledger
from tests.rigs.program import TrestleProgram, trestle_program
from tests.rigs.trestle import Town, make_modules, wait_until

BOT = "@_trestle_chaos:test.example"
PATIENT = {"item_deadline": 30.0, "watchdog": 30.0}
"""What is well is neither cut off nor bitten, however slow the machine is."""
HASTY = {"hang": {"item_deadline": 2.0}, "stubborn": {"item_deadline": 2.0},
         "block": {"watchdog": 3.0}}  # fmt: skip
"""What ends each that ends by a limit alone."""
LIMIT = 240.0


@pytest.mark.parametrize("poison", ["raise", "hang", "stubborn", "block", "exit"])
async def test_a_poisonous_event_is_parked_after_three_tries_while_other_rooms_go_on(
    poison: str, town: Town, folder: Path, database_settings: DatabaseSettings
) -> None:
    ledger = folder / "ledger"
    modules = make_modules({"chaos": ("chaos", {"ledger": str(ledger)})})
    settings = town.settings_for(folder, database_settings, modules=modules)
    env = {"PYTHONPATH": f"{install_chaos(folder)}:{os.getcwd()}"}
    limits = PATIENT | HASTY.get(poison, {})
    async with (
        trestle_program(settings, folder, env=env, limits=limits) as trestle,
        asyncio.TaskGroup() as group,
    ):
        alice = await town.person("alice")
        rooms = [await alice.create_room(preset="public_chat") for _ in range(2)]
        for room in rooms:
            await alice.invite(room, BOT)
            await alice.wait_until_joined(room, BOT)
        keeper = group.create_task(trestle.keep_alive())
        for room in rooms:
            await alice.say(room, "before")
        await wait_until(lambda: all(read_ledger(ledger, room) == ["before"] for room in rooms))
        await alice.say(rooms[0], poison)
        await alice.say(rooms[0], "after")
        await alice.say(rooms[1], "elsewhere")
        await wait_until(lambda: read_ledger(ledger, rooms[1]) == ["before", "elsewhere"], LIMIT)
        await wait_until(lambda: read_ledger(ledger, rooms[0]) == ["before", "after"], LIMIT)
        await _wait_until_parked(trestle)
        keeper.cancel()
    assert read_ledger(ledger, rooms[1]) == ["before", "elsewhere"]
    assert trestle.log_text().count("[item_parked]") == 1
    if poison not in {"block", "exit"}:
        assert trestle.restarts == 0


async def _wait_until_parked(trestle: TrestleProgram) -> None:
    await wait_until(lambda: "[item_parked]" in trestle.log_text(), LIMIT)
