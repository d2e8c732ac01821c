"""What a killed process did is known to the next one, and to the one after that."""

import asyncio
from pathlib import Path

import orjson
import pytest

from bridge.matrix.body import parse_transaction
from bridge.sdk.errors import TemporaryFailure
from bridge.settings.records import DatabaseSettings
from tests.core.process import EVENT, Listener, Process, processes


async def accept(process: Process) -> None:
    """Have it take the event, and hand it on."""
    process.intake.open()
    await process.intake.accept(parse_transaction(orjson.dumps({"events": [EVENT]}), "1"))
    await asyncio.sleep(0)  # It is handed on in the next turn of the loop.


async def test_what_one_of_two_has_done_is_known_after_the_second_kill_too(
    database_settings: DatabaseSettings, folder: Path
) -> None:
    away = TemporaryFailure("the network is away", retry_after=600)
    async with processes(database_settings, folder) as kept:
        first = [Listener("bot:quick"), Listener("portal:1", away)]
        process = Process(*kept, folder, first)
        await accept(process)
        await process.work_until_heard()

        second = [Listener("bot:quick"), Listener("portal:1", away)]
        await Process(*kept, folder, second).recover()

        third = [Listener("bot:quick"), Listener("portal:1")]
        process = Process(*kept, folder, third)
        await process.recover()
        third[0].heard.set()
        await process.work_until_heard()
        assert [len(one.again) for one in (*first, *second, *third)] == [1, 1, 0, 0, 0, 1]


@pytest.mark.parametrize("kills", [1, 2])
async def test_what_may_have_been_sent_is_said_to_be_so_however_often_we_are_killed(
    database_settings: DatabaseSettings, folder: Path, kills: int
) -> None:
    async with processes(database_settings, folder) as kept:
        # It ends in the middle: nobody knows how far it came.
        process = Process(*kept, folder, [Listener("portal:1", hangs=True)])
        await accept(process)
        await process.work_until_heard()

        for _ in range(kills):
            away = Listener("portal:1", TemporaryFailure("not connected yet", retry_after=600))
            await Process(*kept, folder, [away]).recover()
            assert away.again == [True]

        last = Listener("portal:1")
        process = Process(*kept, folder, [last])
        await process.recover()
        assert last.again == [True]
