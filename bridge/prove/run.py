"""A proof: people talk on both sides while things break; then the ledgers are compared."""

import asyncio
import sys
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

import aiohttp

from bridge.prove import witness
from bridge.prove.arrivals import read_records
from bridge.prove.faults import Fault, FaultKind, Faults, Gate
from bridge.prove.ledgers import Finding, Ledgers, Line, Word, compare, lacks, lacks_nearby
from bridge.prove.people import IrcPerson, Speaker
from bridge.prove.scratch import INSTANCE, SERVER, Scratch
from bridge.prove.script import ASKS, Utterance, turns

BOT = f"@trestle:{SERVER}"
WITNESS = f"@_trestle_witness:{SERVER}"
_MATRIX = ("alice", "bea", "emil", "fay")
_IRC = ("carl", "dora")
_FLAG = "may be there twice"
_LOOK_SECONDS = 1.0
_LINES_A_WORD = 3
"""Lines in Matrix for each word on IRC: homeservers take them slowly, IRC servers do not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """How large a proof is."""

    seed: int
    channels: int = 3
    each: int = 60
    """How many lines are said in Matrix for each fault."""
    settle: float = 180.0
    """Seconds after the last fault within which everything must have arrived."""


@dataclass(slots=True, kw_only=True)
class Outcome:
    """What came of a proof."""

    size: Size
    ledgers: Ledgers
    faults: list[Fault]
    places: set[str]
    """The places between two durable steps at which the program was ended."""
    findings: list[Finding]
    seconds: float
    settled: float
    """Seconds from the last fault until everything had arrived."""
    late: list[str] = field(default_factory=list)
    """What had not arrived when the time was up."""

    @property
    def holds(self) -> bool:
        """Whether everything that is claimed is so."""
        return all(finding.holds for finding in self.findings)


Say = Callable[[Utterance], Awaitable[bool]]
"""Says it if that is allowed; gives whether it was."""

Progress = Callable[[int, Fault | None], None]
"""Told how much was said, and what is done next."""


class Proof:
    """One conversation in a scratch town."""

    def __init__(
        self, scratch: Scratch, size: Size, progress: Progress = lambda said, fault: None
    ) -> None:
        self._scratch = scratch
        self._size = size
        self._progress = progress
        self._lines, self._words = Gate(), Gate()
        self._ledgers = Ledgers()
        self._channels = [f"#proof{number}" for number in range(size.channels)]
        self._rooms: list[str] = []
        self._speakers: dict[str, Speaker] = {}
        self._persons: dict[str, IrcPerson] = {}
        self._watcher: IrcPerson
        self._faults: Faults
        self._measure_at = 1000

    async def run(self, faults: Iterator[Fault]) -> Outcome:
        """Talk until the faults are done and everything has arrived, or the time is up.

        Raises a ``TrestleError`` if something that was ended does not come back.
        """
        async with AsyncExitStack() as stack:
            session = await stack.enter_async_context(aiohttp.ClientSession())
            await self._bridge_rooms(session)
            for nick in (*_IRC, "watcher"):
                person = IrcPerson(nick, self._scratch.irc_port, neighbours=_IRC)
                self._persons[nick] = await stack.enter_async_context(person)
                await person.join(*self._channels)
            self._watcher = self._persons.pop("watcher")
            self._faults = Faults(
                self._scratch, self._lines, self._watcher, self._channels, self._size.each
            )
            began = monotonic()
            try:
                await self._talk_through(faults)
            except ExceptionGroup as group:
                raise first_of(group) from group
            broken = monotonic()
            late = await self._wait_until_settled()
            settled = monotonic() - broken
            await self._scratch.trestle.program.stop(limit=25)
            await self._read_all()
        return Outcome(
            size=self._size, ledgers=self._ledgers, faults=self._faults.done,
            places=self._faults.reached, findings=compare(self._ledgers),
            seconds=monotonic() - began, settled=settled, late=late,
        )  # fmt: skip

    # --- the town ---

    async def _bridge_rooms(self, session: aiohttp.ClientSession) -> None:
        """Rooms bridged the way people do it, and one more that only the witness is in."""
        for name in _MATRIX:
            self._speakers[name] = Speaker(session, self._scratch.synapse.url, name)
            await self._speakers[name].register()
        first, *others = self._speakers.values()
        for channel in (*self._channels, ""):
            room = await first.create_room(preset="public_chat", name=channel or "The witness")
            await first.invite(room, WITNESS)
            await first.wait_until_joined(room, WITNESS)
            if channel:
                await first.invite(room, BOT)
                await first.wait_until_joined(room, BOT)
                await first.say(room, f"!trestle bridge {INSTANCE} {channel}")
                await first.wait_for_text(room, "This room is bridged to")
                self._ledgers.bridged.add(room)
            for user in others:
                await user.join(room)
            self._rooms.append(room)

    # --- talking ---

    async def _talk_through(self, faults: Iterator[Fault]) -> None:
        async with asyncio.TaskGroup() as group:
            for name, speaker in self._speakers.items():
                group.create_task(self._talk(name, len(self._rooms), self._line_of(speaker)))
            for nick, person in self._persons.items():
                group.create_task(self._talk(nick, len(self._channels), self._word_of(person)))
            fault = next(faults, None)
            while fault is not None:
                then = next(faults, None)
                self._progress(self._ledgers.said, fault)
                await self._measure_tables()
                await self._words.open(self._size.each // _LINES_A_WORD)
                await self._faults.do(fault, then)
                fault = then
            while not self._lines.is_used_up:
                await asyncio.sleep(0.05)
            await self._lines.close()
            await self._words.close()
        await self._say_last_words()

    async def _measure_tables(self) -> None:
        """Each time that twice as much was said, keep the reading of rooms from becoming slow."""
        if self._ledgers.said >= self._measure_at:
            self._measure_at = 2 * self._ledgers.said
            await self._scratch.synapse.measure_tables()

    async def _talk(self, name: str, places: int, say: Say) -> None:
        """Say what the script has for somebody, as long as that is allowed."""
        for turn in turns(self._size.seed, name, places):
            for one in turn.said:
                if not await say(one):
                    return
            await asyncio.sleep(turn.pause)

    def _line_of(self, speaker: Speaker) -> Say:
        async def say(one: Utterance) -> bool:
            may = await self._lines.enter()
            if may:
                await self._say_line(speaker, one)
            return may

        return say

    def _word_of(self, person: IrcPerson) -> Say:
        async def say(one: Utterance) -> bool:
            await self._faults.listening.wait()  # Nobody talks to a channel that is not there.
            may = await self._words.enter()
            if may:
                await self._say_word(person, one)
            return may

        return say

    async def _say_line(self, speaker: Speaker, one: Utterance) -> None:
        room = self._rooms[one.place]
        event_id = await speaker.utter(room, one)
        self._ledgers.lines.append(
            Line(text=one.text, room=room, event_id=event_id, asks=one.text.endswith(ASKS))
        )

    async def _say_word(self, person: IrcPerson, one: Utterance) -> None:
        room = self._rooms[one.place]
        self._ledgers.words.append(Word(text=one.text, room=room, at=monotonic()))
        await person.utter(self._channels[one.place], one)

    async def _say_last_words(self) -> None:
        """Say one thing more in every room: whatever comes twice comes before it."""
        speaker = self._speakers[_MATRIX[0]]
        person = self._persons[_IRC[0]]
        for place in range(len(self._rooms)):
            await self._say_line(speaker, Utterance(f"the last line of {place} {ASKS}", place))
        for place in range(len(self._channels)):
            await self._say_word(person, Utterance(f"the last word of {place}", place))

    # --- reading ---

    async def _wait_until_settled(self) -> list[str]:
        """Wait until everything has arrived; give what has not when the time is up."""
        end = monotonic() + self._size.settle
        while True:
            self._progress(self._ledgers.said, None)
            self._read_shown()
            began = monotonic()
            if not lacks_nearby(self._ledgers):  # Else the homeserver need not be asked.
                await self._read_rooms()
                if not lacks(self._ledgers):
                    return []
            if monotonic() > end:
                await self._read_rooms()
                return lacks(self._ledgers)
            # A homeserver that is read from all the time gets nothing else done.
            await asyncio.sleep(max(_LOOK_SECONDS, 2 * (monotonic() - began)))

    def _read_shown(self) -> None:
        ledgers = self._ledgers
        ledgers.shown = witness.read_ledger(self._scratch.witnessed)
        ledgers.seen = {
            room: list(self._watcher.heard.get(channel, ()))
            for room, channel in zip(self._rooms, self._channels, strict=False)
        }
        ledgers.outages = tuple(self._faults.outages)
        ledgers.ends = self._faults.ends

    async def _read_rooms(self) -> None:
        """Walk every room back to its beginning."""
        reader = self._speakers[_MATRIX[0]]
        histories = {room: await reader.messages(room, sys.maxsize) for room in self._rooms}
        ledgers = self._ledgers
        ledgers.held = {room: _texts(events) for room, events in histories.items()}
        ledgers.held_ids = {e["event_id"] for events in histories.values() for e in events}
        ledgers.answers = {room: _answers(events) for room, events in histories.items()}
        ledgers.flagged = {
            event["content"]["m.relates_to"]["m.in_reply_to"]["event_id"]
            for events in histories.values()
            for event in events
            if event["sender"] == BOT and _FLAG in str(event["content"].get("body"))
        }

    async def _read_all(self) -> None:
        """Read every ledger, now that nothing runs that would write on."""
        self._read_shown()
        await self._read_rooms()
        settings = self._scratch.settings
        records = await read_records(settings.database, settings.state_dir)
        self._ledgers.arrivals, self._ledgers.parked = records.arrivals, records.parked


def first_of(group: ExceptionGroup[Exception]) -> Exception:
    """The first error of a group, and of a group in it."""
    first = group.exceptions[0]
    return first_of(first) if isinstance(first, ExceptionGroup) else first


def _texts(events: Sequence[Mapping[str, Any]], sender: str = "") -> list[str]:
    return [
        str(event["content"]["body"])
        for event in events
        if event["type"] == "m.room.message"
        and "body" in event["content"]
        and sender in ("", event["sender"])
    ]


def _answers(events: Sequence[Mapping[str, Any]]) -> list[str]:
    return [text.removeprefix(witness.ANSWER) for text in _texts(events, WITNESS)]


USUAL: Mapping[FaultKind, int] = {
    FaultKind.KILL: 5,
    FaultKind.KILL_JUST_SAID: 1,
    FaultKind.FAILPOINT: 6,
    FaultKind.KILL_STARTING: 1,
    FaultKind.KILL_DRAINING: 1,
    FaultKind.HOMESERVER_KILL: 1,
    FaultKind.HOMESERVER_STOP: 1,
    FaultKind.DATABASE: 2,
}
"""What `trestle prove` does, and how often in each round."""
