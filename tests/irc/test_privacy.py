"""The privacy filter's invariant, over random comings and goings on both sides."""

import asyncio
import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from bridge.core.audience import Audience
from bridge.core.privacy import hidden
from bridge.networks.irc.connection import Connection
from bridge.networks.irc.flood import Flood
from bridge.networks.irc.members import Roster
from bridge.networks.irc.network import Network
from bridge.networks.irc.settings import IrcSettings
from bridge.networks.irc.wire import Source, parse
from bridge.sdk.ids import RoomId, UserId
from tests.irc.stage import chat
from tests.rigs.scale import chance, scaled

BOT = UserId("@trestle:example.org")
ROOM, CHANNEL = RoomId("!room"), chat("#room")
PEOPLE = [UserId(f"@p{number}:example.org") for number in range(5)]
OPERATIONS = 80


@dataclass
class World:
    """What is true on both sides, and what the bridge has heard of it."""

    dice: random.Random
    readers: set[UserId] = field(default_factory=set)
    nicks: dict[UserId, str] = field(default_factory=dict)
    """Of those whose puppets are connected."""
    joined: set[UserId] = field(default_factory=set)
    strangers: set[str] = field(default_factory=set)
    log: list[str] = field(default_factory=list)
    passed: int = 0
    held: int = 0

    def __post_init__(self) -> None:
        server = {"host": "127.0.0.1", "port": 1, "tls": False}
        settings = IrcSettings.model_validate({"servers": [server], "own_network": True})
        self.network = Network(settings)
        streams = (asyncio.StreamReader(), cast(Any, None))
        connection = Connection(streams, settings.servers[0], settings, Flood(1, 1.0))
        connection.own = Source("trestle", "trestle", "h")
        self.roster = Roster(connection, self.network)
        self.roster.follow(CHANNEL)
        self.hear(":trestle!t@h JOIN #room", ":s 353 trestle = #room :trestle x", ":s 366 t #room")
        self.audience = Audience(ROOM, cast(Any, self), BOT, BOT.__eq__)
        for login, person in enumerate(PEOPLE):
            self.network.know(login, person)

    async def joined_members(self, room: RoomId) -> Mapping[UserId, str]:
        """What the homeserver says when it is asked."""
        return dict.fromkeys({*self.readers, BOT}, "")

    def hear(self, *lines: str) -> None:
        """Have the relay read lines."""
        for text in lines:
            self.log.append(text)
            line = parse(text.encode())
            assert line is not None
            self.roster.handle(line)

    # --- what may happen ---

    def enter(self, person: UserId) -> None:
        self.readers.add(person)
        self._membership(person, "join")

    def go(self, person: UserId) -> None:
        """Leave, or be kicked or banned."""
        self.readers.discard(person)
        self._membership(person, self.dice.choice(["leave", "ban"]))

    def _membership(self, person: UserId, membership: str) -> None:
        self.log.append(f"{membership} {person}")
        self.audience.note({"state_key": person, "content": {"membership": membership}})

    def restart(self, person: UserId) -> None:
        """The homeserver was started again, and may have kept events to itself."""
        self.log.append("restart")
        self.audience.forget()

    def connect(self, person: UserId) -> None:
        number = PEOPLE.index(person)
        free = {f"n{number}", f"r{number}0", f"r{number}1"} - self.strangers
        if person not in self.nicks and free:
            self.network.note_channels(number, lambda name: person in self.joined)
            self._hold(person, min(free))

    def _hold(self, person: UserId, nick: str) -> None:
        self.nicks[person] = nick
        self.network.hold(PEOPLE.index(person), Source(nick, nick, "h"))

    def join(self, person: UserId) -> None:
        self.connect(person)
        if person not in self.nicks:
            return
        self.joined.add(person)
        self.hear(f":{self._mask(person)} JOIN #room")

    def _mask(self, person: UserId) -> str:
        return f"{self.nicks[person]}!{self.nicks[person]}@h"

    def part(self, person: UserId) -> None:
        if person in self.joined:
            self.joined.discard(person)
            self.hear(self.dice.choice([
                f":{self._mask(person)} PART #room", f":op!o@h KICK #room {self.nicks[person]} :x",
            ]))  # fmt: skip

    def drop(self, person: UserId) -> None:
        """The connection breaks; the channel may hear of it, or not yet."""
        if person in self.nicks:
            mask, was_in = self._mask(person), person in self.joined
            del self.nicks[person]
            self.joined.discard(person)
            self.network.release(PEOPLE.index(person))
            if was_in and self.dice.random() < 0.7:
                self.hear(f":{mask} QUIT :gone")

    def rename(self, person: UserId) -> None:
        if person in self.nicks:
            old, new = self._mask(person), f"r{PEOPLE.index(person)}{self.dice.randrange(3)}"
            if new not in {*self.nicks.values(), *self.strangers}:
                self._hold(person, new)
                self.hear(f":{old} NICK {new}")

    def usurp(self, person: UserId) -> None:
        """A stranger comes by the nick and the user name that somebody of us had."""
        nick = f"n{PEOPLE.index(person)}"
        if nick not in self.nicks.values():
            self.strangers.add(nick)
            self.hear(f":{nick}!{nick}@elsewhere JOIN #room")

    async def speak(self) -> None:
        """A line comes: it may go into the room only while every reader is seen."""
        seen = self.network.seen_in("#room", self.roster.ours_in(CHANNEL.id) or ())
        hinders = hidden(await self.audience.people(), seen)
        assert hinders == self.readers - self.joined, self.log
        self.passed += not hinders
        self.held += bool(hinders)


async def _play(dice: random.Random) -> World:
    world = World(dice)
    acts = (
        *[world.enter] * 2, *[world.go] * 2, world.restart, *[world.join] * 4, world.connect,
        world.part, world.drop, world.rename, world.usurp,
    )  # fmt: skip
    for _ in range(OPERATIONS):
        dice.choice(acts)(dice.choice(PEOPLE))
        await world.speak()
    return world


async def test_no_line_goes_into_a_room_while_somebody_reads_who_is_not_seen() -> None:
    dice = chance("privacy")
    worlds = [await _play(dice) for _ in range(scaled(10_000))]
    # Both happen often, or nothing was shown.
    assert sum(one.passed for one in worlds) > len(worlds)
    assert sum(one.held for one in worlds) > len(worlds)


@pytest.mark.parametrize("line", [":op!o@h KICK #room trestle :out", ":trestle!t@h PART #room"])
async def test_from_outside_of_a_channel_it_is_not_known_who_is_there(line: str) -> None:
    world = World(random.Random(1))
    assert world.roster.ours_in(CHANNEL.id) == []
    world.hear(line)
    assert world.roster.ours_in(CHANNEL.id) is None
    # The server lists to anybody whom it shows to anybody.
    world.hear(":s 353 trestle = #room :x", ":s 366 trestle #room :End")
    assert world.roster.ours_in(CHANNEL.id) is None


async def test_who_came_while_it_was_asked_who_is_there_is_among_the_readers() -> None:
    asked, answered = asyncio.Event(), asyncio.Event()

    class Slow:
        """A homeserver whose first answer is older than an event that comes before it."""

        times = 0

        async def joined_members(self, room: RoomId) -> Mapping[UserId, str]:
            self.times += 1
            there = {BOT: ""} if self.times == 1 else {BOT: "", PEOPLE[0]: ""}
            asked.set()
            await answered.wait()
            return there

    audience = Audience(ROOM, cast(Any, Slow()), BOT, BOT.__eq__)
    async with asyncio.TaskGroup() as tasks:
        people = tasks.create_task(audience.people())
        await asked.wait()
        audience.note({"state_key": PEOPLE[0], "content": {"membership": "join"}})
        answered.set()
    assert people.result() == {PEOPLE[0]}


@pytest.mark.parametrize("listed", [False, True])
async def test_it_is_not_known_who_is_there_before_the_list_of_names_is_whole(
    listed: bool,
) -> None:
    world = World(chance("listed"))
    assert world.roster.ours_in(CHANNEL.id) == []
    world.roster.list_again(CHANNEL)
    if listed:
        world.hear(":s 366 trestle #room :End")
    assert world.roster.ours_in(CHANNEL.id) == ([] if listed else None)
