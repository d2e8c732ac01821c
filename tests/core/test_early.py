"""A lone event whose lane begins with it while its row is being stored."""

import asyncio
import random
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from time import monotonic
from typing import TypeVar

import asyncpg
import pytest

from bridge.core.lanes.lane import Item
from bridge.model import ParkReason
from bridge.sdk.errors import PermanentFailure, TemporaryFailure
from bridge.settings.records import DatabaseSettings
from bridge.storage.schema import Connection
from tests.core.process import Act, Process, at_work, left, put
from tests.rigs.cluster import cut_off, holding_up, until_one_waits
from tests.rigs.trestle import wait_until

T = TypeVar("T")


class Early(Act):
    """Reads an event, and acts on it once that is safe."""

    def __init__(self) -> None:
        super().__init__("portal:1")
        self.done: list[str] = []
        self.fails_early: list[Exception] = []
        self.may_end = asyncio.Event()
        self.may_end.set()

    async def handle(self, item: Item) -> None:
        """Read, then act."""
        self.heard.append(item.event["event_id"])
        if self.fails_early:
            raise self.fails_early.pop(0)
        await item.stored()
        self.done.append(item.event["event_id"])
        await self.may_end.wait()


@asynccontextmanager
async def begun_early(
    settings: DatabaseSettings, folder: Path, act: Act
) -> AsyncIterator[tuple[Process, Connection]]:
    """Lanes that begin early, and a connection that may hold up what is being stored."""
    admin = await asyncpg.connect(settings.url)
    try:
        async with at_work(settings, folder, [act]) as process:
            await put(process, "$before")  # The statement that is held up is prepared.
            await wait_until(lambda: act.heard == ["$before"] and process.router.waiting == 0)
            process.begins_early = True
            yield process, admin
    finally:
        admin.terminate()


@asynccontextmanager
async def held_up(
    admin: Connection, putting: Coroutine[None, None, T]
) -> AsyncIterator[asyncio.Task[T]]:
    """Have what is being put wait to be stored, until the block ends."""
    async with asyncio.TaskGroup() as group, holding_up(admin):
        task = group.create_task(putting)
        await until_one_waits(admin)
        yield task


async def test_an_event_is_read_before_it_is_stored_and_acted_on_after(
    database_settings: DatabaseSettings, folder: Path
) -> None:
    act = Early()
    async with begun_early(database_settings, folder, act) as (process, admin):
        async with held_up(admin, put(process, "$one")):
            await wait_until(lambda: act.heard[1:] == ["$one"])
            assert act.done == ["$before"]
            act.may_end.clear()
        await wait_until(lambda: act.done == ["$before", "$one"])
        # From now on nobody would know whether it was done.
        assert [one.item.seq for one in process.inflight.recover().suspects] == [2]
        act.may_end.set()
        await wait_until(lambda: process.router.waiting == 0)
        assert await left(process) == 0


async def test_what_is_never_stored_is_not_acted_on_until_the_homeserver_repeats_it(
    database_settings: DatabaseSettings, folder: Path
) -> None:
    act = Early()
    async with begun_early(database_settings, folder, act) as (process, admin):
        async with held_up(admin, refused(process, "$one")) as putting:
            await wait_until(lambda: act.heard[1:] == ["$one"])
            await cut_off(admin)
            assert isinstance(await putting, TemporaryFailure)
        await wait_until(lambda: process.router.waiting == 0)
        assert act.done == ["$before"]
        await put(process, "$two")
        await put(process, "$one")
        await wait_until(lambda: act.done == ["$before", "$two", "$one"])
        assert await left(process) == 0
        assert act.put_aside == []


async def refused(process: Process, name: str) -> Exception | None:
    try:
        await put(process, name)
    except TemporaryFailure as error:
        return error
    return None


async def test_what_is_read_for_longer_than_it_is_stored_is_as_old_as_its_row(
    database_settings: DatabaseSettings, folder: Path
) -> None:
    may_act, rows = asyncio.Event(), []

    async def read_on(item: Item) -> None:
        await may_act.wait()
        await item.stored()
        rows.append((item.row.landed_at, item.laned_at))

    async with begun_early(database_settings, folder, act := Act("portal:1")) as (process, _):
        act.acts.append(read_on)
        await put(process, "$one")
        stored_at = monotonic()
        may_act.set()
        await wait_until(lambda: bool(rows))
    assert all(at <= stored_at for at in rows[0])


async def test_the_time_in_which_it_is_stored_is_none_of_what_its_consumer_has(
    database_settings: DatabaseSettings, folder: Path
) -> None:
    act = Early()
    act.deadline = 0.5
    async with begun_early(database_settings, folder, act) as (process, admin):
        async with held_up(admin, put(process, "$one")):
            (lane,) = process.router.lanes.values()
            # The sweep looks once a second.
            await wait_until(lambda: monotonic() - lane.since > act.deadline + 1.1)
        await wait_until(lambda: act.done == ["$before", "$one"])
        await wait_until(lambda: process.router.waiting == 0)
    assert act.heard == ["$before", "$one"]


@pytest.mark.parametrize("is_stored", [True, False])
async def test_what_fails_before_it_is_stored_is_settled_once_it_is(
    database_settings: DatabaseSettings, folder: Path, *, is_stored: bool
) -> None:
    act = Early()
    async with begun_early(database_settings, folder, act) as (process, admin):
        act.fails_early = [TemporaryFailure("not yet", retry_after=0), PermanentFailure("never")]
        async with held_up(admin, refused(process, "$one")) as putting:
            await wait_until(lambda: act.heard[1:] == ["$one"])
            if not is_stored:
                await cut_off(admin)
                await putting
        await wait_until(lambda: process.router.waiting == 0)
        assert act.put_aside == [ParkReason.REFUSED] * is_stored
        assert act.heard[1:] == ["$one"] * (2 if is_stored else 1)
        assert await left(process) == 0


async def test_what_is_left_out_early_counts_as_done_only_once_it_is_stored(
    database_settings: DatabaseSettings, folder: Path
) -> None:
    act = Act("portal:1")
    async with begun_early(database_settings, folder, act) as (process, admin):
        async with held_up(admin, put(process, "$one")):
            await wait_until(lambda: act.heard[1:] == ["$one"])
            assert process.router.waiting == 1
        await wait_until(lambda: process.router.waiting == 0)
        assert await left(process) == 0


async def test_one_that_is_cut_off_early_is_no_suspect_and_comes_again(
    database_settings: DatabaseSettings, folder: Path
) -> None:
    act = Early()
    async with begun_early(database_settings, folder, act) as (process, admin):
        async with held_up(admin, put(process, "$one")) as putting:
            await wait_until(lambda: act.heard[-1] == "$one")
            assert process.inflight.recover().suspects == set()
            putting.cancel()
            await asyncio.wait([putting])
        await put(process, "$one")
        await wait_until(lambda: act.done == ["$before", "$one"])


async def test_whatever_fails_each_event_is_acted_on_once_and_in_order(
    database_settings: DatabaseSettings, folder: Path
) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")  # noqa: T201 - shown when it fails
    chance = random.Random(seed)
    act = Early()
    names = [f"${number}" for number in range(30)]
    async with begun_early(database_settings, folder, act) as (process, admin):
        for name in names:
            if chance.random() < 0.3:
                act.fails_early = [TemporaryFailure("later", retry_after=0)]
            while await try_to_put(process, admin, name, chance):
                pass
        await wait_until(lambda: process.router.waiting == 0)
        assert act.done == ["$before", *names]
        assert await left(process) == 0


async def try_to_put(
    process: Process, admin: Connection, name: str, chance: random.Random
) -> Exception | None:
    """Put it; now and then it waits to be stored, and now and then in vain."""
    if chance.random() < 0.5:
        return await refused(process, name)
    async with held_up(admin, refused(process, name)) as putting:
        if chance.random() < 0.5:
            await cut_off(admin)
            await asyncio.wait([putting])
    return putting.result()
