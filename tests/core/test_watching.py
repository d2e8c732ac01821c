"""What waits in a room's lane while one of ours is coming in there."""

from datetime import date
from pathlib import Path
from typing import Any, cast

import orjson

from bridge.core.intake.watch import Watch, Watcher
from bridge.core.lanes.inflight import InFlight
from bridge.core.lanes.lane import LONGEST
from bridge.core.lanes.progress import Row
from bridge.core.lanes.router import Router
from bridge.model import RowId
from bridge.telemetry import Telemetry
from tests.core.ground import ALICE, ROOM, Ground


def test_what_lies_beyond_the_queue_of_such_a_lane_is_not_overtaken(path: Path) -> None:
    nothing = cast(Any, None)
    watcher = Watcher(
        nothing, nothing, Ground().namespaces, nothing, nothing, nothing,
        on_join=nothing, on_leave=nothing, has_seat=nothing, encryption=nothing,
    )  # fmt: skip
    router = Router(InFlight(path), nothing, Telemetry(), encode=orjson.dumps)
    said: dict[str, Any] = {
        "type": "m.room.message", "event_id": "$said", "room_id": ROOM, "sender": ALICE,
        "content": {},
    }  # fmt: skip
    (lane,) = watcher.lanes(router, said)
    assert isinstance(lane.consumer, Watch)
    assert watcher.lanes_behind(router, said, is_heard=True) == ()
    row = Row(RowId(date(2026, 1, 1), 1), LONGEST + 1, landed_at=0.0)
    for place in range(LONGEST + 1):
        router.push(lane, row, place, said)
    # All but the last is done; that one is being read from the journal.
    lane.queue.clear()
    assert list(lane.places()) == [(row, LONGEST)]
    assert watcher.lanes_behind(router, said, is_heard=True) == [lane]
