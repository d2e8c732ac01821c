"""What is stored in the outbox without its caller's knowledge."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import pytest

from bridge.core.outbox.unclaimed import Unclaimed
from bridge.settings.records import DatabaseSettings
from bridge.storage.schema import Connection
from tests.conformance.stage import ROOM, Play, play
from tests.core.outgoing import say
from tests.rigs.cluster import until_one_waits
from tests.rigs.trestle import wait_until


@asynccontextmanager
async def admin_of(settings: DatabaseSettings) -> AsyncIterator[Connection]:
    """A connection of an admin's."""
    admin = await asyncpg.connect(settings.url)
    try:
        yield admin
    finally:
        admin.terminate()


async def cut_off(putting: asyncio.Task[None]) -> None:
    putting.cancel()
    await asyncio.wait([putting])


async def cut_off_while_held(stage: Play, admin: Connection) -> None:
    """Have who says "once" be cut off at that: until the admin commits, nobody can store it."""
    parts = stage.app.parts
    await admin.execute("BEGIN; LOCK TABLE outbox IN SHARE MODE")
    async with asyncio.TaskGroup() as group:
        putting = group.create_task(parts.sender.put([say("once")]))
        await until_one_waits(parts.database.core)
        await cut_off(putting)


async def until_sent(stage: Play, *texts: str) -> None:
    """Return when the texts are in the room, each once and in this order."""
    sender, homeserver = stage.app.parts.sender, stage.homeserver
    await homeserver.wait_until(lambda: len(homeserver.texts(ROOM)) >= len(texts), limit=20)
    await wait_until(lambda: sender.waiting == 0)
    assert homeserver.texts(ROOM) == list(texts)
    await wait_until(lambda: not sender._outbox.has_unclaimed)


async def test_what_a_caller_leaves_that_is_cut_off_waits_for_no_other_caller(
    database_settings: DatabaseSettings, folder: Path
) -> None:
    async with play(database_settings, folder) as stage, admin_of(database_settings) as admin:
        await cut_off_while_held(stage, admin)
        await admin.execute("COMMIT")
        await until_sent(stage, "once")


async def test_what_another_writes_for_a_caller_that_is_cut_off_waits_for_no_other_either(
    database_settings: DatabaseSettings, folder: Path
) -> None:
    async with (
        play(database_settings, folder) as stage,
        admin_of(database_settings) as now,
        admin_of(database_settings) as later,
        asyncio.TaskGroup() as group,
    ):
        sender, core = stage.app.parts.sender, stage.app.parts.database.core
        await now.execute("BEGIN; LOCK TABLE outbox IN SHARE MODE")
        first = group.create_task(sender.put([say("first")]))
        await until_one_waits(core)
        await later.execute("BEGIN")
        locking = group.create_task(later.execute("LOCK TABLE outbox IN SHARE MODE"))
        writer, gone = (group.create_task(sender.put([say(it)])) for it in ("writer", "gone"))
        waiting = (
            "SELECT count(*) FROM pg_locks WHERE NOT granted AND database = "
            "(SELECT oid FROM pg_database WHERE datname = current_database())"
        )
        while await core.fetchval(waiting) < 2:
            await asyncio.sleep(0)
        await now.execute("COMMIT")
        await asyncio.wait([first, locking])
        await until_one_waits(core)
        await cut_off(gone)
        # It is looked for, before it is there.
        seeking = sender._unclaimed._seeking
        assert seeking is not None
        assert not seeking.done()
        await later.execute("COMMIT")
        await writer
        await until_sent(stage, "first", "writer", "gone")


async def test_what_nobody_foresaw_ends_neither_the_look_nor_the_program(
    database_settings: DatabaseSettings, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with play(database_settings, folder) as stage, admin_of(database_settings) as admin:
        await cut_off_while_held(stage, admin)
        await admin.execute("ALTER TABLE outbox RENAME TO away; COMMIT")
        await wait_until(lambda: "nobody sends is not found" in caplog.text)
        await admin.execute("ALTER TABLE away RENAME TO outbox")
        await until_sent(stage, "once")


async def test_nothing_is_looked_for_in_a_group_that_ends(
    database_settings: DatabaseSettings, folder: Path
) -> None:
    async with play(database_settings, folder) as stage:
        sender = stage.app.parts.sender
        looking = Unclaimed(sender._outbox, sender.push)
        async with asyncio.TaskGroup() as group:
            pass
        looking.seek(group)
        assert looking._seeking is None
