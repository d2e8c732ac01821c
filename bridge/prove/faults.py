"""What is done to the program of a proof, by chance from a seed, and the doing of it."""

import asyncio
import os
import random
import signal
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from time import monotonic

from bridge.failpoint import PLACES
from bridge.prove.ledgers import Outage
from bridge.prove.people import IrcPerson
from bridge.prove.scratch import Scratch
from bridge.sdk.errors import ConfigError, TrestleError

_BATCHED = {"marked", "settled"}
"""Places that are passed once for several messages."""
_FAILPOINT_SECONDS = 30.0
"""How long the program may take to reach the place at which it is to end."""
_BACK_SECONDS = 120.0


class FaultKind(StrEnum):
    """The closed set of what is done."""

    KILL = "Trestle killed at a random moment"
    KILL_JUST_SAID = "Trestle killed right after IRC saw a line"
    KILL_STARTING = "Trestle killed while it starts"
    KILL_DRAINING = "Trestle killed while it works off what came meanwhile"
    FAILPOINT = "Trestle killed between two durable steps"
    HOMESERVER_KILL = "the homeserver killed"
    HOMESERVER_STOP = "the homeserver stopped"
    DATABASE = "the database stopped at once"


_ENDS_US = {
    FaultKind.KILL, FaultKind.KILL_JUST_SAID, FaultKind.KILL_STARTING, FaultKind.KILL_DRAINING,
    FaultKind.FAILPOINT,
}  # fmt: skip
_PILE = 4
"""How many times as much as usual is said while the program is away, for a backlog."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One of them. ``after``: how much is said before it."""

    kind: FaultKind
    after: int
    seconds: float = 0.0
    """A moment more to wait, so that it does not come right after a word; or how long it lasts."""
    failpoint: str = ""

    def __str__(self) -> str:
        return f"{self.kind.value}{f' ({self.failpoint})' if self.failpoint else ''}"


class Gate:
    """Lets a number of things be said, and knows how many were."""

    def __init__(self) -> None:
        self._allowed = 0
        self._closed = False
        self._changed = asyncio.Condition()
        self.passed = 0

    async def open(self, count: int) -> None:
        """Let so many more pass."""
        async with self._changed:
            self._allowed += count
            self._changed.notify_all()

    async def close(self) -> None:
        """Let no more pass: what was not said by now is not said."""
        async with self._changed:
            self._closed = True
            self._changed.notify_all()

    async def enter(self) -> bool:
        """Wait to be let through. False once the gate is closed."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._closed or self.passed < self._allowed)
            if self._closed:
                return False
            self.passed += 1
            self._changed.notify_all()
            return True

    @property
    def is_used_up(self) -> bool:
        """Whether all that were let in have passed."""
        return self.passed >= self._allowed

    async def wait_until_passed(self, count: int) -> None:
        """Return when so many have passed in all."""
        async with self._changed:
            await self._changed.wait_for(lambda: self.passed >= count)


def plan(
    dice: random.Random, kinds: Mapping[FaultKind, int], each: int, count: int | None = None
) -> Iterator[Fault]:
    """The faults, for ever or so many: each of ``kinds`` as often as it says, then all again.

    There is one for every ``each`` things said. A place to end at must be named at the start of
    the program, so it follows only what ends the program. Every place gets its turn.
    """
    bag: list[FaultKind] = []
    places: list[str] = []
    before: FaultKind | None = None
    number = 0
    while count is None or number < count:
        number += 1
        if not bag:
            bag = [kind for kind, times in kinds.items() for _ in range(times)]
            dice.shuffle(bag)
        kind = next((one for one in bag if _may_follow(one, before)), FaultKind.KILL)
        if kind in bag:
            bag.remove(kind)
        before = kind
        after = max(1, int(each * dice.uniform(0.3, 0.9)))
        failpoint = ""
        if kind is FaultKind.FAILPOINT:
            places = places or dice.sample(PLACES, k=len(PLACES))
            place = places.pop()
            # More often than it passes there while it takes up what the last end left.
            times = dice.randrange(5, 8) if place in _BATCHED else dice.randrange(12, 24)
            failpoint = f"{place}:{times}"
        yield Fault(kind, after, seconds=dice.uniform(0, 0.5), failpoint=failpoint)


def _may_follow(kind: FaultKind, before: FaultKind | None) -> bool:
    """Whether it can follow the other one: three kills at the start would park something."""
    if kind is FaultKind.FAILPOINT:
        return before in _ENDS_US
    return kind is not FaultKind.KILL_STARTING or before not in (kind, None)


class Faults:
    """Does them, one after another, while people talk."""

    def __init__(
        self, scratch: Scratch, gate: Gate, watcher: IrcPerson, channels: Sequence[str], each: int
    ) -> None:
        self._scratch = scratch
        self._gate = gate
        self._watcher = watcher
        self._channels = channels
        self._each = each
        self.done: list[Fault] = []
        self.reached: set[str] = set()
        """The places between two durable steps at which the program ended."""
        self.ends = 0
        """How often the program was ended."""
        self.outages: list[Outage] = []
        self.listening = asyncio.Event()
        """Set while the bridge's own connection is in every channel, as far as we know."""
        self.listening.set()

    async def do(self, fault: Fault, then: Fault | None) -> None:
        """Do one; the program that runs after it is prepared for the next.

        Raises a ``TrestleError`` if something does not come back.
        """
        try:
            await self._do(fault, then)
        except TimeoutError as error:
            words = self._scratch.trestle.program.last_words()
            raise TrestleError(
                f"{fault}, and what was ended did not come back in time. Trestle's last words:\n"
                f"{words}"
            ) from error
        self.done.append(fault)

    async def _do(self, fault: Fault, then: Fault | None) -> None:
        start = self._gate.passed
        await self._gate.open(self._each)
        failpoint = then.failpoint if then is not None else ""
        if fault.kind is FaultKind.FAILPOINT:
            await self._until_it_ends(fault.failpoint.partition(":")[0])
            return await self._start_again(failpoint)
        if fault.kind is not FaultKind.KILL_STARTING:
            await self._gate.wait_until_passed(start + fault.after)
        match fault.kind:
            case FaultKind.KILL:
                await asyncio.sleep(fault.seconds / 5)
                await self._kill()
                await self._start_again(failpoint)
            case FaultKind.KILL_JUST_SAID:
                await self._until_a_line_is_seen()
                await self._kill()
                await self._start_again(failpoint)
            case FaultKind.KILL_STARTING:
                await self._kill()
                await self._scratch.trestle.launch()
                await asyncio.sleep(0.2 + 3 * fault.seconds)
                await self._kill()
                await self._start_again(failpoint)
            case FaultKind.KILL_DRAINING:
                await self._kill()
                await self._gate.open(_PILE * self._each)
                await self._gate.wait_until_passed(start + _PILE * self._each)
                await self._start_again("")
                await asyncio.sleep(fault.seconds)
                await self._kill()
                await self._start_again(failpoint)
            case FaultKind.DATABASE:
                await self._stop_database()
            case _:
                await self._restart_homeserver(fault)
        return None

    async def _until_a_line_is_seen(self) -> None:
        """Return the moment IRC sees one more line; people talk until then."""
        seen = self._watcher.lines
        async with asyncio.timeout(_BACK_SECONDS):
            while self._watcher.lines == seen:
                await asyncio.sleep(0.002)
                if self._gate.is_used_up:
                    await self._gate.open(5)

    async def _until_it_ends(self, place: str) -> None:
        """Let people talk until the program reaches its place; end it if it never does."""
        trestle = self._scratch.trestle
        try:
            async with asyncio.timeout(_FAILPOINT_SECONDS):
                while not trestle.has_ended:
                    await asyncio.sleep(0.01)
                    if self._gate.is_used_up:
                        await self._gate.open(5)
            self.reached.add(place)
        except TimeoutError:
            await trestle.program.kill()
        self._note_end()

    async def _kill(self) -> None:
        await self._scratch.trestle.program.kill()
        self._note_end()

    def _note_end(self) -> None:
        self.ends += 1
        if self.listening.is_set():
            self.listening.clear()
            self.outages.append(Outage(began=monotonic(), ended=float("inf")))

    async def _start_again(self, failpoint: str) -> None:
        """Start it; return when it listens, or has ended at its place already."""
        trestle, watcher = self._scratch.trestle, self._watcher
        await watcher.wait_until(lambda: not watcher.sees_bridge_anywhere, _BACK_SECONDS)
        await trestle.launch(failpoint)
        try:
            await trestle.wait_until_ready()
            async with asyncio.timeout(_BACK_SECONDS):
                while not watcher.sees_bridge(self._channels) and not trestle.has_ended:
                    await asyncio.sleep(0.02)
        except ConfigError:
            if not failpoint:
                raise
        if not trestle.has_ended:
            self.outages[-1] = replace(self.outages[-1], ended=monotonic())
            self.listening.set()
        elif not failpoint:
            raise ConfigError(f"Trestle ended by itself:\n{trestle.program.last_words()}")

    async def _restart_homeserver(self, fault: Fault) -> None:
        synapse = self._scratch.synapse
        if fault.kind is FaultKind.HOMESERVER_KILL:
            await synapse.kill()
        else:
            await synapse.stop()
        await asyncio.sleep(2 * fault.seconds)
        await synapse.start()

    async def _stop_database(self) -> None:
        pid = self._scratch.database_pid
        if pid is not None:
            os.kill(pid, signal.SIGQUIT)
        trestle = self._scratch.trestle
        async with asyncio.timeout(_BACK_SECONDS):
            while pid == self._scratch.database_pid or not await trestle.is_ready():
                await asyncio.sleep(0.05)
