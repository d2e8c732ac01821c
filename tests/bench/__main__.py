"""Runs both sides in turn and prints the table of ratios."""

import argparse
import asyncio
import shutil
import statistics
import sys
import tempfile
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from bridge.demo.processes import Program, free_port, wait_until_listening
from tests.bench.load import send, transaction

TOKEN = "bench-token-of-the-homeserver"
SIDES = ("trestle", "mautrix")
SIZES = {100: 20_000, 10: 6_000, 1: 1_200}
"""Events a transaction to events a round."""
WAIT_SECONDS = 120.0
"""Within which all that was sent must have reached the module."""


@dataclass
class Figures:
    """What one side showed at one size, a value a round."""

    rate: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    acknowledge: list[float] = field(default_factory=list)


async def _count(port: int, query: str = "") -> Any:
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"http://127.0.0.1:{port + 1}/count{query}") as response,
    ):
        return await response.json()


async def _wait_until_counted(port: int, events: int) -> None:
    async with asyncio.timeout(WAIT_SECONDS):
        while (await _count(port))["events"] < events:
            await asyncio.sleep(0.002)


async def _round(port: int, size: int, events: int, figures: Figures) -> None:
    bodies = [transaction(size) for _ in range(events // size)]
    before = await _count(port)
    clock = asyncio.get_running_loop().time
    began = clock()
    sent = await send(port, TOKEN, bodies, size)
    await _wait_until_counted(port, before["events"] + sent.events)
    seconds = clock() - began
    await asyncio.sleep(0.2)  # What is written in batches behind it belongs to it.
    after = await _count(port)
    figures.rate.append(sent.events / seconds)
    figures.cpu.append((after["cpu"] - before["cpu"]) / sent.events * 1000)
    figures.acknowledge += sent.acknowledge


async def _start(side: str, folder: Path, stack: AsyncExitStack) -> int:
    port = free_port()
    program = Program(side, folder / f"{side}.log")
    place = folder / side
    place.mkdir(mode=0o711)
    await program.start(
        [sys.executable, "-m", "tests.bench.servers", side, str(port), TOKEN, str(place)]
    )
    stack.push_async_callback(program.stop)
    await wait_until_listening(program, port, 60)
    async with asyncio.timeout(60):
        while True:
            try:
                await send(port, TOKEN, [transaction(1)], 1)
            except RuntimeError:
                await asyncio.sleep(0.2)
            else:
                return port


async def main(rounds: int) -> int:
    """Run, print, and say by the exit code whether the bars hold."""
    folder = Path(tempfile.mkdtemp(prefix="trestle-bench-"))
    folder.chmod(0o711)
    found = {(side, size): Figures() for side in SIDES for size in SIZES}
    async with AsyncExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        ports = {side: await _start(side, folder, stack) for side in SIDES}
        for size, events in SIZES.items():
            for number in range(rounds + 1):
                for side in SIDES:
                    warm_up = Figures() if number == 0 else found[side, size]
                    await _round(ports[side], size, events, warm_up)
        port = ports["trestle"]
        fast = await send(port, TOKEN, [transaction(1) for _ in range(2500)], 1, pace=0.002)
        through = await _way_to_module(port)
    held = _report(found)
    return 0 if _report_times(fast.acknowledge, through) and held else 1


async def _way_to_module(port: int) -> list[float]:
    """Seconds from the homeserver's request to the module, at 50 events a second."""
    number = 250
    before = (await _count(port))["events"]
    sent = await send(port, TOKEN, [transaction(1) for _ in range(number)], 1, pace=0.02)
    await _wait_until_counted(port, before + number)
    came = (await _count(port, "?last_at"))["last_at"][-number:]
    return [at - begun for at, begun in zip(came, sent.began, strict=True)]


def _report(found: dict[tuple[str, int], Figures]) -> bool:
    bars = {100: (4.0, 1.0), 10: (1.1, 1.0), 1: (0.5, None)}
    print(f"{'events a':>10} {'events/s':>22} {'':>7} {'CPU s per 1,000 events':>24}")
    print(
        f"{'transact.':>10} {'Trestle':>11} {'mautrix':>10} {'ratio':>7} "
        f"{'Trestle':>13} {'mautrix':>10} {'ratio':>7}"
    )
    good = True
    for size in SIZES:
        ours, theirs = found["trestle", size], found["mautrix", size]
        rate = statistics.median(ours.rate) / statistics.median(theirs.rate)
        cpu = statistics.median(ours.cpu) / statistics.median(theirs.cpu)
        least, most = bars[size]
        held = rate >= least and (most is None or cpu <= most)
        good = good and held
        print(
            f"{size:>10} {statistics.median(ours.rate):>11,.0f} "
            f"{statistics.median(theirs.rate):>10,.0f} {rate:>7.2f} "
            f"{statistics.median(ours.cpu):>13.3f} {statistics.median(theirs.cpu):>10.3f} "
            f"{cpu:>7.2f}  {'holds' if held else 'DOES NOT HOLD'}"
        )
    return good


def _report_times(acknowledge: list[float], through: list[float]) -> bool:
    good = True
    for title, seconds, share, bar in (
        ("time to 200 at 500 events/s", acknowledge, 0.99, 50.0),
        ("Matrix to module at 50 events/s", through, 0.5, 3.0),
    ):
        times = sorted(seconds)
        found = times[int(len(times) * share)] * 1000
        good = good and found < bar
        print(
            f"{title}: p{share * 100:.0f} {found:.1f} ms (bar {bar:.0f} ms)  "
            f"{'holds' if found < bar else 'DOES NOT HOLD'}"
        )
    return good


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    sys.exit(asyncio.run(main(parser.parse_args().rounds)))
