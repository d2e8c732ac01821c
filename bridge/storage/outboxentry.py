"""An entry of the outbox as it is stored: what is sealed of it, its columns, and back."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from typing import Any

import asyncpg
import orjson

from bridge.model import LinkKind, Outgoing, QueuedOutgoing, SendKind
from bridge.sdk.errors import PermanentFailure
from bridge.sdk.ids import RoomId, UserId
from bridge.storage.arrays import but_for, packed
from bridge.storage.datamap import RECEIVED_DAYS
from bridge.storage.keys import DayKeys
from bridge.storage.portals import remote_bytes

COLUMNS: Mapping[str, str] = {
    "seq": "bigint", "room": "text", "sender": "text", "kind": "text", "transaction_id": "text",
    "content": "bytea", "portal": "bigint", "remote_id": "bytea", "part": "integer",
}  # fmt: skip
"""What of a row is an entry's own, with the types of the columns."""

PACKED = frozenset({"seq", "portal"})
"""Given as text where there are several entries (:func:`packed`)."""

_USUAL = {"kind": SendKind.EVENT, "part": 0}


def _adding(values: Mapping[str, str], source: str = "", days: str = "= $4") -> str:
    """Add entries, of which ``values`` gives each column.

    ``days``: which days before make one of the same transaction id a repetition.
    """
    return (
        f"INSERT INTO outbox (day, received_at, epoch, state, {', '.join(values)}) "  # noqa: S608
        f"SELECT $1, $2, $3, 'queued', {', '.join(values.values())} {source}"
        "WHERE (SELECT epoch FROM lease WHERE shard = 0) = $3 AND NOT EXISTS ("
        f"SELECT FROM outbox o WHERE o.day {days} "
        f"AND o.transaction_id = {values['transaction_id']}) "
        "ON CONFLICT (day, transaction_id) DO NOTHING RETURNING seq"
    )


def _parameters(kinds: Iterable[str]) -> list[str]:
    return [f"${place}::{kind}" for place, kind in enumerate(kinds, 5)]


ADD_ONE = _adding(dict(zip(COLUMNS, _parameters(COLUMNS.values()), strict=True)))
"""As most come. Of what is in arrays, or in ``VALUES``, the server makes a new plan each time."""

_EACH = {name: f"n.{name}" for name in COLUMNS} | {
    "part": "coalesce(n.part, 0)", "kind": f"coalesce(n.kind, '{SendKind.EVENT}')"
}  # fmt: skip


def _entries(columns: Mapping[str, str]) -> str:
    arrays = _parameters(
        f"text::{kind}[]" if name in PACKED else f"{kind}[]" for name, kind in columns.items()
    )
    return f"FROM unnest({', '.join(arrays)}) AS n ({', '.join(columns)}) "


ADD = _adding(_EACH, _entries(COLUMNS))
"""The same for several, in arrays (:func:`as_arrays`)."""
ADD_LOOKING_ROUND = _adding(
    _EACH, _entries({**COLUMNS, "kept": "integer"}), ">= $4::date - n.kept"
)
"""Looks at every day that is kept, for what is replayed, and at the days to come: too much for
what was said just now, unless the clock was put back."""

Place = tuple[date, int]
"""Where an entry stands: its day and its number in the order in which entries were added."""


def payload_of(one: Outgoing) -> bytes:
    """Write what is sealed of an entry: before others' entries share a statement with it.

    Raises ``PermanentFailure`` for what Matrix has no words for.
    """
    try:
        return orjson.dumps({
            "type": one.type, "state_key": one.state_key, "content": one.content,
            "target": one.target, "name": one.name, "double": one.double,
            "about": one.about, "link": one.link, "alias": one.alias,
            "said_at": one.said_at,
        })  # fmt: skip
    except orjson.JSONEncodeError as error:
        raise PermanentFailure("it holds what Matrix has no words for") from error


def outbox_context(day: date, seq: int) -> bytes:
    """What an entry's sealed parts are bound to."""
    return f"outbox {day.isoformat()} {seq}".encode()


def columns_of(queued: QueuedOutgoing, payload: bytes, day_keys: DayKeys) -> tuple[Any, ...]:
    """Give the values of ``COLUMNS``, and for how many days back the same entry may be there
    already."""
    one = queued.outgoing
    sealed = day_keys.seal(queued.day, outbox_context(queued.day, queued.seq), payload)
    return (
        queued.seq, one.room, one.user, one.kind, one.transaction_id, sealed,
        one.portal, remote_bytes(one.remote_id), one.part, one.replayed * RECEIVED_DAYS,
    )  # fmt: skip


def as_arrays(columns: Iterable[Sequence[Any]]) -> list[Any]:
    """The columns of several entries (``COLUMNS``), each as one parameter."""
    return [
        packed(values) if name in PACKED
        else but_for(_USUAL[name], values) if name in _USUAL
        else values
        for name, values in zip(COLUMNS, columns, strict=True)
    ]  # fmt: skip


def open_entry(row: asyncpg.Record, day_keys: DayKeys, *, again: bool = False) -> QueuedOutgoing:
    """Read an entry back. Raises ``KeyLost`` when its day's key is gone."""
    payload = orjson.loads(
        day_keys.open(row["day"], outbox_context(row["day"], row["seq"]), row["content"])
    )
    remote_id = row["remote_id"]
    return QueuedOutgoing(
        day=row["day"],
        seq=row["seq"],
        received_at=row["received_at"],
        again=again,
        outgoing=Outgoing(
            room=RoomId(row["room"]),
            user=UserId(row["sender"]),
            kind=SendKind(row["kind"]),
            type=payload["type"],
            state_key=payload["state_key"],
            content=payload["content"],
            transaction_id=row["transaction_id"],
            portal=row["portal"],
            remote_id=None if remote_id is None else remote_id.decode("utf-8", "surrogatepass"),
            part=row["part"],
            target=payload["target"],
            name=payload["name"],
            double=payload.get("double", ""),
            about=payload.get("about", ""),
            link=LinkKind(payload.get("link", LinkKind.MESSAGE)),
            alias=payload.get("alias", ""),
            said_at=payload.get("said_at"),
        ),
    )
