"""What is stored in the outbox without its caller's knowledge."""

import asyncio
from pathlib import Path

from bridge.settings.records import DatabaseSettings
from tests.conformance.stage import ROOM, play
from tests.core.outgoing import say
from tests.rigs.trestle import wait_until


async def test_what_a_caller_leaves_that_is_cut_off_waits_for_no_other_caller(
    database_settings: DatabaseSettings, folder: Path
) -> None:
    async with play(database_settings, folder) as stage, asyncio.TaskGroup() as group:
        sender, core = stage.app.parts.sender, stage.app.parts.database.core
        async with core.acquire() as connection, connection.transaction():
            await connection.execute("LOCK TABLE outbox IN SHARE MODE")
            putting = group.create_task(sender.put([say("once")]))
            waiting = "SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted)"
            while not await connection.fetchval(waiting):
                await asyncio.sleep(0)
            putting.cancel()
            await asyncio.wait([putting])
        await stage.homeserver.wait_until(lambda: bool(stage.homeserver.texts(ROOM)), limit=20)
        await wait_until(lambda: sender.waiting == 0)
        assert stage.homeserver.texts(ROOM) == ["once"]
        assert not sender._outbox.has_unclaimed
