"""What nobody foresaw in what is done now and then ends nothing."""

import asyncio
import logging
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from pathlib import Path

import pytest

from bridge.sdk.ids import InstanceId, RoomId, UserId
from bridge.settings.records import DatabaseSettings
from bridge.storage.pool import Database
from tests.conformance.stage import ROOM, play
from tests.core.outgoing import say
from tests.rigs.cluster import until_one_waits
from tests.rigs.owner import owner_of
from tests.rigs.scripted_homeserver import SERVER, Answer, Asked, refuse
from tests.rigs.service_manager import told_to
from tests.rigs.trestle import wait_until
from tests.storage.conftest import TurnedClock


@asynccontextmanager
async def without(database: Database, table: str) -> AsyncIterator[None]:
    """Have a table of the database away."""
    owner = await owner_of(database)
    try:
        await owner.execute(f"ALTER TABLE {table} RENAME TO elsewhere")
        yield
        await owner.execute(f"ALTER TABLE elsewhere RENAME TO {table}")
    finally:
        await owner.close()


def told(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    """What the log has of it."""
    return [one for one in caplog.records if vars(one).get("event") == "round_failed"]


async def test_a_shortened_id_that_cannot_be_stored_is_stored_later(
    database_settings: DatabaseSettings, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with play(database_settings, folder) as stage:
        parts = stage.app.parts
        async with without(parts.database, "long_id"):
            spelled = parts.namespaces.ghost(InstanceId("near"), "x" * 400)
            await wait_until(lambda: bool(told(caplog)))
        await wait_until(lambda: not parts.namespaces.new_long_ids, 20)
        assert spelled in await parts.accounts.long_ids()


async def test_what_fails_while_the_homeserver_is_greeted_is_done_later(
    database_settings: DatabaseSettings, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    room, bot, is_there = RoomId(f"!new:{SERVER}"), UserId(f"@trestle:{SERVER}"), asyncio.Event()

    def be_away(asked: Asked) -> Answer | None:
        return None if is_there.is_set() else refuse(502, "M_UNKNOWN")

    async with play(database_settings, folder, rules=[be_away], greeted=False) as stage:
        parts = stage.app.parts
        stage.homeserver.rooms[room] = {bot}
        async with without(parts.database, "bot_room"):
            is_there.set()
            await wait_until(lambda: len(told(caplog)) == 3, 20)
            assert parts.homeserver.words == "greeting it failed; the log has more"
        first, second, third = told(caplog)
        assert third.created - second.created > 1.5 * (second.created - first.created)
        assert "greeting the homeserver" in first.getMessage()
        await wait_until(lambda: parts.homeserver.words == "answers", 20)
        assert parts.routes.has_seat(bot, room)


async def test_a_homeserver_that_cannot_be_greeted_is_not_said_to_be_up(
    database_settings: DatabaseSettings, folder: Path
) -> None:
    async with play(database_settings, folder) as stage:
        parts = stage.app.parts
        value = parts.telemetry.registry.get_sample_value
        stage.homeserver.rooms[f"!new:{SERVER}"] = {f"@trestle:{SERVER}"}
        await wait_until(lambda: value("trestle_homeserver_up") == 1, 20)
        async with without(parts.database, "bot_room"):
            # As after a reload whose new bots have no accounts yet; and with no wait for the ping.
            parts.introduced, parts.receiver.turned_away = False, True
            await wait_until(lambda: value("trestle_homeserver_up") == 0, 20)
            assert parts.homeserver.words != "answers"
        await wait_until(lambda: value("trestle_homeserver_up") == 1, 20)
        assert parts.homeserver.words == "answers"


async def test_an_id_that_nothing_can_have_is_no_answer(
    database_settings: DatabaseSettings, folder: Path
) -> None:
    answers = [Answer(content={"event_id": one}) for one in ("$\0", "")]

    def be_odd(asked: Asked) -> Answer | None:
        return answers.pop() if "send" in asked.parts and answers else None

    async with play(database_settings, folder, rooms=[ROOM], rules=[be_odd]) as stage:
        await stage.app.parts.sender.put([say("hello")])
        await wait_until(lambda: not answers and not stage.app.parts.sender.waiting, 20)
        await wait_until(lambda: not list(stage.app.parts.sender.unwritten))
        assert stage.homeserver.texts(ROOM) == ["hello"]


async def test_while_the_work_of_an_hour_waits_the_service_manager_hears_of_us_for_an_hour(
    database_settings: DatabaseSettings, folder: Path
) -> None:
    clock, name = TurnedClock(), str(folder / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener, told_to(name):
        listener.bind(name)
        listener.setblocking(False)

        def hears() -> bool:
            with suppress(BlockingIOError):
                return listener.recv(4096) == b"WATCHDOG=1"
            return False

        async with play(database_settings, folder, clock=clock) as stage:
            owner = await owner_of(stage.app.parts.database)
            try:
                await owner.execute("BEGIN; LOCK TABLE tally")
                clock.ahead = timedelta(days=1)
                await until_one_waits(owner)
                while hears():
                    pass
                for _ in range(2):
                    await wait_until(hears, 10)
                stage.app._turned_at -= 3600
                while hears():  # What was said before.
                    pass
                value = stage.app.parts.telemetry.registry.get_sample_value
                lag = "trestle_loop_lag_seconds_count"
                turns = value(lag) or 0.0
                await wait_until(lambda: (value(lag) or 0.0) > turns + 1, 10)
                assert not hears()
            finally:
                owner.terminate()
