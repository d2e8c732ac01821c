"""Who does not want to be bridged is remembered, whatever others say at the same moment."""

import asyncio
from pathlib import Path

import asyncpg

from bridge.core.permissions.optouts import EVERYWHERE, OptOuts
from bridge.model import SystemClock
from bridge.sdk.ids import UserId
from bridge.settings.records import DatabaseSettings
from bridge.storage.audit import Audit
from bridge.storage.optouts import OptOutStore
from bridge.storage.pool import Database
from tests.rigs.cluster import until_one_waits

ALICE, BEA = UserId("@alice:test.example"), UserId("@bea:test.example")


async def test_an_opt_in_takes_back_no_opt_out_of_the_same_moment(
    database_settings: DatabaseSettings, folder: Path
) -> None:
    async with Database.open(database_settings, folder, SystemClock()) as database:
        kept = OptOutStore(database, folder)
        optouts = OptOuts(kept, Audit(database, folder))
        await optouts.load()
        for portal in (1, 2):
            await optouts.add(ALICE, portal)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(optouts.remove(ALICE, EVERYWHERE))
            tasks.create_task(optouts.add(BEA, 1))
            tasks.create_task(optouts.add(ALICE, 2))
        assert await kept.rows() == {(BEA, 1), (ALICE, 2)}
        assert [optouts.cover(one, 1) for one in (ALICE, BEA)] == [False, True]
        assert optouts.cover(ALICE, 2)


async def test_an_opt_out_that_was_cut_off_holds_and_is_stored_when_it_is_said_again(
    database_settings: DatabaseSettings, folder: Path
) -> None:
    async with Database.open(database_settings, folder, SystemClock()) as database:
        kept = OptOutStore(database, folder)
        optouts = OptOuts(kept, Audit(database, folder))
        await optouts.load()
        admin = await asyncpg.connect(database_settings.url)
        try:
            await admin.execute("BEGIN; LOCK TABLE opt_out IN SHARE MODE")
            async with asyncio.TaskGroup() as tasks:
                adding = tasks.create_task(optouts.add(ALICE, 1))
                await until_one_waits(database.core)
                adding.cancel()
            await admin.execute("COMMIT")
        finally:
            admin.terminate()
        # Nobody heard whether it was stored.
        assert optouts.cover(ALICE, 1)
        await optouts.add(ALICE, 1)
        assert await kept.rows() == {(ALICE, 1)}
