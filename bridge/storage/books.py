"""The books: of all that was received, what became of it. Counts only, kept when the day is gone.

What became of a row's events goes into the journal with the same statement as its progress. So for
each day *received = delivered + parked + dropped by rule + in hand* must hold; a difference means
that something was swallowed, and is an alarm.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from enum import StrEnum

import asyncpg

from bridge.model import RowId
from bridge.sdk.ids import RoomId
from bridge.storage.datamap import RECEIVED_DAYS
from bridge.storage.door import at_the_door
from bridge.storage.pool import Database

_EVENTS = (
    "CASE source WHEN 'retry' THEN least(1, length(event_keys) / 16) "
    "ELSE length(event_keys) / 16 END"
)
"""A row to try again is of one event, and has two keys: the event's, and that of the retry."""

_LEFT = f"{_EVENTS} - bit_count(substring(progress FROM 1 FOR (length(event_keys) / 16 + 7) / 8))"
"""The bits of events that had come before are set from the start."""

_FROM_MATRIX = (
    f"SELECT coalesce(sum({_EVENTS} - repeated), 0) AS received, "  # noqa: S608
    "coalesce(sum(delivered), 0) AS delivered, coalesce(sum(parked), 0) AS parked, "
    "coalesce(sum(dropped), 0) AS dropped, "
    f"coalesce(sum(CASE WHEN done THEN 0 ELSE {_LEFT} END), 0) AS in_hand "
    "FROM journal WHERE day = $1"
)

_INTO_MATRIX = (
    "SELECT count(*) AS received, count(*) FILTER (WHERE state = 'sent') AS delivered, "
    "count(*) FILTER (WHERE state = 'parked') AS parked, "
    "count(*) FILTER (WHERE state = 'dropped') AS dropped, "
    "count(*) FILTER (WHERE state IN ('queued', 'waiting')) AS in_hand "
    "FROM outbox WHERE day = $1"
)
_KEEP = (
    "INSERT INTO tally (day, direction, received, delivered, parked, dropped, in_hand, "
    "counted_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (day, direction) "
    "DO UPDATE SET received = $3, delivered = $4, parked = $5, dropped = $6, in_hand = $7, "
    "counted_at = $8"
)


class Direction(StrEnum):
    """Which way something goes."""

    TO_NETWORK = "to_network"
    """From Matrix, to networks and bots."""
    TO_MATRIX = "to_matrix"


_STATEMENTS = {Direction.TO_NETWORK: _FROM_MATRIX, Direction.TO_MATRIX: _INTO_MATRIX}


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """One day of one direction."""

    day: date
    direction: Direction
    received: int
    delivered: int
    parked: int
    dropped: int
    in_hand: int

    @property
    def difference(self) -> int:
        """What is unaccounted for; 0 unless something is wrong."""
        return self.received - self.delivered - self.parked - self.dropped - self.in_hand


class Books:
    """Counts a day anew each time, from the rows themselves."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def count(
        self, day: date, directions: Sequence[Direction] = tuple(Direction)
    ) -> list[Account]:
        """Count the day, and keep the numbers. Call it once more before the day is dropped."""
        found = []
        with at_the_door():
            for direction in directions:
                statement = _STATEMENTS[direction]
                row = await self._database.core.fetchrow(statement, day)
                assert row is not None  # noqa: S101 - an aggregate gives one row
                account = _account(day, direction, row)
                found.append(account)
                await self._database.core.execute(
                    _KEEP, day, direction.value, account.received, account.delivered,
                    account.parked, account.dropped, account.in_hand, self._database.clock.now(),
                )  # fmt: skip
        return found

    async def count_open(self) -> list[Account]:
        """Count today, yesterday, and each day of which something was in hand."""
        today = self._database.clock.today()
        days = {today, today - timedelta(days=1)}
        days |= {one.day for one in await self.kept() if one.in_hand or one.difference}
        oldest = today - timedelta(days=RECEIVED_DAYS - 1)
        return [one for day in sorted(days) if day >= oldest for one in await self.count(day)]

    async def kept(self, days: int = RECEIVED_DAYS) -> list[Account]:
        """The numbers of the last days, as they were counted last; the oldest day first."""
        since = self._database.clock.today() - timedelta(days=days - 1)
        with at_the_door():
            rows = await self._database.core.fetch(
                "SELECT * FROM tally WHERE day >= $1 ORDER BY day, direction DESC", since
            )
        return [_account(row["day"], Direction(row["direction"]), row) for row in rows]

    async def open_rows(self) -> dict[RowId, int]:
        """The journal's rows that are not done, and how many of their events are not."""
        with at_the_door():
            rows = await self._database.core.fetch(
                f"SELECT day, seq, {_LEFT} AS open FROM journal WHERE NOT done"  # noqa: S608
            )
        return {RowId(row["day"], row["seq"]): row["open"] for row in rows}

    async def waiting_by_room(self) -> Mapping[RoomId, int]:
        """How much the outbox has for each room that is not sent."""
        with at_the_door():
            rows = await self._database.core.fetch(
                "SELECT room, count(*) AS number FROM outbox WHERE state = 'queued' GROUP BY room"
            )
        return {RoomId(row["room"]): row["number"] for row in rows}


def _account(day: date, direction: Direction, row: asyncpg.Record) -> Account:
    names: Sequence[str] = ("received", "delivered", "parked", "dropped", "in_hand")
    return Account(day=day, direction=direction, **{name: int(row[name]) for name in names})
