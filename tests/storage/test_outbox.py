"""The outbox: entries are stored once, handed to one caller, and never in each other's way."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta

import pytest

from bridge.model import Outgoing, ParkReason
from bridge.sdk.errors import PermanentFailure, TemporaryFailure
from bridge.sdk.ids import EventId, RoomId, UserId
from bridge.storage.keys import DayKeys, KeyLost
from bridge.storage.outbox import Outbox
from bridge.storage.pool import Database
from bridge.storage.portals import PortalStore
from bridge.storage.shelf import Shelf
from tests.rigs.cluster import until_one_waits
from tests.storage.conftest import TurnedClock
from tests.storage.rows import entry, ids_of, left_in, reopened, sent


@asynccontextmanager
async def nothing_written(database: Database) -> AsyncIterator[None]:
    """Whoever writes entries inside has to wait until it is left."""
    async with database.core.acquire() as connection, connection.transaction():
        await connection.execute("LOCK TABLE outbox IN SHARE MODE")
        yield


async def until_one_waits_for_a_row(database: Database) -> None:
    """Return when a statement waits for what another transaction does with a row."""
    async with asyncio.timeout(20):
        while not await database.core.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"):
            await asyncio.sleep(0.01)


async def cut_what_waits(database: Database) -> None:
    """Have the answer to the statement that waits for a lock be lost."""
    await until_one_waits(database.core)
    (waits,) = await database.core.fetch("SELECT pid FROM pg_locks WHERE NOT granted")
    for holder in database.core._holders:  # type: ignore[attr-defined]
        if holder._con is not None and holder._con.get_server_pid() == waits["pid"]:
            holder._con.terminate()  # The server does not notice before it has committed.


async def ids_given(outbox: Outbox, one: Outgoing) -> list[str] | Exception:
    """Add the entry; the transaction ids that are ours to send, or why it cannot be."""
    try:
        return [queued.outgoing.transaction_id for queued in await outbox.add([one])]
    except PermanentFailure as error:
        return error


async def outcome_of(asked: Awaitable[object]) -> object:
    """What it gives, or why it failed for now."""
    try:
        return await asked
    except TemporaryFailure as error:
        return error


async def test_an_entry_added_again_while_somebody_sends_it_is_nobody_elses(
    outbox: Outbox,
) -> None:
    (queued,) = await outbox.add([entry()])
    assert await outbox.add([entry()]) == []
    await outbox.finish([sent(queued, "$e")])
    assert await outbox.add([entry()]) == []


async def test_one_transaction_id_twice_in_a_call_is_one_entry(outbox: Outbox) -> None:
    assert [q.outgoing for q in await outbox.add([entry(), entry(), entry("t2")])] == [
        entry(), entry("t2"),
    ]  # fmt: skip


async def test_when_it_was_said_is_the_same_after_a_restart(
    outbox: Outbox, database: Database, day_keys: DayKeys
) -> None:
    late = replace(entry("late"), said_at=1_790_000_000_123)
    stored = await outbox.add([late, entry("now")])
    again = await reopened(database, day_keys)
    (waiting,) = await again.waiting()
    more = await again.next_of(waiting.room, 0, waiting.last, 10)
    assert [one.outgoing for one in more.entries] == [late, entry("now")]
    assert more.entries == stored


async def test_entries_keep_the_order_in_which_they_were_added(
    outbox: Outbox, database: Database, day_keys: DayKeys
) -> None:
    async with asyncio.TaskGroup() as group:
        for number in range(20):
            group.create_task(outbox.add([entry(f"{number}a"), entry(f"{number}b")]))
    again = await reopened(database, day_keys)
    left = [one.transaction_id for one in await left_in(again)]
    assert left == [f"{number}{half}" for number in range(20) for half in "ab"]


async def test_who_adds_again_at_once_does_not_return_before_those_who_wait(
    outbox: Outbox, database: Database
) -> None:
    returned: list[str] = []

    async def add(*names: str) -> None:
        for name in names:
            await outbox.add([entry(name)])
            returned.append(name)

    async with asyncio.TaskGroup() as tasks, nothing_written(database):
        tasks.create_task(add("a0", "a1"))
        await until_one_waits(database.core)
        for name in ("b", "c"):
            tasks.create_task(add(name))
    assert returned == ["a0", "b", "c", "a1"]


async def test_those_who_wait_behind_a_writer_that_is_cancelled_return_in_their_order(
    outbox: Outbox, database: Database
) -> None:
    returned: list[list[str]] = []

    async def add(name: str) -> None:
        returned.append(ids_of(await outbox.add([entry(name)])))

    async with asyncio.TaskGroup() as tasks, nothing_written(database):
        writer = tasks.create_task(add("a"))
        await until_one_waits(database.core)
        for name in "bcd":
            tasks.create_task(add(name))
        await asyncio.sleep(0)
        writer.cancel()
        await asyncio.wait([writer])
        await until_one_waits(database.core)
    assert returned == [["a", "b"], ["c"], ["d"]]


async def test_an_entry_whose_commit_was_not_heard_of_is_given_out_with_the_next(
    outbox: Outbox, database: Database
) -> None:
    async with asyncio.TaskGroup() as group, nothing_written(database):
        unheard = group.create_task(outcome_of(outbox.add([entry()])))
        await cut_what_waits(database)
        assert isinstance(await unheard, TemporaryFailure)
    (again,) = await outbox.add([entry()])
    assert again.outgoing == entry()
    assert await outbox.add([entry()]) == []


async def test_a_parked_entry_that_was_taken_back_unheard_is_given_out_with_the_next(
    outbox: Outbox, database: Database
) -> None:
    (queued,) = await outbox.add([entry()])
    await outbox.park(queued, ParkReason.REFUSED, "no")
    told = asyncio.Event()
    outbox.on_unclaimed = told.set
    async with asyncio.TaskGroup() as group, nothing_written(database):
        unheard = group.create_task(outcome_of(outbox.take_back(queued.day, queued.seq)))
        await cut_what_waits(database)
        assert isinstance(await unheard, TemporaryFailure)
    assert told.is_set()
    # The server may have come to it all the same.
    await database.core.execute("UPDATE outbox SET state = 'queued'")
    assert await outbox.take_back(queued.day, queued.seq) is None
    given = [one.outgoing.transaction_id for one in await outbox.add([entry("t2")])]
    assert given == ["t1", "t2"]


async def test_a_parked_entry_that_is_taken_back_at_the_second_try_is_given_to_nobody_else(
    outbox: Outbox, database: Database
) -> None:
    (queued,) = await outbox.add([entry()])
    await outbox.park(queued, ParkReason.REFUSED, "no")
    async with asyncio.TaskGroup() as group, nothing_written(database):
        unheard = group.create_task(outcome_of(outbox.take_back(queued.day, queued.seq)))
        await cut_what_waits(database)
        assert isinstance(await unheard, TemporaryFailure)
    assert await outbox.take_back(queued.day, queued.seq)
    assert [one.outgoing.transaction_id for one in await outbox.add([entry("t2")])] == ["t2"]


async def test_entries_in_doubt_that_cannot_be_read_any_more_cost_no_other_anything(
    outbox: Outbox, database: Database, day_keys: DayKeys, clock: TurnedClock,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    for queued in await outbox.add([entry("t1"), entry("t2")]):
        await outbox.park(queued, ParkReason.REFUSED, "no")
        async with asyncio.TaskGroup() as group, nothing_written(database):
            unheard = group.create_task(outcome_of(outbox.take_back(queued.day, queued.seq)))
            await cut_what_waits(database)
            assert isinstance(await unheard, TemporaryFailure)
    await database.core.execute("UPDATE outbox SET state = 'queued'")
    day_keys.destroy(clock.today())
    clock.ahead = timedelta(days=1)
    assert [one.outgoing for one in await outbox.add([entry("t3")])] == [entry("t3")]
    assert not outbox.has_unclaimed
    assert [vars(one)["event"] for one in caplog.records] == ["outbox_unreadable"] * 2
    states = await database.core.fetch("SELECT state FROM outbox ORDER BY seq")
    assert [row["state"] for row in states] == ["dropped", "dropped", "queued"]


async def test_an_entry_that_is_taken_back_while_another_is_dropped_is_given_to_nobody_else(
    outbox: Outbox, database: Database, day_keys: DayKeys, clock: TurnedClock
) -> None:
    places = []
    for name in ("t1", "t2"):
        (queued,) = await outbox.add([entry(name)])
        await outbox.park(queued, ParkReason.REFUSED, "no")
        async with asyncio.TaskGroup() as group, nothing_written(database):
            unheard = group.create_task(outcome_of(outbox.take_back(queued.day, queued.seq)))
            await cut_what_waits(database)
            assert isinstance(await unheard, TemporaryFailure)
        places.append((queued.day, queued.seq))
        clock.ahead += timedelta(days=1)
    await database.core.execute("UPDATE outbox SET state = 'queued'")
    day_keys.destroy(places[0][0])
    async with asyncio.TaskGroup() as group:
        async with database.core.acquire() as connection, connection.transaction():
            await connection.execute("SELECT FROM outbox WHERE seq = $1 FOR UPDATE", places[0][1])
            adding = group.create_task(outbox.add([entry("t3")]))
            await until_one_waits_for_a_row(database)  # To drop the first.
            await database.core.execute(
                "UPDATE outbox SET state = 'parked', reason = 'refused' WHERE seq = $1",
                places[1][1],
            )
            assert await outbox.take_back(*places[1])
        assert ids_of(await adding) == ["t3"]
    assert not outbox.has_unclaimed


async def test_a_parked_entry_that_cannot_be_read_any_more_stays_parked(
    outbox: Outbox, database: Database, day_keys: DayKeys
) -> None:
    (queued,) = await outbox.add([entry()])
    await outbox.park(queued, ParkReason.REFUSED, "no")
    day_keys.destroy(queued.day)
    with pytest.raises(KeyLost):
        await outbox.take_back(queued.day, queued.seq)
    (parked,) = await Shelf(database, day_keys).all()
    assert (parked.key, parked.reason) == ((queued.day, queued.seq), ParkReason.REFUSED)


async def test_the_server_keeps_its_plan_for_an_entry_that_comes_alone(
    outbox: Outbox, database: Database
) -> None:
    for number in range(10):
        await outbox.add([entry(f"{number}")])
    # After five plans of its own it compares them with one for all.
    kept = await database.core.fetchval(
        "SELECT sum(generic_plans) FROM pg_prepared_statements "
        "WHERE statement LIKE 'INSERT INTO outbox %'"
    )
    assert kept == 5


async def test_finishing_twice_makes_one_link(outbox: Outbox, database: Database) -> None:
    (queued,) = await outbox.add([entry()])
    for _ in range(2):
        await outbox.finish([sent(queued, "$e")])
    assert len(await PortalStore(database).find_message(1, EventId("$e"))) == 1


async def test_what_was_answered_before_a_moment_is_told_from_what_was_not(
    outbox: Outbox, clock: TurnedClock
) -> None:
    answered, _ = await outbox.add([entry("t1"), entry("t2")])
    done = sent(answered, "$e")
    await outbox.finish([done])
    later = done.at + timedelta(seconds=1)
    assert await outbox.have_sent(["t0", "t1", "t2"], before=later)
    assert not await outbox.have_sent(["t1", "t2"], before=done.at)
    assert not await outbox.have_sent(["t0", "t2"], before=later)


async def test_a_parked_entry_is_not_given_out_again(
    outbox: Outbox, database: Database, day_keys: DayKeys
) -> None:
    (queued,) = await outbox.add([entry()])
    await outbox.park(queued, ParkReason.REFUSED, "it was refused")
    assert await outbox.add([entry()]) == []
    assert await left_in(await reopened(database, day_keys)) == []


@pytest.mark.parametrize(
    "poison",
    [
        {"room": RoomId("!zero\0")},
        {"user": UserId("@\ud800:hs")},
        {"portal": 2**70},
        {"content": {"body": "\ud800"}},
        {"content": {"body": 2**70}},
        {"content": {"body": b"bytes"}},
        {"room": RoomId("!" + secrets.token_hex(5000))},
    ],
    ids=["zero", "surrogate", "number", "lone half", "huge", "bytes", "long"],
)
async def test_an_entry_that_cannot_be_stored_costs_no_neighbour(
    outbox: Outbox, database: Database, poison: dict[str, object]
) -> None:
    async with asyncio.TaskGroup() as group, nothing_written(database):
        first = group.create_task(ids_given(outbox, entry("first")))
        await until_one_waits(database.core)
        # These three share a statement.
        before = group.create_task(ids_given(outbox, entry("before")))
        poisoned = group.create_task(ids_given(outbox, entry("poison", **poison)))
        after = group.create_task(ids_given(outbox, entry("after")))
    assert isinstance(poisoned.result(), PermanentFailure)
    assert [one.result() for one in (first, before, after)] == [["first"], ["before"], ["after"]]


async def test_a_writer_that_is_cancelled_leaves_all_entries_to_the_next(
    outbox: Outbox, database: Database
) -> None:
    async with asyncio.TaskGroup() as group, nothing_written(database):
        writer = group.create_task(outbox.add([entry("writer")]))
        others = [group.create_task(outbox.add([entry(f"other {n}")])) for n in range(3)]
        await until_one_waits(database.core)
        writer.cancel()
        await asyncio.wait([writer])
    # Its own may be stored, so it goes out too.
    assert [ids_of(one.result()) for one in others] == [
        ["writer", "other 0"], ["other 1"], ["other 2"],
    ]  # fmt: skip
    assert await outbox.add([entry("writer")]) == []


async def test_a_caller_that_is_cancelled_while_another_writes_for_it_leaves_it_to_the_next(
    outbox: Outbox, database: Database
) -> None:
    async with asyncio.TaskGroup() as group, nothing_written(database):
        first = group.create_task(outbox.add([entry("first")]))
        await until_one_waits(database.core)
        writer = group.create_task(outbox.add([entry("writer")]))
        gone = group.create_task(outbox.add([entry("gone")]))
        await asyncio.sleep(0)
        first.cancel()
        await asyncio.wait([first])
        await until_one_waits(database.core)
        gone.cancel()
        await asyncio.wait([gone])
        assert outbox.has_unclaimed
    assert ids_of(writer.result()) == ["first", "writer"]
    assert ids_of(await outbox.add([entry("next")])) == ["gone", "next"]
    assert not outbox.has_unclaimed
    assert await outbox.add([entry("gone")]) == []


async def test_what_was_left_comes_first_though_the_clock_was_set_back_over_midnight(
    outbox: Outbox, database: Database, clock: TurnedClock
) -> None:
    async with asyncio.TaskGroup() as group, nothing_written(database):
        clock.ahead = timedelta(days=1)
        writer = group.create_task(outbox.add([entry("left")]))
        await until_one_waits(database.core)
        writer.cancel()
        await asyncio.wait([writer])
        clock.ahead = timedelta()
        after = group.create_task(outbox.add([entry("after")]))
    assert ids_of(after.result()) == ["left", "after"]


async def test_what_a_cancelled_caller_says_again_is_its_own(
    outbox: Outbox, database: Database
) -> None:
    async with asyncio.TaskGroup() as group, nothing_written(database):
        writer = group.create_task(outbox.add([entry("again")]))
        await until_one_waits(database.core)
        writer.cancel()
        await asyncio.wait([writer])
    assert ids_of(await outbox.add([entry("again")])) == ["again"]
    assert ids_of(await outbox.add([entry("next")])) == ["next"]


async def test_a_caller_that_is_cancelled_before_anybody_writes_leaves_nothing(
    outbox: Outbox, database: Database
) -> None:
    async with asyncio.TaskGroup() as group, nothing_written(database):
        first = group.create_task(outbox.add([entry("first")]))
        await until_one_waits(database.core)
        gone = group.create_task(outbox.add([entry("gone")]))
        await asyncio.sleep(0)
        gone.cancel()
        await asyncio.wait([gone])
    assert ids_of(first.result()) == ["first"]
    assert ids_of(await outbox.add([entry("next")])) == ["next"]


async def test_a_caller_that_is_cancelled_as_it_is_to_write_leaves_that_to_the_next(
    outbox: Outbox, database: Database
) -> None:
    async def add_first() -> None:
        await outbox.add([entry("first")])
        gone.cancel()

    async with asyncio.timeout(10), asyncio.TaskGroup() as group, nothing_written(database):
        group.create_task(add_first())
        await until_one_waits(database.core)
        gone = group.create_task(outbox.add([entry("gone")]))
        after = group.create_task(outbox.add([entry("after")]))
        await asyncio.sleep(0)
    assert ids_of(after.result()) == ["after"]
    assert not outbox.has_unclaimed
    assert ids_of(await outbox.add([entry("gone")])) == ["gone"]


async def test_an_instance_that_was_replaced_stores_nothing(
    outbox: Outbox, database: Database
) -> None:
    (queued,) = await outbox.add([entry("before")])
    await database.core.execute("UPDATE lease SET epoch = epoch + 1")
    with pytest.raises(TemporaryFailure, match="another instance"):
        await outbox.add([entry("late")])
    await outbox.finish([sent(queued, "$late")])
    rows = await database.core.fetch("SELECT transaction_id, state FROM outbox")
    assert [tuple(row) for row in rows] == [("before", "queued")]


async def test_an_entry_whose_day_key_is_gone_holds_up_no_other(
    outbox: Outbox, database: Database, day_keys: DayKeys, clock: TurnedClock
) -> None:
    await outbox.add([entry("old")])
    clock.ahead = timedelta(days=1)
    await outbox.add([entry("new")])
    day_keys.destroy(clock.today() - timedelta(days=1))
    again = await reopened(database, day_keys)
    assert await left_in(again) == [entry("new")]
