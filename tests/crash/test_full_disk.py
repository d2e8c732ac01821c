"""The disk of the database fills up under load, and is given room again."""

import asyncio
import logging
from pathlib import Path

from bridge.demo.matrix_user import PATIENCE
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
