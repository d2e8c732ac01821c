"""What was sent is noted, whatever else cannot be."""

import logging
import secrets
from dataclasses import replace
from pathlib import Path

import asyncpg
import pytest

from bridge.settings.records import DatabaseSettings
from tests.conformance.stage import ROOM, play
from tests.core.outgoing import say
from tests.rigs.trestle import wait_until

FAILED = "round_failed"
NOTED = "SELECT count(*) FROM outbox WHERE state = 'sent'"


async def test_those_that_cannot_be_noted_keep_no_other_from_it_and_end_nothing(
    database_settings: DatabaseSettings, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with play(database_settings, folder) as stage:
        sender, core = stage.app.parts.sender, stage.app.parts.database.core
        admin = await asyncpg.connect(database_settings.url)
        await admin.execute("ALTER TABLE message ADD CHECK (part = 0)")
        await admin.close()
        lines = [replace(say(f"{n}"), portal=7, remote_id=f"{n}") for n in range(9)]
        for bad in (1, 2, 5, 6):
            lines[bad] = replace(lines[bad], part=1)
        async with core.acquire() as connection, connection.transaction():
            # So that all of them are noted together.
            await connection.execute("LOCK TABLE message IN SHARE MODE")
            await sender.put([say("first"), *lines])
            await stage.homeserver.wait_until(lambda: len(stage.homeserver.texts(ROOM)) == 10)
        await wait_until(lambda: sender.holding() == {ROOM: 4})
        assert len([one for one in caplog.records if vars(one).get("event") == FAILED]) == 1
        await sender.put([say("more")])
        await stage.homeserver.wait_until(lambda: "more" in stage.homeserver.texts(ROOM))
        await wait_until(lambda: sender.holding() == {ROOM: 4})
        assert await core.fetchval(NOTED) == 7
        left = {one.queued.outgoing.remote_id for one in sender.unwritten}
        assert left == {"1", "2", "5", "6"}
    failed = [one for one in caplog.records if vars(one).get("event") == FAILED]
    assert all(one.levelno == logging.ERROR for one in failed)


async def test_what_a_network_names_too_long_for_the_database_is_said_and_noted_with_the_rest(
    database_settings: DatabaseSettings, folder: Path
) -> None:
    async with play(database_settings, folder) as stage:
        sender, core = stage.app.parts.sender, stage.app.parts.database.core
        lines = [replace(say(f"{n}"), portal=7, remote_id=f"{n}") for n in range(3)]
        lines[1] = replace(lines[1], remote_id=secrets.token_hex(2500))
        lines[2] = replace(lines[2], alias=secrets.token_hex(2500))
        await sender.put(lines)
        await stage.homeserver.wait_until(lambda: stage.homeserver.texts(ROOM) == ["0", "1", "2"])
        await wait_until(lambda: not sender.holding())
        rows = await core.fetch("SELECT remote_id FROM message ORDER BY remote_id")
        assert [row["remote_id"] for row in rows] == [b"0", b"2", None]
