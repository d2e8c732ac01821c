"""A module that raises, hangs, blocks the loop or ends the process on one event."""

import asyncio
from pathlib import Path

import pytest

from bridge.settings.records import DatabaseSettings
from tests.rigs.chaos import chaos
from tests.rigs.trestle import Town, wait_until

PATIENT = {"item_deadline": 30.0, "watchdog": 30.0}
"""What is well is never cut off or bitten by the watchdog, however slow the machine is."""
HASTY = {"hang": {"item_deadline": 2.0}, "stubborn": {"item_deadline": 2.0},
         "block": {"watchdog": 3.0}}  # fmt: skip
"""The limits that end those which nothing else ends."""
LIMIT = 240.0


@pytest.mark.parametrize("poison", ["raise", "hang", "stubborn", "block", "exit"])
async def test_a_poisonous_event_is_parked_after_three_tries_while_other_rooms_go_on(
    poison: str, town: Town, folder: Path, database_settings: DatabaseSettings
) -> None:
    limits = PATIENT | HASTY.get(poison, {})
    async with (
        chaos(town, folder, database_settings, rooms=2, limits=limits) as stage,
        asyncio.TaskGroup() as group,
    ):
        alice, trestle, (room, other) = stage.alice, stage.trestle, stage.rooms
        keeper = group.create_task(trestle.keep_alive())
        for one in stage.rooms:
            await alice.say(one, "before")
        await wait_until(lambda: stage.did(room) == stage.did(other) == ["before"])
        await alice.say(room, poison)
        await alice.say(room, "after")
        await alice.say(other, "elsewhere")
        await wait_until(lambda: stage.did(other) == ["before", "elsewhere"], LIMIT)
        await wait_until(lambda: stage.did(room) == ["before", "after"], LIMIT)
        await wait_until(lambda: "[item_parked]" in trestle.log_text(), LIMIT)
        keeper.cancel()
    assert stage.did(other) == ["before", "elsewhere"]
    assert trestle.log_text().count("[item_parked]") == 1
    if poison not in {"block", "exit"}:
        assert trestle.restarts == 0
