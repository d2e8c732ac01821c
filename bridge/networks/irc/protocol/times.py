"""When something was said, as the server tells it (IRCv3 ``server-time``)."""

from datetime import UTC, datetime

from bridge.networks.irc.wire import Incoming


def read_time(message: Incoming) -> datetime | None:
    """Read the IRCv3 ``server-time`` tag."""
    return read_stamp(message.tags.get("time", ""))


def read_stamp(text: str) -> datetime | None:
    """Read a time as IRCv3 writes it; None if it is not one."""
    if not text:
        return None
    try:
        at = datetime.fromisoformat(text)
        return at.astimezone(UTC) if at.tzinfo else None
    except (ValueError, OverflowError):  # At either end of all time there may be no UTC.
        return None
