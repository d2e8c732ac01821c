"""``SIGTERM`` ends it within ten seconds, with everything in hand finished or written down."""

import asyncio
import os
import signal
from pathlib import Path
from time import monotonic

from bridge.settings.records import DatabaseSettings
from tests.crash.sinks import ROOMS, Sinks, sinks
from tests.rigs.cluster import run_cluster
from tests.rigs.trestle import wait_until

LIMIT = 30.0
"""Trestle ends after ten seconds, whatever it is doing; a busy machine takes longer."""
ITEMS = 1500
"""In one lane: more than it holds in memory."""
SLOW, HANGING, STUBBORN, FULL, QUIET = ROOMS


async def test_modules_that_are_slow_hang_or_will_not_listen_and_full_lanes_do_not_keep_it(
    database_settings: DatabaseSettings, folder: Path
) -> None:
    async with sinks(folder, database_settings) as stage:
        await stage.unruly.deliver([stage.say(0, "slow 3", SLOW)])
        full = [stage.say(n, f"slow 0.02 {n}", FULL) for n in range(1, 10)]
        full += [stage.say(n, f"line {n}", FULL) for n in range(10, ITEMS)]
        await stage.unruly.deliver(full)
        await stage.unruly.deliver([
            stage.say(ITEMS, "hang", HANGING), stage.say(ITEMS + 1, "stubborn", STUBBORN),
            *(stage.say(ITEMS + 2 + n, f"line {n}", SLOW) for n in range(5)),
        ])  # fmt: skip
        await wait_until(lambda: stage.written > 3)
        assert await stop(stage) < LIMIT
        await stage.trestle.start()
        wanted = {room: stage.said[room] for room in (SLOW, FULL)}
        await wait_until(lambda: all(stage.shown(room) == texts for room, texts in wanted.items()))
        assert await stop(stage) < LIMIT


async def test_a_homeserver_that_does_not_answer_does_not_keep_it(
    database_settings: DatabaseSettings, folder: Path
) -> None:
    never = asyncio.Event()
    async with sinks(folder, database_settings) as stage:
        homeserver = stage.homeserver
        homeserver.hold = lambda asked: never if "send" in asked.parts else None
        await stage.unruly.deliver([stage.say(n, f"say {n}", QUIET) for n in range(40)])
        await wait_until(lambda: bool(homeserver.said))
        assert await stop(stage) < LIMIT
        never.set()
        await stage.trestle.start()
        await homeserver.wait_until(lambda: len(homeserver.texts(QUIET)) >= 40)
        assert homeserver.texts(QUIET) == [f"say {n}" for n in range(40)]


async def test_a_database_that_is_away_does_not_keep_it(folder: Path) -> None:
    async with run_cluster() as cluster, sinks(folder, await cluster.fresh()) as stage:
        await stage.unruly.deliver([stage.say(n, f"slow 0.1 {n}", QUIET) for n in range(30)])
        await wait_until(lambda: stage.written > 2)
        await cluster.server.stop()
        assert await stop(stage) < LIMIT
        await cluster.server.start()
        await stage.trestle.start()
        await wait_until(lambda: stage.shown(QUIET) == stage.said[QUIET])
        assert await stop(stage) < LIMIT


async def stop(stage: Sinks) -> float:
    """Tell it to stop; give the seconds that it took."""
    program = stage.trestle.program
    assert program.pid is not None
    began = monotonic()
    os.kill(program.pid, signal.SIGTERM)
    await wait_until(lambda: program.exit_code is not None)
    return monotonic() - began
