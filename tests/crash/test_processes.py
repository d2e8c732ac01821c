"""What ``kill -9`` leaves behind: no process of ours."""

import asyncio
from pathlib import Path

from bridge.demo.matrix_user import PATIENCE
from bridge.settings.records import DatabaseSettings
from tests.crash.processes import processes_of
from tests.rigs.program import trestle_program
from tests.rigs.trestle import Town


async def test_no_process_of_ours_outlives_a_kill(folder: Path, town: Town) -> None:
    settings = town.settings_for(folder, DatabaseSettings())
    async with trestle_program(settings, folder) as trestle:
        before = processes_of(settings.state_dir)
        assert before
        await trestle.kill()
        async with asyncio.timeout(PATIENCE):
            while processes_of(settings.state_dir):
                await asyncio.sleep(0.05)
        await trestle.start()
    assert not processes_of(settings.state_dir)
