"""Killed while something that fails is being put aside: it is put aside once, the rest goes on."""

from pathlib import Path

import pytest

from bridge.failpoint import AT_FAILURES, VARIABLE
from bridge.settings.records import DatabaseSettings
from tests.conformance.stage import DICE, ROOM, ask, settings_for
from tests.rigs.chaos import chaos
from tests.rigs.program import trestle_program
from tests.rigs.scripted_homeserver import Answer, Asked, refuse, scripted_homeserver
from tests.rigs.trestle import Town, wait_until


@pytest.mark.parametrize("place", [one for one in AT_FAILURES if one != "set_aside"])
async def test_an_item_that_fails_is_parked_once_though_the_program_is_killed_at_that(
    place: str, town: Town, folder: Path, database_settings: DatabaseSettings
) -> None:
    async with chaos(town, folder, database_settings) as stage:
        alice, trestle, (room,) = stage.alice, stage.trestle, stage.rooms
        await trestle.program.stop(limit=25)
        trestle.env[VARIABLE] = f"{place}:1"
        await trestle.start()
        await alice.say(room, "raise")
        await alice.say(room, "after")
        await trestle.wait_until_ended()
        del trestle.env[VARIABLE]
        await trestle.start()
        await wait_until(lambda: stage.did(room) == ["after"])
        (parked,) = await trestle.parked()
        assert parked["consumer"] == f"bot:chaos:{room}"
        await alice.say(room, "once more")
        await wait_until(lambda: stage.did(room) == ["after", "once more"])


async def test_what_the_homeserver_refuses_is_put_aside_once_though_the_program_is_killed_at_that(
    folder: Path, database_settings: DatabaseSettings
) -> None:
    def rule(asked: Asked) -> Answer | None:
        return refuse(400, "M_BAD_JSON") if asked.content.get("body") == "bad" else None

    async with scripted_homeserver() as homeserver:
        homeserver.rules.append(rule)
        settings = settings_for(homeserver, database_settings, folder)
        env = {VARIABLE: "set_aside:1"}
        async with trestle_program(settings, folder, env=env) as trestle:
            await homeserver.wait_until_greeted()
            await homeserver.put(settings, [ask("bad")], "1")
            await trestle.wait_until_ended()
            del trestle.env[VARIABLE]
            await trestle.start()
            await homeserver.put(settings, [ask("good")], "2")
            await homeserver.wait_until(lambda: "good" in homeserver.texts(ROOM))
            (parked,) = await trestle.parked()
        assert (parked["kind"], parked["consumer"]) == ("outgoing", DICE)
        assert homeserver.texts(ROOM) == ["good"]
