"""The database stopped at once, again and again, under load."""

import asyncio
import logging
import os
import signal
from pathlib import Path
from time import monotonic

from tests.crash.sinks import ROOMS, Sinks, sinks
from tests.rigs.scale import SCALE, scaled
from tests.rigs.sink import read_sink
from tests.rigs.trestle import wait_until

SIZE = 10
PER_SECOND = 50
"""Transactions: 500 events a second."""
STOPS = max(2, scaled(20))
BETWEEN = 300 if SCALE >= 10 else 75
"""Transactions from one stop to the next."""
LEAST_RATE = 450
"""Events a second over the whole long form, outages and what is made up for included."""

log = logging.getLogger(__name__)


async def test_a_database_stopped_at_once_under_load_loses_nothing_and_is_back_soon(
    folder: Path,
) -> None:
    async with sinks(folder) as stage, asyncio.TaskGroup() as group:
        transactions = (STOPS + 1) * BETWEEN
        began = monotonic()
        feeding = group.create_task(
            stage.unruly.stream(
                lambda number: stage.some(number, SIZE), transactions, per_second=PER_SECOND
            )
        )
        waits = [await stop_once(stage, number * BETWEEN) for number in range(1, STOPS + 1)]
        await feeding
        rate = transactions * SIZE / (monotonic() - began)
        await wait_until(lambda: stage.written >= stage.count)
    log.info("acknowledged again after %s s; %.0f events/s", [f"{w:.1f}" for w in waits], rate)
    assert max(waits) < 60, waits
    if SCALE >= 50:
        assert rate >= LEAST_RATE
    for room in ROOMS:
        assert read_sink(stage.ledger, room) == stage.said[room]
    assert "item_parked" not in stage.trestle.log_text()


async def stop_once(stage: Sinks, after: int) -> float:
    """Stop it; give the seconds from its return until a transaction is acknowledged."""
    puts = stage.unruly.puts
    await wait_until(lambda: sum(put.status == 200 for put in puts) >= after, 120)
    pid, state = database(stage)
    assert state == "ready"
    os.kill(pid, signal.SIGQUIT)
    await wait_until(lambda: database(stage)[0] not in (0, pid))
    await wait_until(lambda: database(stage)[1] == "ready")
    back = monotonic()
    refused = len(puts)
    await wait_until(lambda: any(p.status == 200 for p in puts[refused:]))
    first = min(put.at for put in puts[refused:] if put.status == 200)
    return first - back


def database(stage: Sinks) -> tuple[int, str]:
    """The server's process and its own word for its state."""
    file = stage.settings.state_dir / "postgres" / "data" / "postmaster.pid"
    try:
        lines = file.read_text().splitlines()
        return int(lines[0]), lines[7].strip()
    except (FileNotFoundError, IndexError, ValueError):
        return 0, ""
