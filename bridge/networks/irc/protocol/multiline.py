"""One message of several lines as one (IRCv3 ``draft/multiline``), both ways."""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace

from bridge.networks.irc.wire import Incoming, Line, line

CAPABILITY = "draft/multiline"
CONCAT = "draft/multiline-concat"
_GOES_ON = ((CONCAT, ""),)
_OF_ALL = ("account", "time")
"""Tags that some servers put on the lines only; the first line's count."""
FRAME_LINES = 2
"""What a group takes besides its own lines."""
_SPOKEN = frozenset({"PRIVMSG", "NOTICE"})
MOST_OPEN = 50
MOST_LINES = 500
MOST_BYTES = 200_000
"""What more a server puts into one message is left out."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a server takes as one message."""

    most_bytes: int
    most_lines: int

    @classmethod
    def parse(cls, value: str) -> "Limits":
        """Read the capability's value, ``max-bytes=40000,max-lines=10``."""
        found = dict(pair.partition("=")[::2] for pair in value.split(","))

        def number(key: str, default: int) -> int:
            text = found.get(key, "")
            return int(text[:9]) if text.isascii() and text.isdecimal() else default

        return cls(number("max-bytes", 0), number("max-lines", MOST_LINES))

    def allow(self, lines: Sequence[Line]) -> bool:
        """Whether the lines may go as one message."""
        breaks = sum(not _goes_on(one) for one in lines) - 1
        size = sum(len(one.params[-1].encode()) for one in lines) + breaks
        plain = all(one.command == "PRIVMSG" and "\x01" not in one.params[-1] for one in lines)
        return plain and 1 < len(lines) <= self.most_lines and size <= self.most_bytes


def group(lines: Sequence[Line]) -> list[Line]:
    """Return the lines as one message."""
    name = secrets.token_hex(4)
    first = line("BATCH", f"+{name}", CAPABILITY, lines[0].params[0])
    first = replace(first, tags=lines[0].tags)  # They are the whole message's.
    middle = [
        replace(one, tags=(("batch", name), *(_GOES_ON if _goes_on(one) else ()))) for one in lines
    ]
    return [first, *middle, line("BATCH", f"-{name}")]


def pack(lines: Sequence[Line], limits: Limits | None, burst: int) -> list[list[Line]]:
    """Return a message's lines as what is confirmed together: all, or each by itself. Empty ones
    stand only among others.

    ``limits``: None where the server takes no groups; ``burst``: the most that go out at once.
    """
    said = [one for one in lines if one.params[-1]]
    if limits is not None:
        for together in (lines, said):
            # Nothing may come between the lines of a group, so it must fit into one burst.
            fits = len(together) + FRAME_LINES <= burst
            if fits and limits.allow(together):
                return [group(together)]
    return [[one] for one in separate(said)]


def going_on(one: Line) -> Line:
    """Return a line that is the rest of the one before: as one message they are one line."""
    return replace(one, tags=(*one.tags, *_GOES_ON))


def separate(lines: Sequence[Line]) -> list[Line]:
    """Return the lines as messages of their own."""
    return [
        replace(one, tags=tuple(tag for tag in one.tags if tag not in _GOES_ON))
        if _goes_on(one) else one
        for one in lines
    ]  # fmt: skip


def _goes_on(one: Line) -> bool:
    return one.tags != () and any(tag in _GOES_ON for tag in one.tags)


@dataclass(slots=True)
class _Open:
    begin: Incoming
    texts: list[str]
    command: str = ""
    lines: int = 0
    room: int = MOST_BYTES


class Assembler:
    """Puts together what comes in such groups."""

    def __init__(self) -> None:
        self._open: dict[str, _Open] = {}

    def feed(self, message: Incoming) -> Incoming | None:
        """Take a line; return it, or the whole message at its end, or None in between.

        The whole is a ``PRIVMSG`` whose text has line breaks, with the tags of the group; or a
        ``NOTICE``, of which the specification does not speak and some servers make groups, too.
        """
        batch = message.batch
        if batch is None or batch.kind != CAPABILITY:
            return message
        if message.command == "BATCH" and not batch.is_over:
            # Of more at once the oldest never end: they are a server's mistake.
            if len(self._open) >= MOST_OPEN:
                del self._open[next(iter(self._open))]
            self._open[batch.name] = _Open(message, [])
            return None
        open_one = self._open.get(batch.name)
        if open_one is None:
            return None
        if message.command == "BATCH":
            del self._open[batch.name]
            return self._whole(open_one)
        if message.command in _SPOKEN and open_one.lines < MOST_LINES:
            text = message.param(-1)[: open_one.room]
            open_one.lines, open_one.room = open_one.lines + 1, open_one.room - len(text)
            open_one.command = open_one.command or message.command
            # Some servers name the sender on the lines only.
            if open_one.begin.source is None or not open_one.begin.source.is_person:
                open_one.begin = replace(open_one.begin, source=message.source)
            told = {name: message.tags[name] for name in _OF_ALL if name in message.tags}
            if told:
                begin = open_one.begin
                open_one.begin = replace(begin, tags={**told, **begin.tags})
            if CONCAT in message.tags and open_one.texts:
                open_one.texts[-1] += text
            else:
                open_one.texts.append(text)
        return None

    @staticmethod
    def _whole(one: _Open) -> Incoming | None:
        if not one.texts or one.begin.batch is None:
            return None
        target = one.begin.batch.params[0] if one.begin.batch.params else ""
        return replace(
            one.begin, command=one.command, params=(target, "\n".join(one.texts)),
            as_sent=one.begin.as_sent[2:3],
        )  # fmt: skip
