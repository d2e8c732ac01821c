"""What a stopped Trestle's own database says: what was handed to it, and what it put aside."""

from dataclasses import dataclass
from pathlib import Path

from bridge.matrix.body import parse_transaction
from bridge.model import RowId, Source, SystemClock
from bridge.prove.ledgers import Arrival
from bridge.settings.records import DatabaseSettings
from bridge.storage.journal import Journal
from bridge.storage.keys import DayKeys
from bridge.storage.pool import Database
from bridge.storage.shelf import Shelf


@dataclass(frozen=True, slots=True, kw_only=True)
class Records:
    """What was read."""

    arrivals: dict[str, list[Arrival]]
    """By room: each text, in the order in which it was landed first."""
    parked: list[str]
    """One sentence for each thing put aside."""


async def read_records(settings: DatabaseSettings, state_dir: Path) -> Records:
    """Read the journal and the shelf. Trestle must be stopped: only one may use its database."""
    found: dict[str, dict[str, Arrival]] = {}
    async with Database.open(settings, state_dir, SystemClock()) as database:
        keys = DayKeys(state_dir, database.clock)
        journal = Journal(database, keys)
        rows = await database.core.fetch("SELECT day, seq, source FROM journal ORDER BY day, seq")
        for row in rows:
            landed = await journal.read(RowId(row["day"], row["seq"]))
            if landed is None:
                continue
            fetched = Source(row["source"]) is Source.RECONCILE
            for event in parse_transaction(landed.body).events:
                text = event["content"].get("body")
                if isinstance(text, str):
                    arrival = Arrival(text=text, fetched=fetched)
                    found.setdefault(event["room_id"], {}).setdefault(text, arrival)
        parked = [
            f"{one.consumer}: {one.reason.value}, {one.detail}"
            for one in await Shelf(database, keys).all()
        ]
    return Records(
        arrivals={room: list(texts.values()) for room, texts in found.items()}, parked=parked
    )
