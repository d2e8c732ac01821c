"""The privacy filter's invariant, over random comings and goings on both sides."""

import asyncio
import random
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from types import SimpleNamespace
from typing import Any, cast

import pytest

from bridge.core.consent.privacy import Privacy
from bridge.core.outbox.encryption import Encryption
from bridge.core.outbox.sender import Sender
from bridge.core.portals.portals import Portals
from bridge.core.rooms.audience import Audience
from bridge.demo.matrix_user import PATIENCE
from bridge.model import Outgoing, QueuedOutgoing, SendKind, Sent, SystemClock
from bridge.networks.irc.channels.members import Roster
from bridge.networks.irc.connections.connection import Connection
from bridge.networks.irc.connections.flood import Flood
from bridge.networks.irc.connections.reader import Reader
from bridge.networks.irc.network.network import Network
from bridge.networks.irc.settings import IrcSettings
from bridge.networks.irc.wire import Source
from bridge.sdk.ids import EventId, RemoteChatId, RoomId, UserId
from bridge.telemetry import Telemetry
from tests.core.ground import NEAR, Ground
from tests.core.instances import Line, at_work, network
from tests.irc.lines import incoming
from tests.irc.stage import chat
from tests.rigs.scale import chance, scaled

BOT = UserId("@trestle:example.org")
ROOM, CHANNEL = RoomId("!room"), chat("#room")
PEOPLE = [UserId(f"@p{number}:example.org") for number in range(5)]
OPERATIONS = 80
WORDS = "what somebody said"
NUMBERS = count(1)


def everything() -> list[Outgoing]:
    """One of each that the bridge may put into a portal's room, with words where it has some."""
    reason, plain = {"reason": WORDS}, dict[str, Any]()
    return [
        Outgoing(
            room=ROOM, user=UserId("@bob:test.example"), kind=kind, type=type_, content=content,
            transaction_id=f"t{next(NUMBERS)}", portal=1, target="@eve:test.example",
        )
        for kind, type_, content in (
            (SendKind.EVENT, "m.room.message", {"body": WORDS}),
            (SendKind.EVENT, "m.reaction", {"m.relates_to": {"key": WORDS}}),
            (SendKind.STATE, "m.room.topic", {"topic": WORDS}),
            (SendKind.STATE, "m.room.join_rules", {"join_rule": "invite"}),
            (SendKind.REDACT, "", reason), (SendKind.REDACT, "", plain),
            (SendKind.LEAVE, "", reason), (SendKind.KICK, "", reason), (SendKind.BAN, "", reason),
            (SendKind.UNBAN, "", reason), (SendKind.JOIN, "", plain),
            (SendKind.POWERS, "", {"users": {}}),
            (SendKind.LIST, "", {"instance": NEAR, "listed": True}),
        )
    ]  # fmt: skip


class Memory:
    """An outbox and a homeserver that take all, and remember what came into the room."""

    has_unclaimed = False
    moves = None

    def __init__(self) -> None:
        self.sent: list[Outgoing] = []
        self.dropped: list[Outgoing] = []
        self._places = count(1)

    async def add(self, outgoing: Sequence[Outgoing]) -> list[QueuedOutgoing]:
        now = SystemClock().now()
        return [
            QueuedOutgoing(day=now.date(), seq=next(self._places), received_at=now, outgoing=one)
            for one in outgoing
        ]

    async def ensure_joined(self, room: RoomId, user: UserId, name: str = "") -> None:
        """Have everybody there."""

    async def see_encryption(self, room: RoomId, user: UserId) -> bool:
        """Have the room be read by all."""
        return False

    async def drop(self, queued: QueuedOutgoing) -> None:
        self.dropped.append(queued.outgoing)

    async def finish(self, done: Sequence[Sent]) -> None:
        """Forget what is sent."""

    async def send(self, outgoing: Outgoing) -> EventId | None:
        self.sent.append(outgoing)
        return None


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
        streams = (Reader(None), cast(Any, SimpleNamespace(transport=None)))
        connection = Connection(streams, settings.servers[0], settings, Flood(1, 1.0))
        connection.own = Source("trestle", "trestle", "h")
        self.roster = Roster(connection, self.network)
        self.roster.follow(CHANNEL)
        self.hear(":trestle!t@h JOIN #room", ":s 353 trestle = #room :trestle x", ":s 366 t #room")
        self._build()
        for login, person in enumerate(PEOPLE):
            self.network.know(login, person)

    def _build(self) -> None:
        """Make a portal with the filter, and what sends into its room."""
        ground = self.ground = Ground()
        ground.members = {ground.namespaces.bot}
        at_work(ground.instances.setdefault(NEAR, network(NEAR, Line())), self)
        portals = Portals(ground.house)
        door = portals._open(replace(ground.portal, privacy=True))
        self.audience, self.memory = door.audience, Memory()
        nothing = cast(Any, None)
        self.sender = Sender(
            cast(Any, self.memory), cast(Any, self.memory), Telemetry(), SystemClock(),
            encryption=Encryption(
                [], cast(Any, self.memory), mark=nothing, unmark=nothing,
                bot=ground.namespaces.bot,
            ),
            find_ours=nothing, find_links=nothing,
            is_ours=ground.namespaces.is_ours, bot=ground.namespaces.bot,
        )  # fmt: skip
        self.sender.may_go = Privacy(ground.house, portals).may_go

    def seen(self, chat: RemoteChatId) -> Collection[UserId] | None:
        """Who is seen in the channel, as the relay's client says it."""
        listed = self.roster.ours_in(chat)
        return None if listed is None else self.network.seen_in(chat, listed)

    def hear(self, *lines: str) -> None:
        """Have the relay read lines."""
        for text in lines:
            self.log.append(text)
            self.roster.handle(incoming(text))

    # --- what may happen ---

    def enter(self, person: UserId) -> None:
        self.readers.add(person)
        self.ground.members.add(person)
        self._membership(person, "join")

    def go(self, person: UserId) -> None:
        """Leave, or be kicked or banned."""
        self.readers.discard(person)
        self.ground.members.discard(person)
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
        """Much comes: what has words goes into the room only while every reader is seen."""
        hinders, put = self.readers - self.joined, everything()
        self.memory.sent, self.memory.dropped = [], []
        await self.sender.put(put)
        async with asyncio.timeout(PATIENCE):
            while self.sender.waiting:
                await asyncio.sleep(0)
        came = {one.transaction_id: one for one in self.memory.sent}
        if hinders:
            assert WORDS not in repr(self.memory.sent), self.log
            without = [one for one in put if one.transaction_id not in came]
            assert [one.kind for one in without] == HELD_BACK, self.log
            assert self.memory.dropped == without
        else:
            assert sorted(came) == sorted(one.transaction_id for one in put), self.log
            assert all(came[one.transaction_id].content == one.content for one in put)
        self.passed += not hinders
        self.held += bool(hinders)


HELD_BACK = [SendKind.EVENT, SendKind.EVENT, SendKind.STATE]
"""What is nothing without its words. The rest is done, its reason left out."""


async def _play(dice: random.Random) -> World:
    world = World(dice)
    acts = (
        *[world.enter] * 2, *[world.go] * 2, world.restart, *[world.join] * 4, world.connect,
        world.part, world.drop, world.rename, world.usurp,
    )  # fmt: skip
    async with asyncio.TaskGroup() as group:
        sending = group.create_task(world.sender.run())
        for _ in range(OPERATIONS):
            dice.choice(acts)(dice.choice(PEOPLE))
            await world.speak()
        sending.cancel()
    return world


def test_all_that_can_be_put_into_a_room_is_tried() -> None:
    assert {one.kind for one in everything()} == set(SendKind)


async def test_no_line_goes_into_a_room_while_somebody_reads_who_is_not_seen() -> None:
    dice = chance("privacy")
    worlds = [await _play(dice) for _ in range(scaled(5_000))]
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
