"""Items that did not go through at once: how often they were tried, and those put aside."""

from datetime import datetime

from bridge.model import Forgotten, ItemId, ParkReason
from bridge.sdk.errors import TemporaryFailure
from bridge.storage.door import at_the_door
from bridge.storage.keys import DayKeys
from bridge.storage.pool import Database

_PARK = (
    "INSERT INTO item (day, seq, index, consumer, state, tries, reason, detail, event, since, "
    "epoch) SELECT $1, $2, $3, $4, 'parked', 1, $5, $6, $7, $8, $9 "
    "WHERE (SELECT epoch FROM lease WHERE shard = 0) = $9 "
    "ON CONFLICT (day, seq, index, consumer) DO UPDATE SET state = 'parked', "
    "reason = excluded.reason, detail = excluded.detail, event = excluded.event"
)
_TRY = (
    "INSERT INTO item (day, seq, index, consumer, state, tries, since, epoch) "
    "SELECT $1, $2, $3, $4, 'trying', 1, $5, $6 "
    "WHERE (SELECT epoch FROM lease WHERE shard = 0) = $6 "
    "ON CONFLICT (day, seq, index, consumer) DO UPDATE SET tries = item.tries + 1 "
    "RETURNING tries"
)


class Items:
    """Tries and parked items."""

    def __init__(self, database: Database, day_keys: DayKeys) -> None:
        self._database = database
        self._day_keys = day_keys

    def find_over(self, item: ItemId) -> Forgotten | None:
        """Say that the item's day is over, if it is: nothing is kept of it any more."""
        return self._day_keys.find_over(item.day)

    async def note_try(self, item: ItemId, consumer: str) -> int:
        """Count a try, durably, and say how many there were with it.

        Raises ``TemporaryFailure`` when the database is away, or another instance's by now, and
        ``Forgotten`` when the item's day is over.
        """
        self._day_keys.refuse_over(item.day)
        with at_the_door():
            tries = await self._database.core.fetchval(
                _TRY, *item, consumer, self._database.clock.now(), self._database.epoch
            )
        if tries is None:
            raise TemporaryFailure("another instance took over the database")
        return int(tries)

    async def clear_try(self, item: ItemId, consumer: str) -> None:
        """Forget the tries of an item that went through."""
        with at_the_door():
            await self._database.core.execute(
                "DELETE FROM item WHERE (day, seq, index, consumer) = ($1, $2, $3, $4) "
                "AND state = 'trying' AND (SELECT epoch FROM lease WHERE shard = 0) = $5",
                *item, consumer, self._database.epoch,
            )  # fmt: skip

    async def park(
        self, item: ItemId, consumer: str, reason: ParkReason, detail: str, event: bytes
    ) -> None:
        """Put the item aside with the reason in a sentence, and what was received, sealed.

        Raises ``Forgotten`` when the item's day is over.
        """
        associated = item_context(item, consumer)
        with at_the_door():
            await self._database.core.execute(
                _PARK, *item, consumer, reason.value,
                self._day_keys.seal(item.day, associated, detail.encode("utf-8", "replace")),
                self._day_keys.seal(item.day, associated, event),
                self._database.clock.now(), self._database.epoch,
            )  # fmt: skip

    async def parked_of_open_rows(self) -> set[tuple[ItemId, str]]:
        """What is parked of journal rows that are not done: (item, consumer)."""
        with at_the_door():
            rows = await self._database.core.fetch(
                "SELECT i.day, i.seq, i.index, i.consumer FROM item i JOIN journal j "
                "ON (j.day, j.seq) = (i.day, i.seq) WHERE i.state = 'parked' AND NOT j.done"
            )
        return {(ItemId(row["day"], row["seq"], row["index"]), row["consumer"]) for row in rows}

    async def parked_of(self, item: ItemId) -> list[tuple[str, ParkReason, datetime]]:
        """For whom the item is parked, why, since when."""
        with at_the_door():
            rows = await self._database.core.fetch(
                "SELECT consumer, reason, since FROM item WHERE state = 'parked' "
                "AND (day, seq, index) = ($1, $2, $3) ORDER BY consumer",
                *item,
            )
        return [(row["consumer"], ParkReason(row["reason"]), row["since"]) for row in rows]

    async def count_parked(self) -> dict[ParkReason, int]:
        """How many are parked, by reason."""
        with at_the_door():
            rows = await self._database.core.fetch(
                "SELECT reason, count(*) AS number FROM ("
                "SELECT reason FROM item WHERE state = 'parked' "
                "UNION ALL SELECT reason FROM outbox WHERE state = 'parked' "
                "UNION ALL SELECT reason FROM timer WHERE state = 'parked') AS aside "
                "GROUP BY reason"
            )
        return {ParkReason(row["reason"]): row["number"] for row in rows}


def item_context(item: ItemId, consumer: str) -> bytes:
    """What an item's sealed parts are bound to."""
    return f"item {item} {consumer}".encode()
