"""Balances the books: nothing that was received may be unaccounted for."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Mapping

from bridge.model import RowId
from bridge.sdk.ids import RoomId
from bridge.storage.books import Books
from bridge.telemetry import Telemetry

log = logging.getLogger(__name__)

_SETTLE = 2.0
"""Seconds after which what is on its way between us and the tables has arrived."""


class Bookkeeper:
    """Compares what the tables say with each other, and with what is in hand."""

    def __init__(
        self,
        books: Books,
        telemetry: Telemetry,
        *,
        rows_in_hand: Callable[[], Collection[RowId]],
        holding: Callable[[], Mapping[RoomId, int]],
    ) -> None:
        self._books = books
        self._telemetry = telemetry
        self._rows_in_hand = rows_in_hand
        self._holding = holding
        self.difference: dict[str, int] = {}
        """By direction: what was unaccounted for at the last look."""

    async def balance(self) -> dict[str, int]:
        """Count, set the metric, and complain of a difference; give the differences.

        Raises ``TemporaryFailure`` when the database is away.
        """
        found = {
            "to_network": await _lasting(self._stranded_rows),
            "to_matrix": await _lasting(self._stranded_entries),
        }
        for account in await self._books.count_open():
            found[account.direction] += abs(account.difference)
        for direction, number in found.items():
            self._telemetry.bookkeeping_difference.labels(direction=direction).set(number)
            if number:
                log.error(
                    "%d events %s are unaccounted for: please report it, with the log", number,
                    direction.replace("_", " "), extra={"event": "books_differ"},
                )  # fmt: skip
        self.difference = found
        return found

    async def _stranded_rows(self) -> Mapping[object, int]:
        """Rows of the journal with something to do, and in nobody's hands: how much of each."""
        before = set(self._rows_in_hand())
        rows = await self._books.open_rows()
        known = before.union(self._rows_in_hand())
        return {row: number for row, number in rows.items() if row not in known}

    async def _stranded_entries(self) -> Mapping[object, int]:
        """Entries of the outbox that wait in nobody's hands, by room."""
        before = self._holding()
        waiting = await self._books.waiting_by_room()
        after = self._holding()
        return {
            room: missing
            for room, number in waiting.items()
            if (missing := number - max(before.get(room, 0), after.get(room, 0))) > 0
        }


async def _lasting(look: Callable[[], Awaitable[Mapping[object, int]]]) -> int:
    """What two looks agree on: in one, something may just be on its way."""
    first = await look()
    if not first:
        return 0
    await asyncio.sleep(_SETTLE)
    second = await look()
    return sum(min(number, second.get(what, 0)) for what, number in first.items())
