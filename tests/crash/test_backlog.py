"""A backlog of two hundred thousand: how fast it drains, and what it takes of the memory."""

import asyncio
import logging
from functools import partial
from pathlib import Path
from time import monotonic

import pytest

from bridge.settings.records import DatabaseSettings
from tests.crash.processes import resident
from tests.crash.sinks import ALICE, ROOMS, Sinks, sinks
from tests.rigs.scale import SCALE, scaled
from tests.rigs.sink import read_sink
from tests.rigs.unruly_homeserver import message

BACKLOG = scaled(200_000)
SIZE = 100
MIB = 1024 * 1024
LEAST_RATE = 2000
MOST_GROWTH = 48 * MIB
"""What is in memory at once is bounded: fifty thousand events. In the long form that is reached
long before the end, and what comes after it must not show."""

log = logging.getLogger(__name__)


@pytest.mark.parametrize("consumer", ["bot", "portal"])
async def test_a_backlog_drains_fast_in_little_memory(
    consumer: str, database_settings: DatabaseSettings, folder: Path
) -> None:
    limits = {"item_deadline": 900.0}
    async with sinks(
        folder, database_settings, consumer=consumer, hold=True, limits=limits
    ) as stage:
        stage.unruly.keep_record = False
        if consumer == "portal":
            await bridge_rooms(stage)
        memory: list[int] = []
        began = monotonic()
        for number in range(BACKLOG // SIZE):
            await stage.unruly.deliver(stage.some(number, SIZE))
            if number % 20 == 0:
                memory.append(resident(stage.trestle.program.pid))
        landed = monotonic() - began
        Path(f"{stage.ledger}.hold").unlink()
        began = monotonic()
        await watch(stage, memory)
        drained = monotonic() - began
    early = memory[: max(1, len(memory) // 4)]
    growth = max(memory) - max(early)
    log.info(
        "%s: %d landed at %.0f/s, drained at %.0f/s, RSS %s MiB, grown by %.1f MiB", consumer,
        BACKLOG, BACKLOG / landed, BACKLOG / drained, [one // MIB for one in memory[::5]],
        growth / MIB,
    )  # fmt: skip
    for place, said in stage.said.items():
        assert read_sink(stage.ledger, place) == said
    assert growth < MOST_GROWTH
    if SCALE >= 50:
        assert BACKLOG / drained >= LEAST_RATE


async def watch(stage: Sinks, memory: list[int]) -> None:
    """Return when everything is written down."""
    try:
        async with asyncio.timeout(60 + BACKLOG / 100):
            while stage.written < stage.count:
                memory.append(resident(stage.trestle.program.pid))
                await asyncio.sleep(0.2)
    except TimeoutError as error:
        raise AssertionError(f"{stage.written} of {stage.count} came out") from error


async def bridge_rooms(stage: Sinks) -> None:
    """Bridge every room to a chat that is called like it; the bot is not in it."""

    def is_bridged(room: str) -> bool:
        return any("is bridged" in one for one in stage.homeserver.texts(room))

    for number, room in enumerate(ROOMS):
        command = f"!trestle bridge sink {room}"
        await stage.unruly.deliver([message(command, 10**9 + number, room, ALICE)])
        await stage.homeserver.wait_until(partial(is_bridged, room))
