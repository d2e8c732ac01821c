"""Who says STOP is heard again, whatever becomes of what they said it with."""

from datetime import date
from pathlib import Path
from time import monotonic
from typing import cast

import orjson

from bridge.core.lanes.crossings import Crossings
from bridge.core.lanes.forgetting import forget
from bridge.core.lanes.inflight import InFlight
from bridge.core.lanes.lane import Item, Lane
from bridge.core.lanes.progress import Marker, Row
from bridge.core.lanes.router import Router
from bridge.core.portals.portals import Portals
from bridge.core.traffic.stops import STOP, Stops
from bridge.model import ParkReason, RowId
from bridge.storage.items import Items
from bridge.storage.journal import Journal
from bridge.telemetry import Telemetry
from tests.core.ground import ALICE, ROOM, Ground


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
