"""Lanes that are closed, let go or stopped at the worst moment; who cancels itself."""

import asyncio
from pathlib import Path

from bridge.core.lanes.inflight import InFlight
from bridge.core.lanes.lane import Item
from bridge.model import ParkReason
from bridge.sdk.errors import PermanentFailure, TemporaryFailure
from bridge.settings.records import DatabaseSettings
from tests.core.process import (
    Act,
    Handle,
    Process,
    at_work,
    left,
    processes,
    put,
    put_together,
)
from tests.rigs.trestle import wait_until


def tasks(name: str) -> int:
    """How many tasks work on the lane."""
    return sum(task.get_name() == name for task in asyncio.all_tasks())


async def hang(item: Item) -> None:
    await asyncio.Event().wait()


async def cancel_itself(item: Item) -> None:
    inner = asyncio.get_running_loop().create_future()
    inner.cancel()
    await inner


def until(gate: asyncio.Event) -> Handle:
    async def wait(item: Item) -> None:
        await gate.wait()

    return wait


def refuse(failure: Exception) -> Handle:
    async def fail(item: Item) -> None:
        raise failure

    return fail


async def test_a_lane_that_is_closed_at_work_ends_with_it_or_at_its_deadline(
    database_settings: DatabaseSettings, folder: Path
) -> None:
    gate = asyncio.Event()

    async def hang_and_be_closed(item: Item) -> None:
        # Before the deadline, however slow the machine is.
        asyncio.get_running_loop().call_soon(process.router.close_lane, "portal:2")
        await hang(item)

    acts = [Act("portal:1", until(gate)), Act("portal:2", hang_and_be_closed, deadline=0.1)]
    async with at_work(database_settings, folder, acts) as process:
        await put_together(process, "$first", "$second")
        await wait_until(lambda: all(act.heard for act in acts))
        process.router.close_lane("portal:1")
        gate.set()
        await wait_until(lambda: tasks("portal:1") + tasks("portal:2") == 0)
        assert process.router.waiting == 0
        assert await left(process) == 0
        # What failed in it is not tried again, what waited in it is let go.
        assert [act.heard for act in acts] == [["$first"], ["$first"]]


async def test_a_lane_closed_while_an_item_is_put_aside_settles_its_own_share_alone(
    database_settings: DatabaseSettings, folder: Path
) -> None:
    gate = asyncio.Event()
    refused = Act("portal:1", refuse(PermanentFailure("no")))
    refused.may_tell.clear()
    other = Act("portal:2", until(gate))
    async with at_work(database_settings, folder, [refused, other]) as process:
        await put(process, "$said")
        await wait_until(lambda: bool(refused.put_aside and other.heard))
        process.router.close_lane("portal:1")
        refused.may_tell.set()
        assert await left(process) == 1
        gate.set()
        await wait_until(lambda: process.router.waiting == 0)
        assert await left(process) == 0


async def test_a_lane_closed_while_an_item_waits_for_its_next_try_settles_its_own_share_alone(
    database_settings: DatabaseSettings, folder: Path
) -> None:
    gate = asyncio.Event()
    waits = Act("portal:1", refuse(TemporaryFailure("away", retry_after=0.3)))
    other = Act("portal:2", until(gate))
    async with at_work(database_settings, folder, [waits, other]) as process:
        await put(process, "$said")
        await wait_until(lambda: bool(waits.heard and other.heard))
        process.router.close_lane("portal:1")
        await wait_until(lambda: tasks("portal:1") == 0)
        assert await left(process) == 1
        gate.set()
        await wait_until(lambda: process.router.waiting == 0)
        assert waits.heard == ["$said"]


async def test_what_ends_in_a_closed_lane_says_nothing_of_the_next_one_of_that_name(
    database_settings: DatabaseSettings, folder: Path
) -> None:
    gates = [asyncio.Event(), asyncio.Event()]
    act = Act("bot:dice:!r", *map(until, gates))
    async with at_work(database_settings, folder, [act]) as process:
        await put(process, "$before")
        await wait_until(lambda: act.heard == ["$before"])
        process.router.close_lane(act.name)
        await put(process, "$after")
        await wait_until(lambda: act.heard == ["$before", "$after"])
        gates[0].set()
        await wait_until(lambda: tasks(act.name) == 1)
        # Killed now, the next process must know that this one's end is not known.
        assert len(InFlight(folder / "inflight").recover().suspects) == 1
        gates[1].set()


async def test_who_cancels_itself_has_failed_and_its_lane_goes_on(
    database_settings: DatabaseSettings, folder: Path
) -> None:
    act = Act("bot:dice:!r", *[cancel_itself] * 3)
    async with at_work(database_settings, folder, [act]) as process:
        await put(process, "$ill", "$well")
        await wait_until(lambda: process.router.waiting == 0)
        assert act.heard == ["$ill"] * 3 + ["$well"]
        assert act.put_aside == [ParkReason.FAILED]


async def test_who_does_not_let_a_deadline_through_is_held_to_the_next_one_too(
    database_settings: DatabaseSettings, folder: Path
) -> None:
    async def shrug(item: Item) -> None:
        try:
            await hang(item)
        except asyncio.CancelledError:
            return

    act = Act("bot:dice:!r", shrug, hang, cancel_itself, deadline=0.1)
    async with at_work(database_settings, folder, [act]) as process:
        await put(process, "$first", "$second", "$third")
        await wait_until(lambda: process.router.waiting == 0)
        assert act.heard == ["$first", "$second", "$second", "$second", "$third"]
        assert act.put_aside == []


async def test_a_stop_that_comes_while_an_item_is_past_its_deadline_is_a_stop(
    database_settings: DatabaseSettings, folder: Path
) -> None:
    ending = asyncio.Event()

    async def clean_up(item: Item) -> None:
        try:
            await hang(item)
        except asyncio.CancelledError:
            ending.set()
            await hang(item)

    act = Act("bot:dice:!r", clean_up, deadline=0.1)
    async with at_work(database_settings, folder, [act]) as process:
        await put(process, "$said")
        await ending.wait()
    # It has stopped, which is looked at on the way out.
    assert act.heard == ["$said"]


async def test_a_suspect_that_ends_its_own_lane_is_finished_by_that(
    database_settings: DatabaseSettings, folder: Path
) -> None:
    async with processes(database_settings, folder) as kept:
        first = Act("portal:1", hang)
        process = Process(*kept, folder, [first])
        process.intake.open()
        await put(process, "$leaves", "$later")
        async with asyncio.TaskGroup() as group:
            router = group.create_task(process.router.run())
            await wait_until(lambda: bool(first.heard))
            router.cancel()

        async def leave(item: Item) -> None:
            process.router.close_lane("portal:1")

        second = Act("portal:1", leave)
        process = Process(*kept, folder, [second])
        await process.recover()
        assert second.heard == ["$leaves"]
        assert process.router.waiting == 0
        assert await left(process) == 0


async def test_the_place_of_a_closed_lane_is_another_s_once_the_journal_knows_what_it_did(
    database_settings: DatabaseSettings, folder: Path
) -> None:
    act = Act("bot:dice:!0")
    async with at_work(database_settings, folder, [act]) as process:
        for number in range(3):
            act.name = f"bot:dice:!{number}"
            await put(process, f"$in{number}")
            await wait_until(lambda: process.router.waiting == 0)
            process.router.close_lane(act.name)
            await wait_until(lambda: not process.inflight._slots)
        assert len(process.inflight._free) == 1
    assert act.heard == ["$in0", "$in1", "$in2"]


async def test_the_place_of_a_closed_lane_is_kept_while_it_is_at_work_or_open_again(
    database_settings: DatabaseSettings, folder: Path
) -> None:
    gate = asyncio.Event()
    act = Act("bot:dice:!r", until(gate))
    async with at_work(database_settings, folder, [act]) as process:
        await put(process, "$first")
        await wait_until(lambda: act.heard == ["$first"])
        process.router.close_lane(act.name)
        process.router._let_go([])
        assert len(InFlight(folder / "inflight").recover().suspects) == 1
        process.router.lane(act)
        gate.set()
        await wait_until(lambda: tasks(act.name) == 0)
        assert await left(process) == 0
        process.router._let_go([])
        assert len(process.inflight._slots) == 1


async def test_a_passing_lane_is_let_go_and_its_place_in_the_file_is_another_s(
    database_settings: DatabaseSettings, folder: Path
) -> None:
    act = Act("watch:!0")
    async with at_work(database_settings, folder, [act]) as process:
        router, size = process.router, (folder / "inflight").stat().st_size
        for number in range(3):
            act.name = f"watch:!{number}"
            await put(process, f"$in{number}")
            router.passing_lane(act)
            await wait_until(lambda: not router.lanes)
            assert await left(process) == 0
        await wait_until(lambda: len(router._inflight._free) == 1)
        assert (folder / "inflight").stat().st_size == size
    assert act.heard == ["$in0", "$in1", "$in2"]
