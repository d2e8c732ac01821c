"""What was said in a conversation with kills in it, what came of it, and what that may be."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bridge.demo.matrix_user import MatrixUser
from bridge.matrix.body import parse_transaction
from bridge.model import RowId, Source, SystemClock
from bridge.settings import DatabaseSettings
from bridge.storage.journal import Journal
from bridge.storage.keys import DayKeys
from bridge.storage.pool import Database
from tests.rigs.irc_user import IrcUser

WAIT_SECONDS = 150.0
"""A homeserver may strand a transaction in an outage; the second look at the room, which finds
what it still lacked at the first, comes a minute after the start."""


@dataclass(frozen=True)
class Arrival:
    """One text of the room, as it was landed first."""

    text: str
    source: Source


async def read_arrivals(settings: DatabaseSettings, state_dir: Path, room: str) -> list[Arrival]:
    """What was said in the room, in the order in which it was handed to us.

    A homeserver that was told to wait may hand on a later transaction first, or keep one back
    until the room is looked at; the order that a bridge can keep is the one that it is given.
    """
    found: dict[str, Arrival] = {}
    async with Database.open(settings, state_dir, SystemClock()) as database:
        journal = Journal(database, DayKeys(state_dir, database.clock))
        rows = await database.core.fetch("SELECT day, seq, source FROM journal ORDER BY day, seq")
        for row in rows:
            landed = await journal.read(RowId(row["day"], row["seq"]))
            assert landed is not None
            for event in parse_transaction(landed.body).events:
                text = event["content"].get("body")
                if event["room_id"] == room and isinstance(text, str):
                    found.setdefault(text, Arrival(text, Source(row["source"])))
    return list(found.values())


def assert_order_kept(seen: Sequence[str], arrivals: Sequence[Arrival]) -> None:
    """What came first of each text came in the order in which we were handed them."""
    handed = [one.text for one in arrivals if one.text in seen]
    firsts = list(dict.fromkeys(seen))
    assert firsts == handed, f"not in order: {firsts}, but handed to us were {handed}"


def find_late(said: Sequence[str], arrivals: Sequence[Arrival]) -> list[str]:
    """Which lines the homeserver handed on after a later one.

    What we fetched ourselves may be late, but it may have overtaken nothing: that would be our
    own disorder and not the homeserver's.
    """
    numbers = {text: number for number, text in enumerate(said)}
    late = []
    landed: set[int] = set()
    for one in arrivals:
        if one.text not in numbers:
            continue
        number = numbers[one.text]
        if any(other > number for other in landed):
            late.append(one.text)
        if one.source is Source.RECONCILE:
            overtaken = set(range(number)) - landed
            assert not overtaken, f"fetched {one.text} before {sorted(overtaken)}"
        landed.add(number)
    return late


@dataclass
class Storm:
    """One room, one channel, and what has been said on either side."""

    alice: MatrixUser
    room: str
    carl: IrcUser
    watcher: IrcUser
    channel: str
    lines: dict[str, str] = field(default_factory=dict)
    """Said in Matrix: text to event id, in order."""
    words: list[str] = field(default_factory=list)
    """Said on IRC."""
    seen: list[str] = field(default_factory=list)
    """What the watcher has seen of the lines."""

    async def say_line(self, text: str) -> None:
        """Have alice say something."""
        self.lines[text] = await self.alice.say(self.room, text)

    async def say_word(self, text: str) -> None:
        """Have carl say something, and wait until the server has it."""
        self.words.append(text)
        self.carl.say(f"PRIVMSG {self.channel} :{text}")
        await self.carl.sync()

    async def wait_for_bridge(self, nick: str = "trestle") -> None:
        """Wait until the listening connection is in the channel again."""
        await self.carl.expect(f":{nick}", "JOIN", self.channel)

    async def watch_for_lines(self, least: int = 0) -> None:
        """Read the channel until all lines were seen, or some number of them."""
        wanted = least or len(self.lines)
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                while len(self.lines.keys() & self.seen) < wanted:
                    line = await self.watcher.read()
                    text = line.partition(f" PRIVMSG {self.channel} :")[2]
                    if text and not line.startswith(f":{self.carl.nick}!"):
                        self.seen.append(text)
        except TimeoutError as error:
            missing = [text for text in self.lines if text not in self.seen]
            raise AssertionError(f"never came: {missing}; came: {self.seen}") from error

    def words_heard(self) -> list[str]:
        """What alice has seen of carl, so far as she has read."""
        ghost = f"@_trestle_near_{self.carl.nick}:"
        return [
            event["content"]["body"]
            for event in self.alice.heard(self.room)
            if event["sender"].startswith(ghost)
        ]

    async def wait_for_word(self, text: str) -> None:
        """Have alice read until this was said."""
        await self.alice.wait_until(lambda: text in self.words_heard(), WAIT_SECONDS)

    async def wait_until_flagged(self, text: str) -> None:
        """Have alice read until she is told that this line may be there twice."""

        def is_flagged() -> bool:
            return any(
                "may be there twice" in str(event["content"].get("body"))
                and event["content"]["m.relates_to"]["m.in_reply_to"]["event_id"]
                == self.lines[text]
                for event in self.alice.heard(self.room)
                if "m.relates_to" in event["content"]
            )

        await self.alice.wait_until(is_flagged)

    def doubled(self) -> list[str]:
        """Lines that were seen more than once; more than twice is a fault at any rate."""
        assert max((self.seen.count(text) for text in self.lines), default=0) <= 2, self.seen
        return [text for text in self.lines if self.seen.count(text) > 1]
