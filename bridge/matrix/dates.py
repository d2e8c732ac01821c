"""The time that an event bears: when it was said, if it was told late."""

from collections.abc import Mapping
from typing import Any

from bridge.model import Outgoing

SAID_AT = "org.trestle.said_at"
"""In the content of what our ghosts say: when it was said on its network, in ms since 1970."""


def dating(outgoing: Outgoing) -> dict[str, str]:
    """The part of a query that has the homeserver give an event the time at which it was said
    (application service API, "Timestamp massaging"); nothing for what was not told late.

    The event stands in the room where it came in all the same. A homeserver that does not know
    this gives it the time at which it came; one that knows it may leave out the milliseconds.
    Whoever reads our events by their times must know those that were given one (``is_dated``).
    """
    return {} if outgoing.said_at is None else {"ts": str(outgoing.said_at)}


def is_dated(content: Mapping[str, Any], stamp: int) -> bool:
    """Whether an event of ours bears a time that we gave it, and not the one at which it came.

    Only its whole content tells: of one that was taken back it cannot be known.
    """
    said_at = content.get(SAID_AT)
    # Dendrite gives it in whole seconds.
    return isinstance(said_at, int) and stamp in {said_at, said_at - said_at % 1000}
