"""``make bench-irc``: Trestle beside heisenbridge, through one real ngIRCd, in one run."""

import argparse
import asyncio
import shutil
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from statistics import median
from time import perf_counter

import orjson
import uvloop

from tests.bench.commits import Commits, commits
from tests.bench.homeserver import Heard
from tests.bench.irc_crowd import WAIT_SECONDS, Person, person
from tests.bench.irc_report import Figures, Memory, report
from tests.bench.irc_sides import CHANNELS, Side, heisenbridge, person_id, said, trestle
from tests.bench.load import send
from tests.bench.processes import children_of, cpu_of, memory_of
from tests.rigs.ngircd import run_ngircd

CONNECTIONS = 100
MORE_CONNECTIONS = 500
PACE = 0.02
A_TRANSACTION = 100
A_TURN = 50
"""Steady lines of one side before the other's turn: a machine is fast and slow by the minute, and
both must meet the same one."""
_NUMBERS = count(1)


@dataclass(slots=True)
class Crowd:
    """Those on IRC: one hears all, two speak in each channel."""

    listener: Person
    talkers: list[Person] = field(default_factory=list)


def _texts(number: int, what: str) -> list[str]:
    return [f"{what} {next(_NUMBERS):07d}: so that it has some length" for _ in range(number)]


def _cpu(side: Side) -> float:
    return cpu_of({side.pid} | children_of(side.pid))


class Stage:
    """One side with the people who talk to it."""

    def __init__(self, side: Side, crowd: Crowd) -> None:
        self.side = side
        self._crowd = crowd

    async def wake(self, first: int, end: int) -> None:
        """Have people of the Matrix side connect, and be in their channels."""
        side, listener = self.side, self._crowd.listener
        _say(f"{side.name}: {end - first} people connect ...")
        await listener.wait_until_users(1)
        before, heard = listener.users, len(listener.heard)
        await self._put([side.wake(one) for one in range(first, end)])
        await listener.wait_until_users(before + end - first)
        await listener.wait_until(lambda: len(listener.came) >= min(end, side.seats))
        if side.greets:
            await listener.wait_until_heard(heard + end - first)

    async def _put(
        self, events: Sequence[object], *, size: int = 1, pace: float = 0.0
    ) -> list[float]:
        bodies = [
            orjson.dumps({"events": events[at : at + size]}) for at in range(0, len(events), size)
        ]
        return (await send(self.side.port, self.side.token, bodies, size, pace=pace)).began

    async def to_irc(self, number: int, *, size: int, pace: float, figures: Figures) -> None:
        """Say lines in the rooms, and see them in the channels."""
        side, listener = self.side, self._crowd.listener
        texts = _texts(number, "to IRC")
        events = [
            said(side.room(at), person_id(at % CHANNELS), text, f"$bench{text[7:14]}")
            for at, text in enumerate(texts)
        ]
        before, cpu, began = len(listener.heard), _cpu(side), perf_counter()
        async with asyncio.TaskGroup() as tasks:
            sending = tasks.create_task(self._put(events, size=size, pace=pace))
            await listener.wait_until_heard(before + number)
        starts = sending.result()
        wanted = {text: (side.channel(at), at // size) for at, text in enumerate(texts)}
        heard = listener.heard[before:]
        await self._note(figures, heard, began, cpu, number, wanted.keys())
        figures.seconds += [one.at - starts[wanted[one.text][1]] for one in heard]
        figures.reordered += _reordered(heard, {t: where for t, (where, _) in wanted.items()})

    async def to_matrix(self, number: int, *, pace: float, figures: Figures) -> None:
        """Say lines in the channels, and see them in the rooms.

        A burst comes in rounds, a line of each person in each: the two of a channel take turns.
        """
        side, crowd = self.side, self._crowd
        texts = _texts(number, "to Matrix")
        before, cpu = len(side.homeserver.heard), _cpu(side)
        began, starts = perf_counter(), {}
        overheard = len(crowd.listener.heard)
        for at, text in enumerate(texts):
            if pace:
                await asyncio.sleep(max(0.0, began + at * pace - perf_counter()))
            elif at % len(crowd.talkers) == 0:
                await crowd.listener.wait_until_heard(overheard + at)
            starts[text] = perf_counter()
            talker = crowd.talkers[at % len(crowd.talkers)]
            talker.say(f"PRIVMSG {side.channel(at)} :{text}")
        await side.homeserver.wait_until_heard(before + number, WAIT_SECONDS)
        heard = side.homeserver.heard[before:]
        await self._note(figures, heard, began, cpu, number, starts.keys())
        figures.seconds += [one.at - starts[one.text] for one in heard]
        # The order of two people in a channel is the server's affair, and what it told others.
        rooms = {text: side.room(at) for at, text in enumerate(texts)}
        told = {one.text: rooms[one.text] for one in crowd.listener.heard[overheard:]}
        figures.reordered += _reordered(heard, told)

    async def _note(
        self, figures: Figures, heard: list[Heard], began: float, cpu: float, number: int,
        wanted: Iterable[str],
    ) -> None:  # fmt: skip
        assert {one.text for one in heard} == set(wanted), "lines were lost or came twice"
        figures.rates.append(number / (heard[-1].at - began))
        await asyncio.sleep(0.3)  # What is written in batches behind it belongs to it.
        figures.cpu.append((_cpu(self.side) - cpu) / number * 1000)


def _reordered(heard: Sequence[Heard], wanted: dict[str, str]) -> int:
    """Lines that came before one that was said earlier in the same place, or elsewhere."""
    said_in, heard_in = defaultdict(list), defaultdict(list)
    for text, place in wanted.items():
        said_in[place].append(text)
    for one in heard:
        heard_in[one.room].append(one.text)
    return sum(
        text != wanted_text
        for place, texts in said_in.items()
        for text, wanted_text in zip(texts, heard_in[place], strict=False)
    )


async def _gather(side: Side, port: int) -> Crowd:
    """Have everybody on IRC, the listener first: it sees who comes."""
    channels = [side.channel(number) for number in range(CHANNELS)]
    crowd = Crowd(await person(port, f"listener{side.name[0]}", channels, listens=True))
    for number in range(2 * CHANNELS):
        nick = f"{side.name[0]}talker{number}"
        crowd.talkers.append(await person(port, nick, [side.channel(number)]))
    crowd.listener.came.clear()
    return crowd


_Found = dict[str, Figures]
"""What one side showed, by direction and pace."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """How many lines go each way in a round."""

    steady: int
    burst: int
    bursts: int = 3
    """Each way, the sides in turn: single ones differ by a third."""


async def _round(
    stages: Sequence[Stage], sizes: Sizes, found: Sequence[_Found], least: Commits
) -> None:
    """Send lines both ways, steadily and then in bursts, the sides in turn."""
    both = list(zip(stages, found, strict=True))
    _say("a round ...")
    for _ in range(sizes.steady // A_TURN):
        for stage, figures in both:
            await stage.to_irc(A_TURN, size=1, pace=PACE, figures=figures["to IRC, steady"])
        await least.take(A_TURN, PACE)
    for _ in range(sizes.steady // A_TURN):
        for stage, figures in both:
            await stage.to_matrix(A_TURN, pace=PACE, figures=figures["to Matrix, steady"])
    for stage, figures in both * sizes.bursts:
        burst = figures["to IRC, burst"]
        await stage.to_irc(sizes.burst, size=A_TRANSACTION, pace=0, figures=burst)
    for stage, figures in both * sizes.bursts:
        await stage.to_matrix(sizes.burst, pace=0, figures=figures["to Matrix, burst"])


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _memory(side: Side) -> tuple[float, float]:
    return memory_of([side.pid]), memory_of(children_of(side.pid))


async def main(rounds: int, sizes: Sizes, python: Path | None) -> int:
    """Run, print, and say by the exit code whether the bars hold."""
    folder = Path(tempfile.mkdtemp(prefix="trestle-bench-"))
    folder.chmod(0o711)
    async with AsyncExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        port = (await stack.enter_async_context(run_ngircd())).port
        sides = [
            await stack.enter_async_context(trestle(port, folder, MORE_CONNECTIONS)),
            await stack.enter_async_context(heisenbridge(port, folder, CONNECTIONS, python)),
        ]
        least = await stack.enter_async_context(commits(folder / "least"))
        memory = {side.name: Memory(idle=_memory(side)) for side in sides}
        stages = [Stage(side, await _gather(side, port)) for side in sides]
        for stage in stages:
            await stage.wake(0, CONNECTIONS)
        # To warm up. Memory is to be that of connections, and grows with what is said.
        warm = replace(sizes, bursts=1)
        await _round(stages, warm, [defaultdict(Figures) for _ in stages], least)
        least.seconds.clear()
        for stage in stages:
            memory[stage.side.name].connected = _memory(stage.side)
        found: list[_Found] = [defaultdict(Figures) for _ in stages]
        for _ in range(rounds):
            await _round(stages, sizes, found, least)
        ours = stages[0]
        await ours.wake(CONNECTIONS, MORE_CONNECTIONS)
        memory["trestle"].many = _memory(ours.side)
        many: _Found = defaultdict(Figures)
        beside = median(least.seconds)
        await _round([ours], sizes, [many], least)
        by_name = {stage.side.name: one for stage, one in zip(stages, found, strict=True)}
    return 0 if report(by_name, many, memory, beside * 1000) else 1


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steady", type=int, default=500, help="lines a round at 50 a second")
    parser.add_argument("--burst", type=int, default=5000, help="lines a round as fast as it goes")
    parser.add_argument("--python", type=Path, help="one that has heisenbridge installed already")
    arguments = parser.parse_args()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        sizes = Sizes(arguments.steady, arguments.burst)
        sys.exit(runner.run(main(arguments.rounds, sizes, arguments.python)))
