"""From a message to lines and back: limits, relayed names, CTCP."""

import re
from collections.abc import Iterator
from itertools import islice
from unicodedata import category

from bridge.networks.irc.format import (
    BOLD,
    NameOf,
    clean_text,
    from_irc,
    strip_codes,
    to_irc,
)
from bridge.networks.irc.network.relayednames import SIGN
from bridge.networks.irc.protocol.isupport import Isupport
from bridge.networks.irc.protocol.multiline import going_on
from bridge.networks.irc.protocol.relaymsg import COMMAND
from bridge.networks.irc.settings import IrcSettings
from bridge.networks.irc.wire import Incoming, Line, Source, cut, line
from bridge.sdk.cutting import split
from bridge.sdk.errors import PermanentFailure, TooLong
from bridge.sdk.events import Message, MessageKind, Sender
from bridge.sdk.graphemes import graphemes
from bridge.sdk.rich import LineBreak, Node, Rich
from bridge.sdk.text import lines, to_plain, without_turns

_CODE = re.compile(
    r"[\x02\x0f\x11\x16\x1d\x1e\x1f]|\x03(?:[0-9]{1,2}(?:,[0-9]{1,2})?)?"
    r"|\x04(?:[0-9A-Fa-f]{6}(?:,[0-9A-Fa-f]{6})?)?"
)
_RELAYED = re.compile(rf"(?:{_CODE.pattern})*<([^<>]{{1,100}})>(?:{_CODE.pattern})* ")
CTCP = "\x01"
ACTION = "ACTION"
_UTF8 = 4
"""Bytes that a character may have."""
COUNTED = 2
"""How many times the limit a message may be before its lines are not even counted."""
LEAST_ROOM = 16
"""Bytes for the text of a line: below this there are names too long for any network."""
RELAYED_NAME_GRAPHEMES = 32
RELAYED_NAME_BYTES = 64
_UNSEEN = frozenset("\u115f\u1160\u2800\u3164\uffa0")
"""Letters and signs that show nothing."""


def compose(
    message: Message,
    channel: str,
    *,
    own: Source,
    limits: Isupport,
    settings: IrcSettings,
    name_of: NameOf | None = None,
    speaks_as: str = "",
    called: str = "",
) -> list[Line]:
    """Make the lines of one message; ``speaks_as``: by ``RELAYMSG`` in that name; ``called``: how
    the name is written where one speaks for another. Raises ``PermanentFailure`` if it is empty or
    too long.

    The budget is what is left of a line once the server has put our full name in front of it
    for the others. Between others there may be empty lines, which go nowhere but in a group; the
    rest of a line that was cut for its length is marked as such
    (:mod:`bridge.networks.irc.protocol.multiline`).
    """
    _refuse_far_too_long(message, limits, settings)
    command = "NOTICE" if message.kind is MessageKind.NOTICE else "PRIVMSG"
    to: tuple[str, ...] = (channel,)
    if speaks_as:
        command, to = COMMAND, (channel, speaks_as)
    before, after = _frame(message, speaks_as, called)
    budget = _budget(command, " ".join(to), own, limits) - len((before + after).encode())
    if budget < LEAST_ROOM:
        raise PermanentFailure(f"A line to {channel} would have no room for a text.")

    def write(part: Rich) -> str:
        return to_irc(part, colours=settings.palette, name_of=name_of)

    made: list[Line] = []
    for one in lines(message.body):
        whole = write(one)
        texts = [whole]
        if len(whole.encode()) > budget:
            parts = split(one, lambda part: len(write(part).encode()) <= budget)
            texts = [text for part in parts for text in _cut_monsters(write(part), budget)]
        pieces = [
            line(command, *to, before + text + after, limit=limits.line_length)
            for text in texts
            if strip_codes(text).strip()
        ]
        if not pieces and made and command == "PRIVMSG" and not before:
            pieces = [line(command, *to, "")]
        # A name that stands before each piece would stand in the middle.
        is_whole = len(pieces) > 1 and strip_codes("".join(texts)) == strip_codes(whole)
        made += pieces[:1]
        made += map(going_on, pieces[1:]) if is_whole and not before else pieces[1:]
    while made and not made[-1].params[-1]:
        made.pop()
    if not made:
        raise PermanentFailure("The message has no text that IRC could show.")
    if len(made) > settings.most_lines:
        number = sum(one.params[-1] != "" for one in made)
        if number > settings.most_lines:
            raise TooLong(_too_long(str(number), settings))
    return made


def _refuse_far_too_long(message: Message, limits: Isupport, settings: IrcSettings) -> None:
    # Cutting it with care only to refuse it would keep everybody waiting.
    text, most = to_plain(message.body), COUNTED * settings.most_lines
    if text.count("\n") < most and _UTF8 * len(text) <= most * limits.line_length:
        return
    least = max(
        len(text.encode("utf-8", "replace")) // limits.line_length,
        sum(not one.isspace() and one != "" for one in text.split("\n")),
    )
    if least > most:
        raise TooLong(_too_long(f"over {most}", settings))


def _too_long(number: str, settings: IrcSettings) -> str:
    return f"The message would be {number} lines on IRC; at most {settings.most_lines} are sent."


def _cut_monsters(text: str, budget: int) -> Iterator[str]:
    """Cut what is one grapheme and still too long for a line: hundreds of accents on a letter."""
    while len(text.encode()) > budget:
        start = cut(text, budget)
        yield start
        text = text[len(start) :]
    yield text


def _frame(message: Message, speaks_as: str, called: str) -> tuple[str, str]:
    emote = message.kind is MessageKind.EMOTE
    if message.relayed and not speaks_as:
        # On every line: else a second line could pretend to come from somebody else.
        name = called or relayed_name(message.sender)
        return (f"* {name} " if emote else f"<{name}> "), ""
    return (f"{CTCP}{ACTION} ", CTCP) if emote else ("", "")


def relayed_name(sender: Sender) -> str:
    """Make a name that cannot be taken for the brackets around it, and is not too long."""
    name = without_turns(clean_text(sender.name or sender.user_id))
    shown = " ".join(name.replace("<", "").replace(">", "").split())
    short = "".join(islice(graphemes(shown), RELAYED_NAME_GRAPHEMES))
    made = cut(short, RELAYED_NAME_BYTES).strip()
    if made and made.isascii():
        return made
    if any(category(one)[0] not in "CMZ" and one not in _UNSEEN for one in made):
        return made
    if not sender.name:
        return "?"
    return relayed_name(Sender(user_id=sender.user_id, name=""))


def _budget(command: str, channel: str, own: Source, limits: Isupport) -> int:
    # A cloak may change user and host behind our back: room is kept for the longest.
    user = max(len(own.user.encode()), limits.user_length + 1)
    host = max(len(own.host.encode()), limits.host_length)
    nick = max(len(own.nick.encode()), min(limits.nick_length, 64))
    frame = len(f":!@ {command} {channel} :\r\n".encode())
    return limits.line_length - frame - nick - user - host


def read_text(message: Incoming) -> tuple[MessageKind, Rich] | None:
    """Read a PRIVMSG or NOTICE. None for CTCP that is no action: see :func:`read_ctcp`."""
    kind = MessageKind.NOTICE if message.command == "NOTICE" else MessageKind.TEXT
    ctcp = read_ctcp(message)
    if ctcp is None:
        return kind, _read_lines(message.param(1))
    command, rest = ctcp
    if command != ACTION or kind is MessageKind.NOTICE:
        return None
    return MessageKind.EMOTE, from_irc(rest)


def read_relayed(text: str) -> tuple[str, str] | None:
    """Take apart what another relay says, as we do: `<name> text`. None if it is not like that."""
    found = _RELAYED.match(text)
    name = strip_codes(found[1]).replace(SIGN, "").strip() if found else ""
    if found is None or not name:
        return None
    # The text goes on looking as it was begun before it.
    codes = "".join(_CODE.findall(found[0]))
    # A digit after a colour code would be read as part of it.
    return name, (codes and codes + BOLD + BOLD) + text[found.end() :]


def _read_lines(text: str) -> Rich:
    # Only what came as one message of several lines has line breaks; each begins unformatted.
    if "\n" not in text:
        return from_irc(text)
    nodes: list[Node] = []
    for number, one in enumerate(text.split("\n")):
        nodes += ([LineBreak()] if number else []) + list(from_irc(one).nodes)
    return Rich(tuple(nodes))


def read_ctcp(message: Incoming) -> tuple[str, str] | None:
    """Read a client-to-client command and what follows it."""
    text = message.param(1)
    if not text.startswith(CTCP):
        return None
    command, _, rest = text[1:].removesuffix(CTCP).partition(" ")
    return command.upper(), rest
