"""Lines that a server groups (IRCv3 ``batch``), as a pure tracker: which line is part of what."""

import hashlib
from datetime import datetime, timedelta

from bridge.networks.irc.protocol.replies import SPEAKING
from bridge.networks.irc.protocol.times import read_time
from bridge.networks.irc.wire import Batch, Incoming

PLAYBACK = "znc.in/playback"
"""What a bouncer says again at once, unasked."""
MOST_OPEN = 1000
"""More open groups than this are a server's mistake; the oldest is forgotten."""
MARGIN = timedelta(seconds=5)
"""The server's clock may be behind ours, and what it says at the moment seem to be of before."""


class Batches:
    """The groups of one connection that have begun and not ended."""

    def __init__(self) -> None:
        self._open: dict[str, Batch] = {}

    def place(self, message: Incoming) -> Incoming:
        """Return the line with the group that it is in, or that it begins or ends."""
        around = self._open.get(message.tags["batch"]) if "batch" in message.tags else None
        reference = message.param(0) if message.command == "BATCH" else ""
        if reference[:1] not in {"+", "-"}:
            return message if around is None else message.within(around)
        name = reference[1:]
        if reference[0] == "-":
            ended = self._open.pop(name, None)
            return message if ended is None else message.within(ended.ended())
        label = message.tags.get("label", "") or (around.label if around else "")
        if len(self._open) >= MOST_OPEN:
            del self._open[next(iter(self._open))]
        kind = message.param(1).lower()
        is_replay = kind == "chathistory" or (around is not None and around.is_replay)
        is_late = is_replay or kind == PLAYBACK or (around is not None and around.is_late)
        begun = Batch(
            kind, message.params[2:], name, label, is_replay, is_late,
            is_inner=around is not None,
        )  # fmt: skip
        self._open[name] = begun
        return message.within(begun)


def is_told_late(message: Incoming) -> bool:
    """Whether a line is in a group of what was said before, or in one inside it, whatever time it
    has."""
    return message.batch is not None and message.batch.is_late


def is_playback(message: Incoming, since: datetime | None) -> bool:
    """Whether a line may be one that a bouncer says again to who comes: in a group of such lines,
    or with a time when it was said that is well before ``since``; without that, with any."""
    if is_told_late(message):
        return True
    if message.command not in SPEAKING or "time" not in message.tags:
        return False
    # Where the server knows server-time, what is said at the moment has its time, too.
    told = read_time(message)
    return since is None or (told is not None and told < since - MARGIN)


def made_up_id(message: Incoming) -> str:
    """Make an id for a message out of the server's memory that has none: the same each time."""
    said = f"{message.tags.get('time')} {message.source} {message.command} {message.params}"
    return "h-" + hashlib.sha256(said.encode("utf-8", "replace")).hexdigest()[:32]
