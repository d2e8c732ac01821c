"""The time that an event bears: when it was said, if it was told late."""

from bridge.model import Outgoing

SAID_AT = "org.trestle.said_at"
"""In the content of what our ghosts say: when it was said on its network, in ms since 1970."""


def dating(outgoing: Outgoing) -> dict[str, str]:
    """The part of a query that has the homeserver give an event the time at which it was said
    (application service API, "Timestamp massaging"); nothing for what was not told late.

    The event stands in the room where it came in all the same. A homeserver that does not know
    this gives it the time at which it came. Whoever reads our events by their times must know
    those that were given one: their content holds the same (``SAID_AT``), until they are taken
    back (``matrix.history``).
    """
    return {} if outgoing.said_at is None else {"ts": str(outgoing.said_at)}
