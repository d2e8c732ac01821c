"""What the homeserver sends as an event and is none: told apart, and put aside."""

from bridge.core.lanes.lane import Item
from bridge.model import Outcome, ParkReason
from bridge.storage.items import Items


def fault_of(event: object) -> str | None:
    """Say why an element of ``events`` is no event, None if it is one.

    Checks only what routing relies on; see the client event format of the Matrix specification.
    """
    try:
        names = event["event_id"], event["room_id"], event["sender"], event["type"]  # type: ignore[index]
        if (
            "".join(names).isprintable()
            and type(event["content"]) is dict  # type: ignore[index]
            and type(event.get("unsigned")) in _MAYBE_OBJECT  # type: ignore[attr-defined]
            and type(event.get("origin_server_ts")) in _MAYBE_NUMBER  # type: ignore[attr-defined]
            and type(event.get("state_key")) in _MAYBE_TEXT  # type: ignore[attr-defined]
        ):
            return None
    except (KeyError, AttributeError, TypeError, IndexError):
        pass  # Not what it should be; said in words below.
    return _fault_in_words(event)


_MAYBE_OBJECT = (dict, type(None))
_MAYBE_NUMBER = (int, type(None))
_MAYBE_TEXT = (str, type(None))


def _fault_in_words(event: object) -> str | None:
    if not isinstance(event, dict):
        return "it is not an object"
    for name in ("event_id", "room_id", "type", "sender"):
        value = event.get(name)
        if not isinstance(value, str) or not value.isprintable():
            return f"its {name} is not a plain text"
    if not isinstance(event.get("content"), dict):
        return "its content is not an object"
    unsigned = event.get("unsigned")
    if unsigned is not None and not isinstance(unsigned, dict):
        return "its unsigned is not an object"
    stamp = event.get("origin_server_ts")
    if stamp is not None and (not isinstance(stamp, int) or isinstance(stamp, bool)):
        return "its origin_server_ts is not a number"
    state_key = event.get("state_key")
    if state_key is not None and not isinstance(state_key, str):
        return "its state_key is not a text"
    return None


class Malformed:
    """Parks elements that are no events; their neighbours are not touched."""

    name = "malformed"
    deadline = 30.0
    holds = False

    def __init__(self, parking: Items) -> None:
        self._parking = parking

    async def handle(self, item: Item) -> None:
        """Park it. The content is not copied: it stays in its sealed row."""
        fault = fault_of(item.event) or "it could not be routed"
        await self._parking.park(item.id, self.name, ParkReason.MALFORMED, fault, b"")
        item.outcome = Outcome.PARKED

    async def parked(self, item: Item, reason: ParkReason, detail: str) -> None:
        """Nobody to tell."""
