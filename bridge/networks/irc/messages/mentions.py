"""Names of people in what is said on IRC, as mentions. Pure."""

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Literal

from bridge.networks.irc.network.relayednames import SIGN
from bridge.sdk.graphemes import graphemes
from bridge.sdk.rich import (
    Colour,
    LineBreak,
    Link,
    Mention,
    Node,
    Quote,
    Rich,
    Style,
    Styled,
    Text,
    refill,
)
from bridge.sdk.text import to_plain

Where = Literal["anywhere", "start", "nowhere"]
Find = Callable[[str], Mention | None]
"""Gives the person of a nick in the channel, whatever its case; the mention's name is the nick.
Also of a name by which one connection speaks for somebody."""
Among = Callable[[Sequence[str]], bool]
"""Whether any of the words is a nick in the channel, whatever its case."""

MOST = 5
"""A message that names more people calls only the first."""
_SHORTEST = 3
"""Shorter nicks are words as a rule."""
_WORD = re.compile(r"\S+")
_NICK = re.compile(rf"[\w\[\]\\`^{{|}}{SIGN}-]+")
_BRACKETS = "[]{}"
_UNCLEAR = re.compile(rf"[\[\]{{}}{SIGN}]")
"""Letters of nicks that also stand around them, as round brackets do; and the sign in names, which
some languages have between words."""
_PART = re.compile(rf"[^{SIGN}]+")
_ALPHANUMERIC = re.compile(r"[^\W_]+")
_SERVER = re.compile(r"[:@]\w")


def with_mentions(rich: Rich, find: Find, where: Where, is_among: Among) -> Rich:
    """Make the nicks in a text mentions: in any case where somebody is spoken to at its start by
    `nick:`, `nick,` or `@nick`, else spelled exactly.

    Links and code are left alone. ``is_among`` spares looking at each word where none is a nick,
    as in most of what is said.
    """
    if where == "nowhere" or not is_among(_words(said := to_plain(rich))):
        return rich
    return Rich(tuple(_Reader(find, where, said.strip()).read(rich.nodes)))


def _words(said: str) -> list[str]:
    if _UNCLEAR.search(said) is None:
        return _NICK.findall(said)
    return [nick for match in _NICK.finditer(said) for _, nick in _spellings(match)]


def _spellings(match: re.Match[str]) -> Iterator[tuple[int, str]]:
    """What may be a nick there, and where it stands: with a bracket at each end, and without; with
    the sign in it, and between its signs."""
    start, word = match.start(), match[0]
    yield start, word
    if SIGN in word:
        yield from ((start + part.start(), part[0]) for part in _PART.finditer(word))
    ends = word[-1] in _BRACKETS
    if ends:
        yield start, word[:-1]
    if word[0] in _BRACKETS:
        yield start + 1, word[1:]
        if ends:
            yield start + 1, word[1:-1]


def without_nicks(name: str, is_nick: Callable[[str], bool]) -> str:
    """Put the sign into what is a nick in a name: a client looks for its owner's as a whole word,
    and some take for a word's end what may stand in a nick."""
    words = {*_words(name), *_ALPHANUMERIC.findall(name)}
    nicks = set(filter(is_nick, words))
    if not nicks:
        return name  # As most are.
    places = {
        at + len(first)
        for pattern in (_NICK, _ALPHANUMERIC)
        for match in pattern.finditer(name)
        for at, word in _spellings(match)
        if word in nicks and (first := next(graphemes(word))) != word
    }
    for place in sorted(places, reverse=True):
        name = name[:place] + SIGN + name[place:]
    return name


class _Reader:
    def __init__(self, find: Find, where: Where, said: str) -> None:
        self._find = find
        self._where = where
        self._said = said
        self._left = MOST
        self._at_start = True

    def read(self, nodes: Sequence[Node]) -> Iterator[Node]:
        for node in nodes:
            match node:
                case Text(text):
                    yield from self._read_text(text)
                case Styled(Style.MONO, _) | Link():
                    yield node
                case Styled() | Colour() | Quote():
                    yield refill(node, tuple(self.read(node.children)))
                case _:
                    yield node
            self._at_start = isinstance(node, LineBreak)

    def _read_text(self, text: str) -> Iterator[Node]:
        end = 0
        for word in _WORD.finditer(text):
            found = self._in_word(word)
            self._at_start = False
            if found is None:
                continue
            start, nick, mention = found
            at = word.start() + start
            if at > end:
                yield Text(text[end:at])
            yield mention
            end = at + len(nick)
        if end < len(text):
            yield Text(text[end:])

    def _in_word(self, word: re.Match[str]) -> tuple[int, str, Mention] | None:
        """The first nick in a word: where it stands, as it is spelled, and whose it is."""
        if not self._left or "://" in word[0]:
            return None
        for match in _NICK.finditer(word[0]):
            for start, nick in _spellings(match):
                mention = self._find(nick)
                if mention is None or not self._is_meant(start, nick, mention, word[0]):
                    continue
                self._left -= 1
                return start, nick, mention
        return None

    def _is_meant(self, start: int, nick: str, mention: Mention, word: str) -> bool:
        lead, rest = word[:start], word[start + len(nick) :]
        if has_at := lead.endswith("@"):
            # Some write it so; an address (of mail, of Matrix) is another's name.
            lead, is_address = lead[:-1], _SERVER.match(rest) is not None
        else:
            is_address = rest[:1] == "@"
        plain = nick.replace(SIGN, "")
        is_exact = plain == mention.name and len(plain) >= _SHORTEST
        if self._at_start and not lead:
            # Before more words, what is not spelled like the nick may be a mere word, too.
            is_alone = not rest and word == self._said
            if rest in {":", ","} or is_alone or (not rest and (has_at or is_exact)):
                return True
        before, after = lead[-1:], rest[:1]
        is_whole = not before.isalnum() and not after.isalnum() and before not in {"#", "@", "/"}
        return self._where == "anywhere" and is_whole and not is_address and is_exact
