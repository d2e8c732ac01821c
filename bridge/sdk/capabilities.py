"""What a network can do in one chat, so that the core knows what to fall back from."""

from dataclasses import dataclass, field
from enum import IntEnum


class Level(IntEnum):
    """How well an action crosses."""

    REJECT = -2
    """Refused, and the sender is told."""
    DROP = -1
    """Left out without a word."""
    FALLBACK = 0
    """The core says it in plain text."""
    PARTIAL = 1
    """The module does it where it can; where it raises ``Unsupported``, the core says it."""
    FULL = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """Levels per action, and limits."""

    puppets: bool = False
    """The network accepts a login per Matrix user, made automatically on the first message."""
    acknowledges: bool = False
    """The network confirms each message; without it the core makes the mark of one message
    durable before the next one is written."""
    edits: Level = Level.FALLBACK
    replies: Level = Level.FALLBACK
    """``Message.reply_to`` is always given; the text names who is answered, except with FULL."""
    reactions: Level = Level.DROP
    redactions: Level = Level.DROP
    media: Level = Level.FALLBACK
    """In words: a link that is good for some days, where the bridge has a public address."""
    typing: Level = Level.DROP
    avatars: bool = False
    """What a relay says can carry the picture of the person whom it speaks for."""
    limits: dict[str, int] = field(default_factory=dict)
    """The core heeds ``quote_after``: seconds after which an answer said in plain text quotes
    what it answers, instead of naming the person alone."""
