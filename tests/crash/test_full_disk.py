"""The disk of the database fills up under load, and is given room again."""

import asyncio
import logging
from pathlib import Path

import pytest

from bridge.demo.matrix_user import PATIENCE
from bridge.model import SystemClock
from bridge.sdk.errors import NotNow
from bridge.settings.records import DatabaseSettings
from bridge.storage.archive import reading
from bridge.storage.backup import back_up
from bridge.storage.pool import Database
from tests.crash.sinks import ROOMS, Sinks, sinks
from tests.rigs.scale import scaled
from tests.rigs.sink import read_sink
from tests.rigs.small_disk import SmallDisk, small_disk
from tests.rigs.trestle import wait_until

SIZE = 10
PER_SECOND = 20
"""Transactions: 200 events a second."""
TIMES = scaled(20)
BETWEEN = 40
"""Transactions that are taken from one full disk to the next."""
REFUSED = 3
"""Attempts that fail before there is room again."""

log = logging.getLogger(__name__)


async def test_what_a_full_disk_refuses_is_taken_when_there_is_room_and_nothing_is_lost(
    folder: Path,
) -> None:
    async with (
        small_disk(folder / "state", mebibytes=320) as disk,
        sinks(folder) as stage,
        asyncio.TaskGroup() as group,
    ):
        feeding = group.create_task(
            stage.unruly.stream(
                lambda number: stage.some(number, SIZE),
                (TIMES + 1) * BETWEEN,
                per_second=PER_SECOND,
            )
        )
        for number in range(1, TIMES + 1):
            await fill_once(stage, disk, number * BETWEEN)
        await feeding
        await wait_until(lambda: stage.written >= stage.count)
        words = stage.trestle.log_text()
    for room in ROOMS:
        assert read_sink(stage.ledger, room) == stage.said[room]
    assert "item_parked" not in words


async def test_a_backup_says_that_it_is_the_disk_of_the_database_that_is_full(
    folder: Path,
) -> None:
    embedded, clock, file = DatabaseSettings(), SystemClock(), folder / "backup"
    async with small_disk(folder / "disk", mebibytes=320) as disk:
        state = disk.folder / "state"
        async with Database.open(embedded, state, clock):
            disk.fill()
            with pytest.raises(NotNow, match=r"has no room on its disk .*; no backup was made"):
                await back_up(file, embedded, state, clock=clock, server_name="hs")
            assert not list(folder.glob("*backup*"))
            disk.empty()
            await back_up(file, embedded, state, clock=clock, server_name="hs")
    with reading(file) as found:
        assert found.manifest.server_name == "hs"


async def fill_once(stage: Sinks, disk: SmallDisk, after: int) -> None:
    """Fill it, wait until nothing is taken, and make room."""
    puts = stage.unruly.puts
    await wait_until(lambda: sum(put.status == 200 for put in puts) >= after, 120)
    async with asyncio.timeout(PATIENCE):
        while any(put.status == 200 for put in puts[-REFUSED:]):
            disk.fill()  # The database frees room of its own now and then.
            await asyncio.sleep(0.05)
    log.info("full after %d attempts", len(puts))
    assert {put.status for put in puts[-REFUSED:]} == {503}
    disk.empty()
    seen = len(puts)
    await wait_until(lambda: any(put.status == 200 for put in puts[seen:]))
