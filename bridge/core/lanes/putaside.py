"""An item that is put aside: what is kept of it, and who is told. None of it may fail."""

import asyncio
import hashlib
import logging
from collections.abc import Callable
from typing import Any

from bridge.core.lanes.lane import Consumer, Item
from bridge.core.lanes.patience import persistently
from bridge.failpoint import failpoint
from bridge.model import Forgotten, Outcome, ParkReason
from bridge.sdk.errors import PermanentFailure, TemporaryFailure
from bridge.storage.items import Items

log = logging.getLogger(__name__)

_TELL_SECONDS = 10


Encode = Callable[[dict[str, Any]], bytes]


async def park(
    item: Item, consumer: str, reason: ParkReason, detail: str, failures: Items, encode: Encode
) -> Outcome:
    """Keep it with the reason, however long the database is away; give what became of it."""
    event = _encoded(item, encode)
    try:
        await persistently(lambda: failures.park(item.id, consumer, reason, detail, event))
    except Forgotten as error:
        tell_forgotten(consumer, error)
        return Outcome.DROPPED
    failpoint("parked")
    log.warning(
        "an item of a %s is parked: %s", consumer.partition(":")[0], reason.value,
        extra={"event": "item_parked"},
    )  # fmt: skip
    return Outcome.PARKED


def _encoded(item: Item, encode: Encode) -> bytes:
    """Write the event; of one that cannot be written nothing is kept, and the log says so."""
    try:
        return encode(item.event)
    except Exception as error:
        log.error(
            "item %s of room %s is parked without its event", item.id, _digest(item),
            exc_info=error, extra={"event": "parked_without_event"},
        )  # fmt: skip
        return b""


async def tell(consumer: Consumer, item: Item, reason: ParkReason, detail: str) -> None:
    """Have the consumer tell who sent it."""
    try:
        async with asyncio.timeout(_TELL_SECONDS):
            await consumer.parked(item, reason, detail)
    except (TimeoutError, TemporaryFailure, PermanentFailure) as error:
        log.warning("the sender was not told: %s", error, extra={"event": "sender_not_told"})
    except Exception as error:
        log.error(
            "the sender of item %s in room %s was not told", item.id, _digest(item),
            exc_info=error, extra={"event": "sender_not_told"},
        )  # fmt: skip


def tell_abandoned(consumer: str) -> None:
    """Have the log say that an item is left behind that does not end when it is told to."""
    log.error(
        "a %s cannot be stopped", consumer.partition(":")[0], extra={"event": "item_abandoned"}
    )


def tell_forgotten(consumer: str, error: Forgotten) -> None:
    """Have the log say that an item outlived its day here."""
    log.error(
        "an item of a %s is let go: %s", consumer.partition(":")[0], error,
        extra={"event": "item_forgotten"},
    )  # fmt: skip


def _digest(item: Item) -> str:
    """What stands for the item's room in the log."""
    room = str(item.event.get("room_id")) if isinstance(item.event, dict) else ""
    return hashlib.blake2b(room.encode("utf-8", "replace"), digest_size=6).hexdigest()
