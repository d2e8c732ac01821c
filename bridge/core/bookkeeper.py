"""Balances the books: nothing that was received may be unaccounted for."""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, TypeVar

from bridge.sdk.ids import RoomId
from bridge.telemetry import Telemetry

log = logging.getLogger(__name__)

_SETTLE = 2.0
"""Seconds after which what is on its way between us and the outbox has arrived."""


class Account(Protocol):
    """One day of one direction."""

    @property
    def direction(self) -> str: ...
    @property
    def difference(self) -> int: ...


A_co = TypeVar("A_co", bound=Account, covariant=True)


class Books(Protocol[A_co]):
    """The part of the storage that counts."""

    async def count_open(self) -> Sequence[A_co]: ...
    async def waiting_by_room(self) -> Mapping[RoomId, int]: ...


class Bookkeeper:
    """Compares what the tables say with itself, and with what is in hand."""

    def __init__(
        self,
        books: "Books[Account]",
        holding: Callable[[], Mapping[RoomId, int]],
        telemetry: Telemetry,
    ) -> None:
        self._books = books
        self._holding = holding
        self._telemetry = telemetry
        self.difference: dict[str, int] = {}
        """By direction: what was unaccounted for at the last look."""

    async def balance(self) -> dict[str, int]:
        """Count, set the metric, and complain of a difference; give the differences.

        Raises ``TemporaryFailure`` when the database is away.
        """
        found = {"to_network": 0, "to_matrix": await self._stranded()}
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

    async def _stranded(self) -> int:
        """How many entries of the outbox wait, and nobody has them in hand."""
        missing: dict[RoomId, int] | None = None
        for _ in range(2):
            waiting, held = await self._books.waiting_by_room(), self._holding()
            now = {room: number - held.get(room, 0) for room, number in waiting.items()}
            missing = (
                now if missing is None else {r: min(n, now.get(r, 0)) for r, n in missing.items()}
            )
            if all(number <= 0 for number in missing.values()):
                return 0
            await asyncio.sleep(_SETTLE)
        return sum(number for number in (missing or {}).values() if number > 0)
