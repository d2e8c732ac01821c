"""When something was said, as the server tells it (IRCv3 ``server-time``)."""

from datetime import UTC, datetime, timedelta

from bridge.networks.irc.wire import Incoming

AHEAD = timedelta(days=7)
"""A server's clock may be before ours; what it says of a time beyond this is a mistake."""


def read_time(message: Incoming) -> datetime | None:
    """Read the IRCv3 ``server-time`` tag."""
    return read_stamp(message.tags.get("time", ""))


def read_past(message: Incoming, now: datetime) -> datetime | None:
    """The same of what has been said: what cannot have been then was said now."""
    at = read_time(message) if "time" in message.tags else None
    return at if at is None or at <= now + AHEAD else now


def read_stamp(text: str) -> datetime | None:
    """Read a time as IRCv3 writes it; None if it is not one."""
    if not text:
        return None
    try:
        at = datetime.fromisoformat(text)
        return at.astimezone(UTC) if at.tzinfo else None
    except (ValueError, OverflowError):  # At either end of all time there may be no UTC.
        return None


def stamp(at: datetime) -> str:
    """Return a time as a server is asked by it."""
    text = at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return f"timestamp={text}"
