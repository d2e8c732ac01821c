"""Killed at every place between two durable steps, once each."""

import timeit
from pathlib import Path

import pytest

from bridge.demo.matrix_user import MatrixUser
from bridge.failpoint import PLACES, VARIABLE, failpoint
from bridge.prove.arrivals import read_records
from bridge.settings.records import DatabaseSettings
from tests.rigs.program import TrestleProgram, trestle_program
from tests.rigs.scale import SCALE, chance
from tests.rigs.trestle import Town, make_modules

BATCHED = {"marked", "settled"}
"""Passed once for several messages."""
BOT = "@_trestle_dice:test.example"


async def test_killed_at_every_place_each_command_is_answered_once_and_in_order(
    town: Town, folder: Path, database_settings: DatabaseSettings
) -> None:
    """The bot chooses between equal words, so that an answer tells which command it is for."""
    dice = chance("failpoints")
    modules = make_modules({"dice": ("dice", {})})
    settings = town.settings_for(folder, database_settings, modules=modules)
    async with trestle_program(settings, folder) as trestle:
        alice = await town.person("alice")
        room = await alice.create_room(preset="public_chat")
        await alice.invite(room, BOT)
        await alice.wait_until_joined(room, BOT)
        said: list[str] = []
        await _say(alice, room, said)
        await _wait_for_last(alice, room, said)
        await trestle.program.stop(limit=25)
        for place in dice.sample(PLACES, k=len(PLACES)) * max(1, SCALE // 10):
            # More than it comes by while it takes up what the last kill left.
            times = dice.randrange(5, 8) if place in BATCHED else dice.randrange(24, 48)
            trestle.env[VARIABLE] = f"{place}:{times}"
            await trestle.start()
            # What was left, with the answers to it, may be so much that it ends already.
            await _wait_for_last(alice, room, said, trestle)
            while trestle.program.exit_code is None:
                assert len(said) < 10_000, f"it never came by {place}"
                await _say(alice, room, said)
        del trestle.env[VARIABLE]
        await trestle.start()
        # Whatever comes twice comes before the answer to one command more.
        await _say(alice, room, said)
        await _wait_for_last(alice, room, said)
    answers = [_word(event["content"]["body"]) for event in alice.heard(room, BOT)]
    assert sorted(answers) == sorted(said)
    # Synapse hands on something late now and then; we answer in the order in which it does.
    records = await read_records(settings.database, settings.state_dir)
    handed = [_word(one.text) for one in records.arrivals[room] if one.text.startswith("!choose")]
    assert answers == handed
    assert "[item_parked]" not in trestle.log_text()


async def _say(alice: MatrixUser, room: str, said: list[str]) -> None:
    said.append(f"word{len(said)}")
    await alice.say(room, f"!choose {said[-1]}, {said[-1]}")


async def _wait_for_last(
    alice: MatrixUser, room: str, said: list[str], trestle: TrestleProgram | None = None
) -> None:
    """Wait until the last command is answered, or the program has ended."""
    await alice.wait_until(
        lambda: (
            any(said[-1] == _word(e["content"]["body"]) for e in alice.heard(room, BOT))
            or (trestle is not None and trestle.program.exit_code is not None)
        )
    )


def _word(answer: str) -> str:
    return answer.rstrip(".").split()[-1]


def test_a_place_that_is_not_asked_for_costs_less_than_a_microsecond() -> None:
    seconds = min(timeit.repeat(lambda: failpoint("landed"), number=10_000, repeat=5)) / 10_000
    assert seconds < 1e-6


async def test_a_place_that_does_not_exist_is_named_at_the_start(
    town: Town, folder: Path, database_settings: DatabaseSettings
) -> None:
    settings = town.settings_for(folder, database_settings)
    with pytest.raises(AssertionError, match="names no place"):
        async with trestle_program(settings, folder, env={VARIABLE: "somewhere:1"}):
            pass
