"""The books find what is unaccounted for, and nothing else."""

from collections.abc import Mapping
from datetime import timedelta

import pytest

from bridge.core.oversight.bookkeeper import Bookkeeper
from bridge.model import Mark, Outgoing, ParkReason, RowId, SendKind, Source
from bridge.sdk.ids import RoomId, UserId
from bridge.storage.books import Account, Books, Direction
from bridge.storage.journal import Journal
from bridge.storage.keys import DayKeys
from bridge.storage.outbox import Outbox
from bridge.storage.pool import Database
from bridge.telemetry import Telemetry
from tests.storage.conftest import TurnedClock, agree
from tests.storage.rows import forget, sent


async def landed(journal: Journal, events: int, repeated: int = 0) -> RowId:
    """A row of so many events, of which the first ones came before."""
    progress = ((1 << repeated) - 1).to_bytes((events + 7) // 8, "little")
    return await journal.land(
        source=Source.TRANSACTION, body=b"{}", event_keys=b"k" * 16 * events, progress=progress,
        done=repeated == events, repeated=repeated,
    )  # fmt: skip


def said(name: str) -> Outgoing:
    return Outgoing(
        room=RoomId("!r"), user=UserId("@u:hs"), kind=SendKind.EVENT, type="m.room.message",
        content={"body": name}, transaction_id=name, portal=1,
    )  # fmt: skip


async def test_a_day_is_counted_by_what_became_of_each_event_and_kept_when_it_is_gone(
    database: Database, day_keys: DayKeys, clock: TurnedClock, journal: Journal, outbox: Outbox
) -> None:
    books = Books(database)
    today = clock.today()
    row = await landed(journal, 10, repeated=2)
    await landed(journal, 3, repeated=3)
    await journal.mark([Mark(row, b"\xff\x01", False, (1, 4, 2))])
    first, second, _ = await outbox.add([said("one"), said("two"), said("three")])
    await outbox.finish([sent(first, "$e")])
    await outbox.park(second, ParkReason.REFUSED, "no")
    from_matrix, into_matrix = await books.count(today)
    assert from_matrix == Account(
        day=today, direction=Direction.TO_NETWORK, received=8, delivered=4, parked=1, dropped=2,
        in_hand=1,
    )  # fmt: skip
    assert into_matrix == Account(
        day=today, direction=Direction.TO_MATRIX, received=3, delivered=1, parked=1, dropped=0,
        in_hand=1,
    )  # fmt: skip
    assert (from_matrix.difference, into_matrix.difference) == (0, 0)
    clock.ahead = timedelta(days=14)
    agree(database)
    assert today in await forget(database, day_keys)
    kept = [account for account in await books.kept(days=20) if account.day == today]
    assert kept == [from_matrix, into_matrix]


async def test_a_day_of_which_something_is_in_hand_is_counted_anew_as_long_as_it_is_kept(
    database: Database, clock: TurnedClock, outbox: Outbox
) -> None:
    books = Books(database)
    today = clock.today()
    first, second = await outbox.add([said("one"), said("two")])
    for number, days in enumerate((0, 5, 13)):
        clock.ahead = timedelta(days=days)
        into_matrix = [one for one in await books.count_open() if one.day == today][1]
        assert (into_matrix.delivered, into_matrix.in_hand) == (number, 2 - number)
        if days < 13:
            await outbox.finish([sent((first, second)[number], f"$e{number}")])
    # Nothing is left of it: so it is not looked at again.
    assert today not in [one.day for one in await books.count_open()]


async def test_what_is_done_without_an_outcome_and_what_nobody_holds_is_a_difference(
    database: Database, caplog: pytest.LogCaptureFixture, journal: Journal, outbox: Outbox
) -> None:
    books = Books(database)
    held: dict[RoomId, int] = {}
    rows: set[RowId] = set()

    def holding() -> Mapping[RoomId, int]:
        return held

    keeper = Bookkeeper(books, Telemetry(), rows_in_hand=lambda: rows, holding=holding)
    row = await landed(journal, 4)
    await outbox.add([said("one"), said("two")])
    rows.add(row)
    held[RoomId("!r")] = 2
    assert await keeper.balance() == {"to_network": 0, "to_matrix": 0}
    assert caplog.text == ""
    await journal.mark([Mark(row, b"\x03", False, (0, 1, 0))])
    assert await keeper.balance() == {"to_network": 1, "to_matrix": 0}
    rows.clear()
    held[RoomId("!r")] = 1
    assert await keeper.balance() == {"to_network": 3, "to_matrix": 1}
    assert keeper.difference == {"to_network": 3, "to_matrix": 1}
    assert "unaccounted for" in caplog.text
