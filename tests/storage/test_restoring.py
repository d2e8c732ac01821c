"""A restore that does not come to its end by itself; the cut ones are in test_restore_cut.py."""

import asyncio
from pathlib import Path

import pytest

from bridge.sdk.errors import TrestleError
from bridge.storage.archive import reading
from bridge.storage.restore import Restore
from tests.rigs.cluster import Cluster
from tests.storage.conftest import TurnedClock
from tests.storage.everything import (
    EMPTY,
    Full,
    everything,
    files_of,
    fill,
    put,
    seeing_all,
)


async def test_a_restore_that_fails_leaves_nothing_behind(
    full: Full, cluster: Cluster, folder: Path, clock: TurnedClock
) -> None:
    there = await cluster.fresh()
    await fill(there, folder / "state", clock)
    before, files = await everything(there, EMPTY), files_of(folder / "state")

    def stop(*_: object) -> None:
        raise TrestleError("the cable is pulled")

    with reading(full.file) as backup:
        restore = Restore(backup, there, folder / "state", clock=clock, force=True, report=stop)
        with pytest.raises(TrestleError, match="cable"):
            await restore.run()
    assert (await everything(there, EMPTY), files_of(folder / "state")) == (before, files)
    assert list((folder / "state").glob("before-*")) == []


async def test_a_restore_does_not_wait_for_a_backup_that_is_being_made(
    full: Full, cluster: Cluster, folder: Path, clock: TurnedClock
) -> None:
    source, state = await cluster.fresh(), folder / "state"
    await fill(source, state, clock)
    async with asyncio.timeout(30), seeing_all(source, state) as reading_on:
        await reading_on.execute("BEGIN; SELECT FROM lease")
        await put(full.file, source, state, clock, force=True)
        assert reading_on.is_closed()
