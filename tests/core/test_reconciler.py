"""Gaps are found wherever they lie, and nothing from before a room was bridged is taken up."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import pytest
import pytest_asyncio

from bridge.core.intake.reconciler import Pace, Reconciler
from bridge.matrix.history import Page
from bridge.model import SystemClock, Transaction
from bridge.sdk.errors import TemporaryFailure
from bridge.sdk.ids import RoomId, UserId
from bridge.settings.records import DatabaseSettings
from bridge.storage.pool import Database
from bridge.storage.portals import BotRooms
from tests.rigs.trestle import wait_until

ROOM, BOT = RoomId("!room"), UserId("@bot:hs")
PAGE = 100


@pytest_asyncio.fixture
async def kept(database_settings: DatabaseSettings, folder: Path) -> AsyncIterator[BotRooms]:
    """Where the marks lie."""
    async with Database.open(database_settings, folder, SystemClock()) as database:
        yield BotRooms(database)


@dataclass
class World:
    """A room as its homeserver has it, and what we know of it."""

    kept: BotRooms
    said: int
    known: set[bytes] = field(default_factory=set)
    came: int = 0
    """Which event is the bot's coming in."""
    left: int = -1
    """Which is its being put out."""
    renamed: int = -1
    """Which is a change of its profile."""
    asked: int = 0
    taken: list[int] = field(default_factory=list)
    odd: Any = None
    """Beside its memberships, in place of what was before."""
    content: dict[str, Any] = field(default_factory=dict)
    """Of each event."""
    shut: set[RoomId] = field(default_factory=set)
    """Rooms that the homeserver fails to show."""
    nonsense: set[RoomId] = field(default_factory=set)
    """Rooms of which it tells nonsense."""
    pauses: dict[RoomId, float] = field(default_factory=dict)
    """For so long it asks to be left alone then."""
    meanwhile: Callable[[], Awaitable[None]] | None = None
    """Is done once while the homeserver shows a page."""

    def event(self, number: int) -> dict[str, Any]:
        """One of its events."""
        event: dict[str, Any] = {"event_id": f"${number}", "sender": "@alice:hs"}
        event["content"] = self.content
        own = {self.came: ("leave", "join"), self.left: ("join", "leave"),
               self.renamed: ("join", "join")}  # fmt: skip
        if number in own:
            before, after = own[number]
            event |= {"type": "m.room.member", "state_key": BOT, "sender": BOT}
            event["content"] = {"membership": after}
            event["unsigned"] = self.odd or {"prev_content": {"membership": before}}
        return {"type": "m.room.message", **event}

    async def page(self, room: RoomId, user: UserId, *, before: str = "") -> Page:
        """A page of it."""
        self.asked += 1
        if room in self.nonsense:
            return Page(events=[cast(Any, None)])
        if room in self.shut:
            raise TemporaryFailure(
                "the homeserver answered 500", retry_after=self.pauses.get(room)
            )
        end = int(before) if before else self.said
        start = max(0, end - PAGE)
        events = [self.event(number) for number in range(end - 1, start - 1, -1)]
        meanwhile, self.meanwhile = self.meanwhile, None
        if meanwhile is not None:
            await meanwhile()
        return Page(events=events, start=str(end), before=str(start) if start else "")

    async def marks(self) -> Mapping[RoomId, bytes]:
        """What is known to be the newest."""
        return await self.kept.newest()

    async def mark(self, marks: Mapping[RoomId, bytes]) -> None:
        """Have these known, and nothing else."""
        await self.kept.note_newest(marks, ours=list(marks))

    async def restore(self, marks: Mapping[RoomId, bytes]) -> None:
        """Have the database restored from a backup that knows these."""
        await self.mark(marks)
        core = self.kept._database.core
        await core.execute("UPDATE instance_state SET generation = generation + 1")

    async def accept(self, transaction: Transaction) -> None:
        """Take it up."""
        ids = [str(event["event_id"]) for event in transaction.events]
        self.taken += [int(one[1:]) for one in ids]
        self.known.update(one.encode() for one in ids)

    def know(self, *numbers: int) -> None:
        """Have these been handed to us."""
        self.known.update(b"$%d" % number for number in numbers)


def reconciler(world: World, *rooms: RoomId, patience: float = 300.0, **more: Any) -> Reconciler:
    return Reconciler(
        world.kept, page=world.page, accept=world.accept, known=world.known.intersection,
        keys_of=lambda ids: [one.encode() for one in ids], is_encrypted=lambda room: False,
        rooms=lambda: dict.fromkeys((ROOM, *rooms), BOT), is_ours=lambda user: user == BOT,
        **{"pace": Pace(grace=0.0, patience=patience), **more},
    )  # fmt: skip


@pytest.mark.parametrize("marked", [False, True])
@pytest.mark.parametrize(
    "gap", [[17], [99, 100, 101], list(range(20, 480)), list(range(399, 500))]
)
async def test_a_gap_is_taken_up_in_order_wherever_it_lies(
    kept: BotRooms, gap: list[int], marked: bool
) -> None:
    world = World(kept, said=501)
    world.know(*range(501))
    world.known -= {b"$%d" % number for number in gap}
    if marked:
        await world.mark({ROOM: b"$10"})
    await reconciler(world).run_once()
    assert world.taken == gap
    assert (await world.marks())[ROOM] == b"$500"
    world.asked = 0
    await reconciler(world).run_once()
    assert (world.asked, world.taken) == (1, gap)


async def test_what_is_nested_deeply_is_taken_up_like_everything_else(kept: BotRooms) -> None:
    world = World(kept, said=10, content=json.loads('{"a":' * 300 + "1" + "}" * 300))
    world.know(*range(9))
    await world.mark({ROOM: b"$3"})
    world.known.discard(b"$7")
    await reconciler(world).run_once()
    assert world.taken == [7, 9]


async def test_what_was_not_handed_to_us_before_the_oldest_known_event_is_left_alone(
    kept: BotRooms,
) -> None:
    world = World(kept, said=1000, came=250)
    world.know(*range(300, 1000))
    world.known.discard(b"$310")
    await reconciler(world).run_once()
    assert world.taken == [310]
    # Eight pages, and again the seven that count.
    assert world.asked == 8 + 7
    # Where nothing is known at all it is not read to its beginning.
    await world.mark({})
    world = World(kept, said=5000)
    await reconciler(world).run_once()
    assert (world.taken, world.asked) == ([], 3)


@pytest.mark.parametrize("pages", [1, 10])
async def test_what_was_said_while_the_reader_was_out_is_left_alone_and_what_came_before_is_not(
    kept: BotRooms, pages: int
) -> None:
    world = World(kept, said=60 * pages, left=11 * pages, came=50 * pages, renamed=57 * pages)
    world.know(*range(11 * pages), *range(50 * pages, 60 * pages))
    world.known -= {b"$%d" % (7 * pages), b"$%d" % (55 * pages)}
    known = set(world.known)
    await world.mark({ROOM: b"$5"})
    await reconciler(world).run_once()
    assert world.taken == [7 * pages, 55 * pages]
    # Without a mark no further than to where the reader came in last.
    await world.mark({})
    world.known, world.taken = known, []
    await reconciler(world).run_once()
    assert world.taken == [55 * pages]


async def test_what_was_said_to_nobody_before_a_room_was_tied_is_left_alone(
    kept: BotRooms,
) -> None:
    world = World(kept, said=60)
    await world.mark({ROOM: b"$10"})
    world.know(*range(20))
    await reconciler(world).begin(ROOM, BOT)
    world.said = 65
    await reconciler(world).run_once()
    assert world.taken == [60, 61, 62, 63, 64]
    world.shut = {ROOM}
    await reconciler(world).begin(ROOM, BOT)
    world.shut, world.said = set(), 70
    for _ in range(2):
        await reconciler(world).run_once()
        world.said += 1
    assert world.taken[5:] == [70]


async def test_a_room_that_is_tied_during_a_look_goes_on_from_then(kept: BotRooms) -> None:
    new, other = RoomId("!new"), RoomId("!other")
    world = World(kept, said=60)
    await world.mark({ROOM: b"$10"})
    world.know(*range(20), 59)
    looking = reconciler(world)

    async def tie(said: int, *rooms: RoomId) -> None:
        world.said = said
        for room in rooms:
            await looking.begin(room, BOT)

    world.meanwhile = lambda: tie(62, new, other, ROOM)
    await looking.run_once()
    # Neither lost what was noted meanwhile, nor is what came before said now.
    assert (world.taken, await world.marks()) == ([], dict.fromkeys((ROOM, new, other), b"$61"))
    world.said = 65
    await looking.run_once()
    assert (world.taken, (await world.marks())[ROOM]) == ([62, 63, 64], b"$64")
    assert (await world.marks())[new] == b"$61"
    # Also where nothing is missing: what the look saw is older.
    world.said = 66
    world.know(65)
    world.meanwhile = lambda: tie(70, ROOM)
    await looking.run_once()
    assert (await world.marks())[ROOM] == b"$69"


async def test_nothing_is_kept_of_a_room_that_is_untied_before_it_is_looked_at(
    kept: BotRooms,
) -> None:
    new = RoomId("!new")
    world = World(kept, said=60)
    world.know(*range(60))
    looking = reconciler(world)
    await looking.begin(new, BOT)
    await looking.run_once()
    # It could have been on its way to being listened to.
    assert await world.marks() == dict.fromkeys((ROOM, new), b"$59")
    await looking.run_once()
    assert await world.marks() == {ROOM: b"$59"}


async def test_what_an_odd_homeserver_says_of_our_own_coming_ends_nothing(kept: BotRooms) -> None:
    world = World(kept, said=10, came=3, odd=["odd"])
    world.know(*range(10))
    await reconciler(world).run_once()
    assert await world.marks() == {ROOM: b"$9"}


async def test_a_mark_that_the_homeserver_has_no_more_is_as_none(kept: BotRooms) -> None:
    world = World(kept, said=700)
    world.know(*range(200, 700))
    world.known -= {b"$250", b"$699"}
    await world.mark({ROOM: b"$gone"})
    await reconciler(world).run_once()
    assert world.taken == [250, 699]


async def test_after_a_restore_a_room_goes_on_from_its_newest_event_of_then(
    kept: BotRooms,
) -> None:
    world = World(kept, said=1000)
    await world.restore({ROOM: b"$10"})
    world.know(*range(11))
    await reconciler(world).start_over()
    assert (world.asked, await world.marks()) == (1, {ROOM: b"$999"})
    world.said = 1003
    await reconciler(world).run_once()
    assert world.taken == [1000, 1001, 1002]
    await reconciler(world).start_over()
    assert await world.marks() == {ROOM: b"$1002"}


async def test_a_room_that_cannot_be_seen_after_a_restore_goes_on_from_when_it_can(
    kept: BotRooms,
) -> None:
    other = RoomId("!other")
    world = World(kept, said=50, shut={ROOM, other})
    await world.restore({ROOM: b"$10", other: b"$10"})
    world.know(*range(11))
    patient, impatient = reconciler(world, other), reconciler(world, other, patience=0.0)
    for one in (patient, impatient):
        with pytest.raises(TemporaryFailure):
            await one.start_over()  # It is the homeserver that cannot be asked.
    world.shut = {other}
    with pytest.raises(TemporaryFailure):
        await patient.start_over()
    await impatient.start_over()
    assert await world.marks() == {ROOM: b"$49", other: b""}
    world.shut, world.said = set(), 60
    await impatient.run_once()
    assert world.taken == list(range(50, 60))
    assert await world.marks() == {ROOM: b"$59", other: b"$59"}
    world.said = 61
    await impatient.run_once()
    assert world.taken[10:] == [60]


async def test_a_room_that_is_broken_keeps_no_other_from_being_repaired(kept: BotRooms) -> None:
    broken = [RoomId(f"!broken{number}") for number in range(8)]
    world = World(kept, said=50, shut=set(broken))
    world.know(*range(50))
    world.known.discard(b"$7")
    for _ in range(40):  # The order is by chance.
        with pytest.raises(TemporaryFailure):
            await reconciler(world, *broken).run_once()
    assert (world.taken, await world.marks()) == ([7], {ROOM: b"$49"})
    # Of very many it is the homeserver: nobody asks it for all of them.
    world = World(kept, said=50, shut={RoomId(f"!{number}") for number in range(100)})
    with pytest.raises(TemporaryFailure):
        await reconciler(world, *sorted(world.shut)).run_once()
    # Five of them, or twenty after one that can be looked at; and those under way then.
    assert world.asked < 35


async def test_a_homeserver_that_asks_for_patience_is_looked_at_no_sooner(kept: BotRooms) -> None:
    broken = RoomId("!broken")
    world = World(kept, said=10, shut={ROOM, broken}, pauses={broken: 0.5})
    looked_at: list[float] = []

    async def look_before() -> None:
        looked_at.append(asyncio.get_running_loop().time())

    pace = Pace(every=0.0, grace=0.0, again=0.0, retry=0.01)
    looking = reconciler(world, broken, pace=pace, look_before=look_before)
    async with asyncio.TaskGroup() as group:
        run = group.create_task(looking.run())
        await wait_until(lambda: len(looked_at) == 3)
        run.cancel()
    assert min(b - a for a, b in pairwise(looked_at)) >= 0.5


async def test_a_room_of_which_the_homeserver_tells_nonsense_keeps_no_other_from_being_repaired(
    kept: BotRooms, caplog: pytest.LogCaptureFixture
) -> None:
    odd = [RoomId(f"!odd{number}") for number in range(3)]
    world = World(kept, said=50, nonsense=set(odd))
    world.know(*range(50))
    world.known.discard(b"$7")
    looking = reconciler(world, *odd, pace=Pace(grace=0.0, again=0.0, retry=0.01))
    looking.want()
    async with asyncio.TaskGroup() as group:
        run = group.create_task(looking.run())
        await wait_until(lambda: world.taken == [7])
        asked = world.asked
        await wait_until(lambda: world.asked > asked + 4)
        run.cancel()
    assert "round_failed" in {vars(one)["event"] for one in caplog.records}


async def test_a_room_of_which_the_homeserver_tells_nonsense_holds_up_no_start_after_a_restore(
    kept: BotRooms,
) -> None:
    odd = RoomId("!odd")
    world = World(kept, said=50, nonsense={odd})
    await world.restore({ROOM: b"$20", odd: b"$0"})
    looking = reconciler(world, odd, patience=0.0)
    await looking.start_over()
    assert (await world.marks())[ROOM] == b"$49"


async def test_a_look_elsewhere_that_fails_in_a_way_nobody_foresaw_is_tried_again(
    kept: BotRooms,
) -> None:
    world, looks = World(kept, said=10), list[int]()

    async def look_before() -> None:
        looks.append(1)
        if len(looks) < 3:
            raise KeyError("what is not there")

    looking = reconciler(world, pace=Pace(grace=0.0, retry=0.01), look_before=look_before)
    looking.want()
    async with asyncio.TaskGroup() as group:
        run = group.create_task(looking.run())
        await wait_until(lambda: world.asked > 0)
        run.cancel()
    assert len(looks) == 3
