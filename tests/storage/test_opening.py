"""Opening the database: only one instance, no proxy in between, the right schema, few rights."""

import asyncio
import os
import signal
from operator import itemgetter
from pathlib import Path

import asyncpg
import pytest

from bridge.model import Outgoing, SendKind, Source, SystemClock
from bridge.sdk.errors import ConfigError, TemporaryFailure
from bridge.sdk.ids import RoomId, UserId
from bridge.settings.records import DatabaseSettings
from bridge.storage.door import at_the_door
from bridge.storage.journal import Journal
from bridge.storage.keys import DayKeys
from bridge.storage.lock import refuse_pooling_proxy
from bridge.storage.outbox import Outbox
from bridge.storage.pool import Database
from bridge.storage.retention import Retention
from bridge.storage.schema import Connection
from tests.rigs.cluster import Cluster
from tests.rigs.pgbouncer import pooled
from tests.rigs.program import TrestleProgram
from tests.rigs.trestle import make_settings


async def refusal(settings: DatabaseSettings, folder: Path) -> str:
    """Why the database cannot be opened; it is said and not waited for."""
    async with asyncio.timeout(30):
        with pytest.raises(ConfigError) as refused:
            async with Database.open(settings, folder, SystemClock()):
                raise AssertionError("it must not open")
    assert refused.value.path == "database.url"
    return refused.value.reason


# --- between us and the database ---


@pytest.mark.parametrize("mode", ["transaction", "statement"])
async def test_a_pool_of_transactions_is_refused(
    cluster: Cluster, migrated_settings: DatabaseSettings, folder: Path, mode: str
) -> None:
    async with pooled(cluster, migrated_settings, mode) as settings:
        assert "a proxy that pools transactions or statements" in await refusal(settings, folder)


async def test_a_pool_of_transactions_is_refused_also_while_others_use_it(
    cluster: Cluster, migrated_settings: DatabaseSettings, folder: Path
) -> None:
    async with pooled(cluster, migrated_settings, "transaction") as settings:
        idle = [await asyncpg.connect(settings.url, statement_cache_size=0) for _ in range(5)]
        busy = [one.transaction() for one in idle[:3]]
        for transaction in busy:
            await transaction.start()
        assert "a proxy that pools transactions or statements" in await refusal(settings, folder)
        for one in idle:
            await one.close()


async def test_a_pool_of_sessions_works_and_keeps_the_lock(
    cluster: Cluster, migrated_settings: DatabaseSettings, folder: Path
) -> None:
    clock = SystemClock()
    async with pooled(cluster, migrated_settings, "session") as settings:
        async with Database.open(settings, folder, clock) as database:
            journal = Journal(database, DayKeys(folder, clock))
            await journal.open()
            row = await journal.land(
                source=Source.TRANSACTION, body=b"{}", event_keys=b"", progress=b"", done=False
            )
            assert [one.id async for one in journal.unfinished()] == [row]
            await journal.close()
            outbox = Outbox(database, DayKeys(folder, clock))
            await outbox.open()
            entry = Outgoing(room=RoomId("!r"), user=UserId("@u:hs"), kind=SendKind.EVENT,
                             content={}, transaction_id="t")  # fmt: skip
            assert len(await outbox.add([entry])) == 1
            async with database.as_subject("@u:hs") as connection:
                assert await connection.fetchval("SELECT current_user") == "trestle_subject"
            other = await refusal(migrated_settings, folder / "other")
            assert "another Trestle is at work" in other
        # What it let go of is free at once.
        async with Database.open(migrated_settings, folder, clock):
            pass


# --- a database that lets nobody write ---


async def test_a_database_that_lets_nobody_write_is_told_as_such(
    migrated_settings: DatabaseSettings, folder: Path
) -> None:
    admin = await asyncpg.connect(migrated_settings.url)
    name = await admin.fetchval("SELECT current_database()")
    await admin.execute(f'ALTER DATABASE "{name}" SET default_transaction_read_only = on')
    assert "lets nobody write: cannot execute" in await refusal(migrated_settings, folder)
    await admin.execute(f'ALTER DATABASE "{name}" RESET default_transaction_read_only')
    await admin.close()


async def test_one_that_lets_nobody_write_for_a_while_keeps_its_lock(database: Database) -> None:
    connection = database._lock._held()
    await connection.execute("SET default_transaction_read_only = on")
    await database._lock._beat()
    assert database._lock.is_held


async def test_a_server_that_says_no_more_as_the_lock_is_taken_again_is_asked_anew(
    database: Database, admin: Connection
) -> None:
    database._lock.limit = 2.0
    async with asyncio.timeout(20), admin.transaction():
        await admin.execute("LOCK TABLE lease")
        assert not await database._lock.take_again()


async def test_of_one_that_stands_still_it_is_said_that_it_does_not_answer(
    database: Database,
) -> None:
    with pytest.raises(TemporaryFailure, match=r"is away: no answer in time$"), at_the_door():
        await database.core.fetchval("SELECT pg_sleep(60)", timeout=0.1)


async def test_one_that_falls_silent_while_we_look_for_a_proxy_is_not_waited_for(
    migrated_settings: DatabaseSettings,
) -> None:
    connection = await asyncpg.connect(migrated_settings.url)
    other = await asyncpg.connect(migrated_settings.url)
    process = other.get_server_pid()

    def stop(query: asyncpg.connection.LoggedQuery) -> None:
        if query.query.startswith("BEGIN"):
            os.kill(process, signal.SIGSTOP)

    other.add_query_logger(stop)
    try:
        async with asyncio.timeout(10):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.5):
                    await refuse_pooling_proxy(connection, other)
    finally:
        os.kill(process, signal.SIGCONT)
        await connection.close()


# --- other instances ---


async def test_a_second_instance_refuses_and_does_not_wait_for_the_first(
    database: Database, migrated_settings: DatabaseSettings, folder: Path
) -> None:
    assert "another Trestle is at work on this" in await refusal(migrated_settings, folder / "2")


async def test_a_second_instance_on_the_same_folder_refuses(
    database: Database, database_settings: DatabaseSettings, folder: Path
) -> None:
    with pytest.raises(ConfigError, match=f"another Trestle is at work in {folder}"):
        async with Database.open(database_settings, folder, SystemClock()):
            raise AssertionError("it must not open")


async def test_a_second_program_ends_with_the_reason(
    database: Database, migrated_settings: DatabaseSettings, folder: Path
) -> None:
    other = folder / "other"
    other.mkdir()
    second = TrestleProgram(make_settings(other, database=migrated_settings), other, {})
    with pytest.raises(AssertionError, match="ended with 75"):
        await second.start(tries=1)  # A second try would end likewise.
    assert "another Trestle is at work on this database; stop it first" in second.log_text()


async def test_what_a_dead_machine_left_in_the_middle_of_holds_up_nothing(
    migrated_settings: DatabaseSettings, folder: Path
) -> None:
    clock = SystemClock()
    left = await asyncpg.connect(
        migrated_settings.url, server_settings={"application_name": "trestle"}
    )
    await left.execute("BEGIN; LOCK TABLE journal, message IN ACCESS EXCLUSIVE MODE")
    somebody_else = await asyncpg.connect(migrated_settings.url)
    async with asyncio.timeout(30), Database.open(migrated_settings, folder, clock) as database:
        await Retention(database, DayKeys(folder, clock)).run_once()
        assert left.is_closed()
        assert await somebody_else.fetchval("SELECT true")
    await somebody_else.close()


async def test_the_lock_of_a_dead_machine_is_free_after_eleven_seconds(
    cluster: Cluster, migrated_settings: DatabaseSettings, folder: Path
) -> None:
    settings = cluster.by_tcp(migrated_settings)
    async with Database.open(settings, folder, SystemClock()) as database, asyncio.timeout(30):
        while not any(seconds <= 5 for seconds in keepalive_seconds(cluster.port)):
            await asyncio.sleep(0.02)
        # The server's kernel asks after five seconds, and three times in six more.
        asks = await database._lock._held().fetch(
            "SELECT setting FROM pg_settings WHERE name LIKE 'tcp_keepalives_%' ORDER BY name"
        )
    assert [one["setting"] for one in asks] == ["3", "5", "2"]  # Count, idle, interval.


def keepalive_seconds(port: int) -> list[float]:
    """In how many seconds the kernel asks the other side of each connection for life."""
    found = []
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        local, state, timer = itemgetter(1, 3, 5)(line.split())
        kind, _, ticks = timer.partition(":")
        if int(local.rpartition(":")[2], 16) == port and (state, kind) == ("01", "02"):
            found.append(int(ticks, 16) / os.sysconf("SC_CLK_TCK"))
    return found
