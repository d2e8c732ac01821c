"""What a server says about itself (numeric 005), and how it compares names."""

import re
import string
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache, partial
from unicodedata import decomposition, normalize

from bridge.networks.irc.wire import LINE_BYTES, Source

# Of bytes: a text is mapped sign by sign, which takes eight times as long.
_UPPER, _LOWER = string.ascii_uppercase.encode(), string.ascii_lowercase.encode()
_ASCII = bytes.maketrans(_UPPER, _LOWER)
_STRICT = bytes.maketrans(_UPPER + b"[]\\", _LOWER + b"{}|")
_RFC1459 = bytes.maketrans(_UPPER + b"[]\\~", _LOWER + b"{}|^")
_MAPPINGS = {"ascii": _ASCII, "rfc1459": _RFC1459, "rfc1459-strict": _STRICT}
# In the name "strict-rfc1459" some servers turn the words round.
_MAPPINGS["strict-rfc1459"] = _STRICT
# PRECIS, the profile UsernameCaseMapped: RFC 8265 makes all lower case, RFC 7613 folded case.
_UNICODE: Mapping[str, Callable[[str], str]] = {
    "precis": str.lower, "rfc8265": str.lower, "rfc7613": str.casefold,
}  # fmt: skip
_MOST_PASSES = 4
"""Its rules are applied until nothing changes, but no more often (RFC 8264, section 7)."""

# No comma, colon, space or control character: two published takeovers of another bridge's
# channels began with one of them in a name.
_CHANNEL = re.compile(r"[#&+!][^\x00-\x20,:\x07\x7f]{1,199}\Z")

_OTHER_CHARSET = " "
"""No nick has a space."""

MOST_NUMBER = 8192
"""Higher limits are taken for this one: no server's number sizes anything of ours."""

MOST_USER_BYTES = 64
MOST_HOST_BYTES = 255
"""What a name in the DNS may have. Room for these is kept in each line that we say."""

MOST_TOKENS = 300
LONGEST_TOKEN = 512
"""What more a server says of itself is left out: none has so much to say."""

TOPIC_BYTES = 390

MOST_MODES = 20
"""So many at once where the server sets no limit."""


def fold(name: str, casemapping: str = "rfc1459") -> str:
    """Map a name so that equal names are equal texts. An unknown mapping folds ASCII only."""
    if casemapping in _UNICODE and not name.isascii():
        return _fold_unicode(name, _UNICODE[casemapping])
    mapped = name.encode("utf-8", "surrogatepass").translate(_MAPPINGS.get(casemapping, _ASCII))
    return mapped.decode("utf-8", "surrogatepass")


@lru_cache(8)
def _folding(casemapping: str) -> Callable[[str], str]:
    """Give what folds names by a mapping: one for all connections, with what it said lately."""
    # Asked many times with every line.
    return lru_cache(2000)(partial(fold, casemapping=casemapping))


def _fold_unicode(name: str, lower: Callable[[str], str]) -> str:
    for _ in range(_MOST_PASSES):
        # Sign by sign: a sigma is the same wherever it stands.
        folded = normalize("NFC", "".join(lower(_narrowed(sign)) for sign in name))
        if folded == name:
            break
        name = folded
    return name


def _narrowed(sign: str) -> str:
    """Letters and digits of other width are as the usual ones; what has a meaning in a line is
    not made of other signs."""
    kind, _, code = decomposition(sign).partition(" ")
    plain = chr(int(code, 16)) if kind in {"<wide>", "<narrow>"} else sign
    return plain if plain.isalnum() or not plain.isascii() else sign


@dataclass(frozen=True)
class Isupport:
    """The server's limits, with the protocol's defaults where it says nothing."""

    tokens: Mapping[str, str] = field(default_factory=dict)

    def with_tokens(self, words: Iterable[str]) -> "Isupport":
        """Return these limits with one 005's words added (or, as ``-WORD``, taken back)."""
        tokens = dict(self.tokens)
        for word in words:
            if len(word) > LONGEST_TOKEN:
                continue
            key, _, value = word.partition("=")
            if key.startswith("-"):
                tokens.pop(key[1:].upper(), None)
            elif key and (len(tokens) < MOST_TOKENS or key.upper() in tokens):
                tokens[key.upper()] = _unescape(value)
        return Isupport(tokens)

    @cached_property
    def fold(self) -> Callable[[str], str]:
        """Maps a name of this network so that equal names are equal texts."""
        return _folding(self.casemapping)

    def fold_said(self, text: str) -> str:
        """Map what somebody said or typed in the same way; none of it stays in memory."""
        return fold(text, self.casemapping)

    def key(self, person: Source) -> str:
        """What somebody is known by: the folded nick, as long as it is UTF-8.

        Two that read alike in two charsets are two nicks, of which a server tells nobody that
        they are equal.
        """
        folded = self.fold(person.nick)
        return folded if person.is_utf8 else f"{folded}{_OTHER_CHARSET}"

    def are_one(self, person: Source, other: Source) -> bool:
        """Whether both are known by the same key."""
        return person.is_utf8 is other.is_utf8 and self.fold(person.nick) == self.fold(other.nick)

    def keys_in(self, words: Sequence[str]) -> list[str]:
        """What those are known by who have one of the words, none with a space, for a nick; those
        whose nick is UTF-8 first.

        It is people's talk: unlike names, nothing of it is kept.
        """
        folded = fold(" ".join(words), self.casemapping)
        keys = folded.split(" ")
        if not folded.isascii():
            keys += [f"{one}{_OTHER_CHARSET}" for one in keys if not one.isascii()]
        return keys

    @staticmethod
    def person(key: str) -> Source:
        """Who is known by such a key, the nick folded."""
        return Source(key.removesuffix(_OTHER_CHARSET), is_utf8=not key.endswith(_OTHER_CHARSET))

    @cached_property
    def casemapping(self) -> str:
        named = self.tokens.get("CASEMAPPING", "rfc1459").lower()
        # One server names apart how it compares what is no ASCII.
        beyond = self.tokens.get("UTF8MAPPING", "").lower()
        return beyond if named == "ascii" and beyond else named

    @property
    def knows_ascii_alone(self) -> bool:
        """Whether it is not known how the server compares names that are no ASCII."""
        return self.casemapping not in _MAPPINGS and self.casemapping not in _UNICODE

    @cached_property
    def nick_length(self) -> int:
        return self._number("NICKLEN", self._number("MAXNICKLEN", 9))

    @property
    def says_nick_length(self) -> bool:
        """Whether the server itself has said how long a nick may be."""
        return any(_read_number(self.tokens.get(key, "")) for key in ("NICKLEN", "MAXNICKLEN"))

    @cached_property
    def channel_length(self) -> int:
        return self._number("CHANNELLEN", 200)

    @cached_property
    def key_length(self) -> int:
        """Bytes in a channel's key."""
        return self._number("KEYLEN", MOST_NUMBER)

    @cached_property
    def line_length(self) -> int:
        """Bytes in a line, its end included."""
        return max(self._number("LINELEN", LINE_BYTES), LINE_BYTES)

    @cached_property
    def user_length(self) -> int:
        return min(self._number("USERLEN", 10), MOST_USER_BYTES)

    @cached_property
    def topic_length(self) -> int:
        """Bytes in a topic that all members of a network take, whatever more one server takes."""
        return min(self._number("TOPICLEN", TOPIC_BYTES), TOPIC_BYTES)

    @cached_property
    def host_length(self) -> int:
        return min(self._number("HOSTLEN", 63), MOST_HOST_BYTES)

    @cached_property
    def channel_types(self) -> str:
        return self.tokens.get("CHANTYPES", "#&")

    @cached_property
    def prefixes(self) -> dict[str, str]:
        """Sign before a nick to the mode it stands for: ``{"@": "o", "+": "v"}``."""
        modes, _, signs = self.tokens.get("PREFIX", "(ov)@+").removeprefix("(").partition(")")
        return dict(zip(signs, modes, strict=False))

    @cached_property
    def channel_modes(self) -> tuple[str, str, str, str]:
        """Modes: lists, always with a value, with a value when set, without."""
        groups = (*self.tokens.get("CHANMODES", "b,k,l,imnpst").split(","), "", "", "", "")
        return groups[0], groups[1], groups[2], groups[3]

    @cached_property
    def bot_mode(self) -> str:
        """The user mode that marks a program, if the network has one (IRCv3 ``bot-mode``)."""
        letter = self.tokens.get("BOT", "")
        return letter if len(letter) == 1 and letter.isascii() and letter.isalpha() else ""

    @cached_property
    def most_modes(self) -> int:
        """How many modes with a value one line may change; the protocol's own number is 3."""
        value = self.tokens.get("MODES")
        return MOST_MODES if value == "" else min(self._number("MODES", 3), MOST_MODES)

    @cached_property
    def most_joins(self) -> int:
        """How many channels one JOIN may name. Where nothing is said, as many as fit."""
        for pair in self.tokens.get("TARGMAX", "").split(","):
            command, _, number = pair.partition(":")
            if command.upper() == "JOIN":
                return _read_number(number) or MOST_NUMBER
        return self._number("MAXTARGETS", MOST_NUMBER)

    @cached_property
    def most_watched(self) -> int:
        """Of how many nicks the server tells who comes and goes (``MONITOR``); 0: of none."""
        if self.tokens.get("MONITOR") == "":
            return MOST_NUMBER
        return self._number("MONITOR", 0)

    def allows_tag(self, name: str) -> bool:
        """Whether the server passes a client's tag on (``CLIENTTAGDENY``, IRCv3 message-tags)."""
        denied = self.tokens.get("CLIENTTAGDENY", "").split(",")
        return f"-{name}" in denied if "*" in denied else name not in denied

    @property
    def allows_reactions(self) -> bool:
        """Whether it passes on all that a reaction takes."""
        return self.allows_tag("draft/react") and self.allows_tag("draft/reply")

    def is_channel(self, name: str) -> bool:
        """Whether a target is a channel."""
        return name[:1] in self.channel_types and name != ""

    def names_channel(self, text: str) -> bool:
        """Whether a text is one whole name of a channel, however long."""
        return _CHANNEL.match(text) is not None and self.is_channel(text)

    def _number(self, key: str, default: int) -> int:
        return _read_number(self.tokens.get(key, "")) or default


def _read_number(value: str) -> int:
    """0 for what is no number."""
    if not (value.isascii() and value.isdecimal()):
        return 0
    return min(int(value[:9]), MOST_NUMBER)


def _unescape(value: str) -> str:
    head, *parts = value.split("\\x")
    texts = [head]
    for part in parts:
        code, rest = part[:2], part[2:]
        escaped = len(code) == 2 and all(digit in string.hexdigits for digit in code)
        texts.append(chr(int(code, 16)) + rest if escaped else f"\\x{part}")
    return "".join(texts)
