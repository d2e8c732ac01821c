"""A portal's move into another room takes along what waits for it, whole or not at all."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import pytest
import pytest_asyncio

from bridge.model import Portal, QueuedOutgoing
from bridge.sdk.errors import PermanentFailure, TemporaryFailure
from bridge.sdk.ids import InstanceId, RemoteChatId, RoomId
from bridge.storage.keys import DayKeys
from bridge.storage.outbox import Outbox
from bridge.storage.pool import Database
from bridge.storage.portals import PortalStore
from tests.rigs.cluster import until_one_waits
from tests.storage.rows import entry, queued_in

OLD, NEW = RoomId("!old:hs"), RoomId("!new:hs")


@pytest_asyncio.fixture
async def outbox(database: Database, day_keys: DayKeys) -> Outbox:
    outbox = Outbox(database, day_keys)
    await outbox.open()
    return outbox


@pytest_asyncio.fixture
async def portal(database: Database) -> Portal:
    return await tie(database, OLD)


async def tie(database: Database, room: RoomId) -> Portal:
    """Have a room's portal of a chat; each room's is another login's."""
    return await PortalStore(database).add(
        instance=InstanceId("near"), chat=RemoteChatId("#pier"), chat_name="#pier", room=room,
        receiver=None if room == OLD else 1,  # type: ignore[arg-type]
    )  # fmt: skip


async def put(outbox: Outbox, portal: int, *texts: str) -> list[QueuedOutgoing]:
    """Have that said in the old room by a portal."""
    return await outbox.add([
        entry(f"{portal} {text}", portal=portal, room=OLD, remote_id=text, content={"body": text})
        for text in texts
    ])  # fmt: skip


def readdressed(entries: Sequence[QueuedOutgoing]) -> list[QueuedOutgoing]:
    """The entries as they are for the new room, in other words."""
    return [
        replace(one, outgoing=replace(one.outgoing, room=NEW, content={"body": "new"}))
        for one in entries
    ]


async def standing(outbox: Outbox) -> list[tuple[str, str]]:
    """What waits, in order: for which room, and its words."""
    return [(one.outgoing.room, one.outgoing.content["body"]) for one in await queued_in(outbox)]


async def test_what_goes_along_is_the_new_rooms_in_its_order_and_opens_there(
    outbox: Outbox, database: Database, portal: Portal
) -> None:
    first, second, third = await put(outbox, portal.id, "first", "second", "third")
    await put(outbox, portal.id + 1, "another's")
    assert await outbox.moves.waiting(portal.id, [OLD], {}) == [first, second, third]
    await outbox.moves.move(portal.id, NEW, readdressed([first, third]), [second])
    assert await standing(outbox) == [(NEW, "new"), (NEW, "new"), (OLD, "another's")]
    (found,) = await PortalStore(database).all()
    assert found.room == NEW
    dropped = await database.core.fetchrow("SELECT * FROM outbox WHERE state = 'dropped'")
    assert dropped is not None
    assert (dropped["seq"], dropped["room"]) == (second.seq, OLD)
    # Done again, it changes nothing.
    await outbox.moves.move(portal.id, NEW, readdressed([first, third]), [second])
    assert [room for room, _ in await standing(outbox)] == [NEW, NEW, OLD]


async def test_what_was_read_before_is_not_read_again_and_goes_once_it_is_settled(
    outbox: Outbox, database: Database, portal: Portal
) -> None:
    first, second = await put(outbox, portal.id, "first", "second")
    read = {one.seq: one for one in await outbox.moves.waiting(portal.id, [OLD], {})}
    await outbox.drop(second)
    (third,) = await put(outbox, portal.id, "third")
    waiting = await outbox.moves.waiting(portal.id, [OLD], read)
    assert waiting == [first, third]
    assert waiting[0] is read[first.seq]


async def test_what_was_settled_meanwhile_stays_so(
    outbox: Outbox, database: Database, portal: Portal
) -> None:
    (first,) = await put(outbox, portal.id, "first")
    await outbox.drop(first)
    await outbox.moves.move(portal.id, NEW, readdressed([first]), [])
    assert await database.core.fetchval("SELECT room FROM outbox") == OLD


async def test_where_it_is_refused_nothing_moves(
    outbox: Outbox, database: Database, portal: Portal
) -> None:
    waiting = await put(outbox, portal.id, "first", "second")
    await tie(database, NEW)
    with pytest.raises(PermanentFailure, match="same chat already"):
        await outbox.moves.move(portal.id, NEW, readdressed(waiting[:1]), waiting[1:])
    assert await standing(outbox) == [(OLD, "first"), (OLD, "second")]
    await database.core.execute("UPDATE lease SET epoch = epoch + 1")
    with pytest.raises(TemporaryFailure):
        await outbox.moves.move(portal.id, RoomId("!else:hs"), readdressed(waiting), [])
    assert await standing(outbox) == [(OLD, "first"), (OLD, "second")]
    assert [one.room for one in await PortalStore(database).all()] == [OLD, NEW]


async def test_with_a_portal_that_has_ended_nothing_goes_along(
    outbox: Outbox, database: Database, portal: Portal
) -> None:
    waiting = await put(outbox, portal.id, "first", "second")
    await PortalStore(database).remove(portal.id)
    with pytest.raises(PermanentFailure, match="ended"):
        await outbox.moves.move(portal.id, NEW, readdressed(waiting[:1]), waiting[1:])
    assert await standing(outbox) == [(OLD, "first"), (OLD, "second")]


async def test_one_entry_goes_along_by_itself_as_long_as_it_waits_for_the_old_room(
    outbox: Outbox, database: Database, portal: Portal
) -> None:
    first, second = await put(outbox, portal.id, "first", "second")
    assert await outbox.moves.readdress(first, NEW)
    assert await standing(outbox) == [(NEW, "first"), (OLD, "second")]
    assert not await outbox.moves.readdress(first, NEW)  # It is done.
    await outbox.drop(second)
    assert not await outbox.moves.readdress(second, NEW)
    (third,) = await put(outbox, portal.id, "third")
    await database.core.execute("UPDATE lease SET epoch = epoch + 1")
    assert not await outbox.moves.readdress(third, NEW)


async def test_a_move_that_is_cut_off_is_whole_or_not_at_all_and_can_be_done_again(
    outbox: Outbox, database: Database, portal: Portal
) -> None:
    waiting = await put(outbox, portal.id, "first", "second")
    going, left_out = readdressed(waiting[:1]), waiting[1:]
    core = database.core

    async def fail() -> None:
        with pytest.raises(TemporaryFailure):
            await outbox.moves.move(portal.id, NEW, going, left_out)

    async with (
        asyncio.TaskGroup() as group, core.acquire() as connection, connection.transaction()
    ):  # fmt: skip
        await connection.execute("LOCK TABLE outbox IN SHARE MODE")
        group.create_task(fail())
        await until_one_waits(core)  # By then the portal's row is written.
        waits = await connection.fetchval("SELECT pid FROM pg_locks WHERE NOT granted")
        for holder in core._holders:  # type: ignore[attr-defined]
            if holder._con is not None and holder._con.get_server_pid() == waits:
                holder._con.terminate()
    assert await standing(outbox) == [(OLD, "first"), (OLD, "second")]
    assert [one.room for one in await PortalStore(database).all()] == [OLD]
    await outbox.moves.move(portal.id, NEW, going, left_out)
    assert await standing(outbox) == [(NEW, "new")]
    assert [one.room for one in await PortalStore(database).all()] == [NEW]
