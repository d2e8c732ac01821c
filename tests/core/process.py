"""The heart alone: what takes events, stores them and works on them, over a real database."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson

from bridge.core.intake.intake import Intake
from bridge.core.lanes.crossings import Crossings
from bridge.core.lanes.inflight import InFlight
from bridge.core.lanes.lane import Consumer, Item, Lane
from bridge.core.lanes.progress import Marker
from bridge.core.lanes.router import Router
from bridge.matrix.body import parse_transaction
from bridge.model import Clock, ParkReason, SystemClock
from bridge.settings.records import DatabaseSettings
from bridge.storage.items import Items
from bridge.storage.journal import Journal
from bridge.storage.keys import DayKeys, EventKeys
from bridge.storage.pool import Database
from bridge.storage.portals import PortalStore
from bridge.telemetry import Telemetry

EVENT = {
    "type": "m.room.message", "event_id": "$said", "room_id": "!r", "sender": "@alice:hs",
    "content": {"msgtype": "m.text", "body": "said"},
}  # fmt: skip
Handle = Callable[[Item], Awaitable[None]]


class Listener:
    """Notes what it is handed; fails as told the first times, or never ends."""

    deadline = 30.0
    holds = False

    def __init__(self, name: str, *errors: Exception, hangs: bool = False) -> None:
        self.name = name
        self.hangs = hangs
        self.errors = list(errors)
        self.heard = asyncio.Event()
        self.again: list[bool] = []
        """Of each time: whether it may have been handled before."""

    async def handle(self, item: Item) -> None:
        """Note it."""
        self.again.append(item.again)
        self.heard.set()
        if self.hangs:
            await asyncio.Event().wait()
        if self.errors:
            raise self.errors.pop(0)

    async def parked(self, item: Item, reason: ParkReason, detail: str) -> None:
        """Nobody to tell."""


class Process:
    """What takes events, over the files and the database that the one before left."""

    def __init__(
        self, database: Database, journal: Journal, folder: Path, listeners: Sequence[Consumer]
    ) -> None:
        self.database = database
        self.day_keys = DayKeys(folder, database.clock)
        items = Items(database, self.day_keys)
        telemetry = Telemetry()
        self.journal = journal
        self.inflight = InFlight(folder / "inflight")
        self.router = Router(self.inflight, items, telemetry, encode=orjson.dumps)
        self.marker = self.router.marker = Marker(journal, Crossings(PortalStore(database)))
        self.intake = Intake(
            journal, items, self.router, self.marker, telemetry, database.clock,
            keys_of=EventKeys(folder).keys_of, route=self, parse=parse_transaction,
        )  # fmt: skip
        self._listeners = listeners
        self.begins_early = False

    def __call__(self, event: dict[str, Any]) -> Sequence[Lane]:
        """Everybody hears everything."""
        return [self.router.lane(listener) for listener in self._listeners]

    def hear(self, event: dict[str, Any]) -> None:
        """Nothing counts before its turn."""

    def early(self, event: dict[str, Any]) -> Lane | None:
        """Only one that is alone, and at rest, may begin early, and only if it wants to."""
        first, *others = self(event)
        return first if self.begins_early and not others and first.is_at_rest else None

    async def recover(self) -> None:
        """Take up what was left, as a start does before it takes events."""
        async with asyncio.TaskGroup() as group:
            marker = group.create_task(self.marker.run())
            await self.intake.recover(self.inflight.recover(), group, alone=5.0)
            await self.marker.settle()
            marker.cancel()
        self.inflight.clear(self.router.suspects())

    async def work_until_heard(self) -> None:
        """Handle items until each listener has been handed something; mark nothing."""
        async with asyncio.TaskGroup() as group, asyncio.timeout(20):
            router = group.create_task(self.router.run())
            for listener in self._listeners:
                assert isinstance(listener, Listener)
                await listener.heard.wait()
            router.cancel()


@asynccontextmanager
async def processes(
    settings: DatabaseSettings, folder: Path, clock: Clock | None = None
) -> AsyncIterator[tuple[Database, Journal]]:
    """What outlives a process."""
    async with Database.open(settings, folder, clock or SystemClock()) as database:
        journal = Journal(database, DayKeys(folder, database.clock))
        await journal.open()
        yield database, journal
        await journal.close()


class Act:
    """A consumer that does with an item what a test says, and notes what it is handed."""

    holds = False

    def __init__(self, name: str, *acts: Handle, deadline: float = 30.0) -> None:
        self.name = name
        self.deadline = deadline
        self.acts = list(acts)
        """What it does with the first items; with those that follow, nothing."""
        self.heard: list[str] = []
        self.put_aside: list[ParkReason] = []
        self.may_tell = asyncio.Event()
        self.may_tell.set()

    async def handle(self, item: Item) -> None:
        """Do as told."""
        self.heard.append(item.event["event_id"])
        if self.acts:
            await self.acts.pop(0)(item)

    async def parked(self, item: Item, reason: ParkReason, detail: str) -> None:
        """Note it, and tell the sender once that may be."""
        self.put_aside.append(reason)
        await self.may_tell.wait()


@asynccontextmanager
async def at_work(
    settings: DatabaseSettings, folder: Path, acts: Sequence[Act], clock: Clock | None = None
) -> AsyncIterator[Process]:
    """Have lanes of these at work until the block ends."""
    async with processes(settings, folder, clock) as kept:
        process = Process(*kept, folder, acts)
        process.intake.open()
        async with asyncio.TaskGroup() as group:
            marker = group.create_task(process.marker.run())
            router = group.create_task(process.router.run())
            yield process
            router.cancel()
            await asyncio.wait({router}, timeout=60)
            assert router.done(), "the lanes do not stop"
            marker.cancel()


async def put(process: Process, *names: str) -> None:
    """Have it take events of these ids, in a transaction each, and hand them on."""
    for name in names:
        await put_together(process, name)


async def put_together(process: Process, *names: str) -> None:
    """Have it take events of these ids in one transaction, and hand them on."""
    body = orjson.dumps({"events": [EVENT | {"event_id": name} for name in names]})
    await process.intake.accept(parse_transaction(body, names[0]))
    await asyncio.sleep(0)


async def left(process: Process) -> int:
    """How many rows the journal knows to be unfinished, all marks being written."""
    await process.marker.settle()
    return len([row async for row in process.journal.unfinished()])
