"""Its processes: what ``kill -9`` leaves behind (none of ours), how many files each may open."""

import asyncio
import resource
from pathlib import Path

from bridge.demo.matrix_user import PATIENCE
from bridge.settings.records import DatabaseSettings
from tests.crash.processes import processes_of
from tests.rigs.program import trestle_program
from tests.rigs.small_disk import most_files
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


async def test_it_may_open_a_connection_for_each_of_many_people_however_it_is_started(
    folder: Path, town: Town, database_settings: DatabaseSettings
) -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    settings = town.settings_for(folder, database_settings)
    with most_files(600):
        async with trestle_program(settings, folder) as trestle:
            assert trestle.program.pid is not None
            limits = resource.prlimit(trestle.program.pid, resource.RLIMIT_NOFILE)
    assert limits == (min(hard, 65536), hard)
