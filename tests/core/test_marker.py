"""Progress is durable when that is said, however the database fails meanwhile."""

import asyncio
import secrets
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from bridge.core.lanes.crossings import Crossings
from bridge.core.lanes.progress import Marker, Row
from bridge.model import LinkKind, Mark, MessageLink, RowId
from bridge.sdk.errors import TemporaryFailure
from bridge.sdk.ids import EventId, RoomId, UserId
from bridge.settings.records import DatabaseSettings
from bridge.storage.journal import Journal
from bridge.storage.keys import DayKeys
from bridge.storage.portals import PortalStore
from tests.core.process import processes
from tests.rigs.trestle import wait_until


class AwayOnce(Journal):
    """A journal whose database goes away as it first writes marks, once that may be."""

    begun = False
    may_fail: asyncio.Event | None = None

    async def mark(self, marks: Sequence[Mark], links: Sequence[MessageLink] = ()) -> None:
        """Fail the first time."""
        if not self.begun:
            self.begun, self.may_fail = True, asyncio.Event()
            await self.may_fail.wait()
            raise TemporaryFailure("the database is away")
        await super().mark(marks, links)


def row(number: int) -> Row:
    return Row(RowId(date(2026, 11, 27), number), 1, landed_at=0.0)


async def write(marker: Marker) -> None:
    """Have it write what is noted."""
    async with asyncio.TaskGroup() as group:
        writing = group.create_task(marker.run())
        marker.touch(row(1))
        async with asyncio.timeout(20):
            await marker.settle()
        writing.cancel()


async def test_who_waits_for_what_is_marked_while_a_write_fails_waits_for_no_more_than_that(
    database_settings: DatabaseSettings, folder: Path
) -> None:
    async with processes(database_settings, folder) as (database, _):
        journal = AwayOnce(database, DayKeys(folder, database.clock))
        marker = Marker(journal, Crossings(PortalStore(database)))
        async with asyncio.TaskGroup() as group:
            writing = group.create_task(marker.run())
            marker.touch(row(1))
            await wait_until(lambda: journal.begun)
            marker.touch(row(2))
            settled = group.create_task(marker.settle())
            await asyncio.sleep(0)
            assert journal.may_fail is not None
            journal.may_fail.set()
            async with asyncio.timeout(20):
                await settled
            assert not marker.unwritten()
            writing.cancel()


async def test_what_a_network_names_too_long_for_the_database_is_noted_without_that_name(
    database_settings: DatabaseSettings, folder: Path
) -> None:
    async with processes(database_settings, folder) as (database, _):
        store = PortalStore(database)
        links = Crossings(store)
        links.note([
            MessageLink(
                portal=7, event_id=EventId("$said"), remote_id=secrets.token_hex(5000), part=0,
                sender=UserId("@u:hs"), room=RoomId("!r"), kind=LinkKind.MESSAGE,
            )
        ])  # fmt: skip
        await write(Marker(Journal(database, DayKeys(folder, database.clock)), links))
        (link,) = await store.find_message(7, EventId("$said"))
        assert link.remote_id is None


async def test_what_a_module_says_wrongly_of_a_message_keeps_nothing_else_from_being_noted(
    database_settings: DatabaseSettings, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with processes(database_settings, folder) as (database, _):
        store = PortalStore(database)
        links = Crossings(store)
        said = MessageLink(
            portal=7, event_id=EventId("$said"), remote_id="m1", part=0,
            sender=UserId("@u:hs"), room=RoomId("!r"), kind=LinkKind.MESSAGE,
        )  # fmt: skip
        no_text: Any = 17
        no_time: Any = 1790000000.0
        links.note([
            said._replace(remote_id=no_text), said._replace(sent_at=no_time), said,
            said._replace(event_id=EventId("$later"), remote_id="m2"),
        ])  # fmt: skip
        await write(Marker(Journal(database, DayKeys(folder, database.clock)), links))
        for name, event in (("m1", "$said"), ("m2", "$later")):
            assert [one.event_id for one in await store.find_remote(7, name)] == [event]
        assert [vars(one)["event"] for one in caplog.records].count("link_lost") == 2
        assert not links.noted()
