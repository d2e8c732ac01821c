"""Who says STOP is heard again, whatever becomes of what they said it with."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import date
from pathlib import Path
from time import monotonic
from typing import Any, cast

import orjson
import pytest

from bridge.core.intake.routes import Routes
from bridge.core.intake.watch import Watcher
from bridge.core.lanes.crossings import Crossings
from bridge.core.lanes.forgetting import forget
from bridge.core.lanes.inflight import InFlight
from bridge.core.lanes.lane import Item, Lane
from bridge.core.lanes.progress import Marker, Row
from bridge.core.lanes.router import Router
from bridge.core.portals.portals import Portals
from bridge.core.traffic.stops import STOP, Stops
from bridge.matrix.body import parse_transaction
from bridge.model import Forgotten, ParkReason, RowId
from bridge.settings.records import DatabaseSettings
from bridge.storage.items import Items
from bridge.storage.journal import Journal
from bridge.storage.pool import Database
from bridge.telemetry import Telemetry
from tests.core.ground import ALICE, ROOM, Ground
from tests.core.process import Process, processes


def said(number: int, text: str, landed_at: float = 0.0) -> Item:
    event = {
        "type": "m.room.message", "room_id": ROOM, "sender": ALICE, "event_id": f"${number}",
        "content": {"msgtype": "m.text", "body": text},
    }  # fmt: skip
    row = Row(RowId(date(2026, 11, 27), number), 1, landed_at=landed_at)
    return Item(row, 0, event, cast(Lane, None))


async def test_a_stop_that_is_set_aside_silences_its_sender_no_longer(folder: Path) -> None:
    ground = Ground()
    door = Portals(ground.house)._open(ground.portal)
    inflight = InFlight(folder / "inflight")
    router = Router(inflight, cast(Items, None), Telemetry(), encode=orjson.dumps)
    stops = door.stops = Stops(router, door.name)
    first, stop = said(1, "one"), said(2, STOP)
    stops.begun = first
    stops.overhear(stop.event)
    assert stops.cover(first)
    await door.parked(first, ParkReason.FAILED, "it is too long")
    assert stops.cover(first)
    await door.parked(stop, ParkReason.HUNG, "it took too long")
    assert not stops.cover(first)


async def test_a_stop_that_went_with_its_day_silences_its_sender_no_longer(folder: Path) -> None:
    ground, now = Ground(), monotonic
    door = Portals(ground.house)._open(ground.portal)
    inflight = InFlight(folder / "inflight")
    router = Router(inflight, cast(Items, None), Telemetry(), encode=orjson.dumps)
    router.marker = Marker(cast(Journal, None), cast(Crossings, None))
    stops = door.stops = Stops(router, door.name)
    lane, waiting = router.lane(door), [said(n, "more", now()) for n in range(3)]
    for one in waiting:
        router.push(lane, one.row, 0, one.event)
    stop = said(4, STOP, now())
    stops.overhear(stop.event)
    router.push(lane, stop.row, 0, stop.event)
    forget(router, [stop.row.id.day])
    assert not lane.queue
    assert stops.cover(waiting[0])  # It may be in hand yet.
    next_day = said(5, "hello again", now())
    assert not stops.cover(next_day)
    # From then on that is so of all.
    assert not stops.cover(said(6, "one more", now()))


class Chat(Process):
    """A portal's room. Nothing of it is worked on: what comes waits in the portal's lane."""

    def __init__(self, database: Database, journal: Journal, folder: Path) -> None:
        super().__init__(database, journal, folder, [])
        ground, nothing = Ground(), cast(Any, None)
        portals = Portals(replace(ground.house, router=self.router))
        self.door = portals._open(ground.portal)
        self.routes = Routes(self.router, portals, ground.namespaces, nothing, nothing)
        self.routes.watcher = Watcher(
            nothing, nothing, ground.namespaces, nothing, nothing, nothing, on_join=nothing,
            on_leave=nothing, has_seat=nothing, encryption=nothing,
        )  # fmt: skip
        self.heard: list[str] = []
        """Events that it was told to hear."""

    def __call__(self, event: dict[str, Any]) -> Sequence[Lane]:
        return self.routes(event)

    def hear(self, event: dict[str, Any]) -> None:
        self.heard.append(event["event_id"])
        self.routes.hear(event)

    async def put(self, *texts: str, number: int = 0) -> None:
        """Have Alice say these in one transaction."""
        events = [said(100 * number + place, text).event for place, text in enumerate(texts)]
        body = orjson.dumps({"events": events})
        await self.intake.accept(parse_transaction(body, str(number)))
        await asyncio.sleep(0)

    @property
    def is_stopped(self) -> bool:
        """Whether the first of what waits is left out."""
        return self.door.stops.cover(self.router.lane(self.door).queue[0])


@asynccontextmanager
async def chat(settings: DatabaseSettings, folder: Path) -> AsyncIterator[Chat]:
    async with processes(settings, folder) as (database, journal):
        chat = Chat(database, journal, folder)
        await chat.recover()
        chat.intake.open()
        yield chat
        await chat.marker.settle()


async def test_a_stop_is_heard_behind_its_flood_in_the_same_transaction(
    database_settings: DatabaseSettings, folder: Path
) -> None:
    async with chat(database_settings, folder) as room:
        await room.put("one", "two", "three", STOP)
        assert room.is_stopped


async def test_a_stop_that_memory_has_no_room_for_is_heard_at_once(
    database_settings: DatabaseSettings, folder: Path
) -> None:
    async with chat(database_settings, folder) as room:
        await room.put("one", "two", "three", number=1)
        room.intake.memory = 3
        await room.put(STOP, number=2)
        assert room.router.waiting == 3
        assert room.is_stopped


async def test_a_stop_left_by_the_last_process_is_heard_at_start(
    database_settings: DatabaseSettings, folder: Path
) -> None:
    async with chat(database_settings, folder) as room:
        for number in range(3):
            await room.put("more", number=number)
        await room.put(STOP, number=3)
    async with processes(database_settings, folder) as (database, journal):
        room = Chat(database, journal, folder)
        room.intake.memory = 2
        await room.recover()
        assert room.router.waiting == 3  # And what follows waits in the journal.
        assert room.is_stopped


async def test_what_is_done_with_is_not_heard_again_at_start(
    database_settings: DatabaseSettings, folder: Path
) -> None:
    async with chat(database_settings, folder) as room:
        await room.put("one", STOP, number=1)
        lane = room.router.lane(room.door)
        for item in lane.queue:
            item.start()
            lane.slot.finish()  # Killed before the journal knew.
        await room.put("two", STOP, number=2)
    async with chat(database_settings, folder) as room:
        assert room.heard == ["$200", "$201"]


async def test_what_the_homeserver_repeats_is_heard_once(
    database_settings: DatabaseSettings, folder: Path
) -> None:
    async with chat(database_settings, folder) as room:
        for _ in range(2):
            await room.put("one", STOP)
        assert room.heard == ["$0", "$1"]
        room.intake.memory = 0
        await room.put("one", STOP, "two")
        assert room.heard == ["$0", "$1", "$2"]


async def test_a_stop_that_was_put_aside_stops_nothing_when_it_is_taken_up_again(
    database_settings: DatabaseSettings, folder: Path
) -> None:
    stop = said(7, STOP).event
    async with chat(database_settings, folder) as room:
        await room.put("one", "two", "three")
        with pytest.raises(Forgotten):
            await room.intake.take_again(room.door.name, stop, "abcd1234", date(2020, 1, 1))
        assert not room.is_stopped
        for _ in range(2):  # Cut off before it was let go, it is asked for once more.
            await room.intake.take_again(
                room.door.name, stop, "abcd1234", room.database.clock.today()
            )
        assert room.router.waiting == 4
        assert not room.is_stopped
    async with chat(database_settings, folder) as room:
        assert room.router.waiting == 4
        assert not room.is_stopped


async def test_a_stop_from_before_a_room_was_tied_to_a_shared_chat_is_not_heard_there(
    database_settings: DatabaseSettings, folder: Path
) -> None:
    async with chat(database_settings, folder) as room:
        await room.put("one", "two", "three")
        room.routes.hand_on(said(7, STOP))
        assert not room.is_stopped
