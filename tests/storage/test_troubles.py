"""What the status room shows, as it is read back."""

import asyncio
from dataclasses import replace

import asyncpg

from bridge.demo.matrix_user import PATIENCE
from bridge.model import Trouble
from bridge.sdk.errors import TemporaryFailure
from bridge.sdk.ids import EventId
from bridge.storage.keys import DayKeys
from bridge.storage.outbox import Outbox
from bridge.storage.pool import Database
from bridge.storage.troubles import TroubleStore
from tests.storage.rows import entry, sent


async def test_the_event_of_a_line_is_learned_from_the_outbox_if_the_database_stays(
    database: Database, day_keys: DayKeys, admin: asyncpg.Connection
) -> None:
    outbox, store = Outbox(database, day_keys), TroubleStore(database)
    await outbox.open()
    (said,) = await outbox.add([entry("line")])
    await outbox.finish([sent(said, "$line")])
    trouble = Trouble(
        key="disk", sentence="it is full", since=database.clock.now(), said="it is full",
        revision=1, day=said.day, transaction_id="line",
    )  # fmt: skip
    await store.keep(trouble)
    async with admin.transaction():
        await admin.execute("LOCK TABLE outbox IN ACCESS EXCLUSIVE MODE")
        async with asyncio.TaskGroup() as group:
            reading = group.create_task(outcome(store))
            async with asyncio.timeout(PATIENCE):
                while not await admin.fetchval(
                    "SELECT count(pg_terminate_backend(pid)) FROM pg_locks "
                    "WHERE NOT granted AND relation = 'outbox'::regclass"
                ):
                    await asyncio.sleep(0.01)
    assert isinstance(reading.result(), TemporaryFailure)
    assert await store.all() == [replace(trouble, event_id=EventId("$line"))]
    await admin.execute("DELETE FROM outbox")
    assert await store.all() == [replace(trouble, event_id=EventId("$line"))]


async def outcome(store: TroubleStore) -> object:
    try:
        return await store.all()
    except TemporaryFailure as error:
        return error
