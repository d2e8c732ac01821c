"""What waits here for longer than anything is kept is let go, and crosses no more."""

from datetime import timedelta
from pathlib import Path

from bridge.core.lanes.forgetting import forget
from bridge.core.lanes.lane import Item
from bridge.sdk.errors import TemporaryFailure
from bridge.sdk.ids import RoomId
from bridge.settings.records import DatabaseSettings
from bridge.storage.keys import DayKeys
from tests.conformance.stage import ROOM, play
from tests.core.outgoing import away, say
from tests.core.process import Act, at_work, left, put
from tests.rigs.trestle import wait_until
from tests.storage.conftest import TurnedClock

LONG = timedelta(days=16)


async def refuse(item: Item) -> None:
    raise TemporaryFailure("the network is away", retry_after=0.05)


async def test_what_waits_for_a_network_is_let_go_with_its_day_and_what_is_newer_is_not(
    database_settings: DatabaseSettings, folder: Path
) -> None:
    clock, act = TurnedClock(), Act("portal:1", *[refuse] * 100_000)
    async with at_work(database_settings, folder, [act], clock) as process:
        await put(process, "$old", "$older")
        await wait_until(lambda: len(act.heard) > 1)
        day = clock.today()
        clock.ahead += LONG
        await process.database.cover(clock.today())
        await put(process, "$new")
        forget(process.router, [day])
        await wait_until(lambda: "$new" in act.heard)
        act.acts.clear()
        await wait_until(lambda: process.router.waiting == 0)
        assert "$older" not in act.heard
        assert await left(process) == 0


async def test_what_is_tried_after_its_day_is_not_tried_again(
    database_settings: DatabaseSettings, folder: Path
) -> None:
    clock, act = TurnedClock(), Act("portal:1", *[refuse] * 100_000)
    async with at_work(database_settings, folder, [act], clock) as process:
        await put(process, "$old")
        await wait_until(lambda: len(act.heard) > 1)
        process.day_keys.destroy(clock.today())
        clock.ahead += LONG
        await wait_until(lambda: process.router.waiting == 0)
        assert await left(process) == 0


async def test_what_waits_for_the_homeserver_is_not_put_into_a_room_after_its_day(
    database_settings: DatabaseSettings, folder: Path
) -> None:
    clock = TurnedClock()
    async with play(database_settings, folder, rules=[away]) as stage:
        sender = stage.app.parts.sender
        await sender.put([say("old"), say("older")])
        await wait_until(lambda: bool(sender._lanes[RoomId(ROOM)].trouble))
        clock.ahead = LONG
        kept, sender.find_over = sender.find_over, DayKeys(folder / "empty", clock).find_over
        await wait_until(lambda: sender.waiting == 0)
        stage.homeserver.rules.clear()
        sender.find_over = kept
        await sender.put([say("new")])
        await stage.homeserver.wait_until(lambda: bool(stage.homeserver.texts(ROOM)))
        assert stage.homeserver.texts(ROOM) == ["new"]
