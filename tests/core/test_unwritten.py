"""What was sent is noted, whatever else cannot be."""

import logging
import secrets
from dataclasses import replace
from pathlib import Path

import pytest

from bridge.settings.records import DatabaseSettings
from tests.conformance.stage import ROOM, play
from tests.core.outgoing import say
from tests.rigs.trestle import wait_until

NOTED = "SELECT count(*) FROM outbox WHERE state = 'sent'"


async def test_one_that_cannot_be_noted_keeps_no_other_from_it_and_ends_nothing(
    database_settings: DatabaseSettings, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with play(database_settings, folder) as stage:
        sender, core = stage.app.parts.sender, stage.app.parts.database.core
        lines = [replace(say(f"{n}"), portal=7, remote_id=f"{n}") for n in range(9)]
        # Too long for the index of names: nobody foresaw that.
        lines[4] = replace(lines[4], alias=secrets.token_hex(50_000))
        await sender.put(lines)
        await stage.homeserver.wait_until(lambda: len(stage.homeserver.texts(ROOM)) == 9)
        await wait_until(lambda: sender.holding() == {ROOM: 1})
        await sender.put([say("more")])
        await stage.homeserver.wait_until(lambda: "more" in stage.homeserver.texts(ROOM))
        await wait_until(lambda: sender.holding() == {ROOM: 1})
        assert await core.fetchval(NOTED) == 9
        assert [one.queued.outgoing.remote_id for one in sender.unwritten] == ["4"]
    failed = [one for one in caplog.records if vars(one).get("event") == "round_failed"]
    assert failed
    assert all(one.levelno == logging.ERROR for one in failed)
