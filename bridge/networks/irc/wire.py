"""The protocol's lines: bytes in, facts out; and the only way to make a line.

Reading follows RFC 1459 and 2812 as corrected by modern.ircdocs.horse, with IRCv3 message
tags. Writing goes through :class:`Line`, a type that cannot hold CR, LF or NUL: four published
vulnerabilities of one other bridge were a line break in a value (docs/adr/0015 says why it is
ours).
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from bridge.sdk.errors import PermanentFailure

LINE_BYTES = 512
"""What a line may take, its CR LF included, where the server says nothing else."""
MOST_PARAMS = 15
NICK_BYTES = 200
"""Longer than any network's nicks: to a longer name no line could be written."""
MOST_UNREAD_BYTES = 16 * 1024
"""Tags (8,191) and a line (512), doubled: what sends more without a line end is no IRC server."""

_FORBIDDEN = str.maketrans({"\r": " ", "\n": " ", "\0": " "})
_UNCLEAN = re.compile("[\r\n\0\ud800-\udfff]")
_TAG_ESCAPES = {":": ";", "s": " ", "\\": "\\", "r": "\r", "n": "\n"}
_TAG_UNSAFE = str.maketrans({code: f"\\{letter}" for letter, code in _TAG_ESCAPES.items()})
_TAG_KEY = re.compile(r"\+?(?:[A-Za-z0-9.-]+/)?[A-Za-z0-9-]+\Z")
TAG_BYTES = 4094
"""What a client's tags may take, without the ``@`` and the space (IRCv3 ``message-tags``)."""


# This and Incoming are not frozen, though nothing changes them: that would cost twice as much.
@dataclass(slots=True, unsafe_hash=True)
class Source:
    """Who a line comes from: a person (with user and host) or a server."""

    nick: str
    user: str = ""
    host: str = ""
    is_utf8: bool = field(default=True, repr=False, kw_only=True)
    """Its nick is written in UTF-8: what reads alike in another charset is another's nick."""

    @classmethod
    def parse(cls, text: str) -> "Source":
        """Read ``nick[!user][@host]``."""
        # The last @ counts: a user part may hold one, a host may not.
        rest, _, host = text.rpartition("@") if "@" in text else (text, "", "")
        nick, _, user = rest.partition("!")
        return cls(nick, user, host)

    @property
    def mask(self) -> str:
        """All three, as masks are compared with it."""
        return f"{self.nick}!{self.user}@{self.host}"

    @property
    def is_person(self) -> bool:
        """A server has neither user nor host."""
        return bool(self.user or self.host)


@dataclass(frozen=True, slots=True)
class Batch:
    """A group of lines (IRCv3 ``batch``)."""

    kind: str
    params: tuple[str, ...] = ()
    name: str = ""
    label: str = ""
    """Of the line of ours that it answers."""
    is_replay: bool = False
    """What the server says again from its memory, or part of such a group."""
    is_late: bool = False
    """The same, or what a bouncer says again to whoever comes, or part of such a group."""
    is_over: bool = False
    is_inner: bool = False
    """It is part of another."""

    def ended(self) -> "Batch":
        """Return it as it is on its last line."""
        return replace(self, is_over=True)


@dataclass(slots=True)
class Incoming:
    """One line from the server."""

    command: str
    params: tuple[str, ...] = ()
    source: Source | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    batch: Batch | None = None
    """The group that it is in, begins or ends."""
    as_sent: tuple[bytes, ...] = field(default=(), compare=False, repr=False)
    """The parameters as they came, where not all of the line is UTF-8; else nothing."""
    is_replayed: bool = field(default=False, repr=False, kw_only=True)
    """It is said again from the server's memory, as its group says. Asked many times of a line."""

    def within(self, batch: Batch) -> "Incoming":
        """Return the line as one that is in a group, or that begins or ends it."""
        return replace(self, batch=batch, is_replayed=batch.is_replay)

    @property
    def label(self) -> str:
        """The label of our line that it answers, its own or its group's."""
        return self.tags.get("label", "") or (self.batch.label if self.batch else "")

    def param(self, index: int) -> str:
        """Return a parameter, or nothing where the server left it out."""
        return self.params[index] if -len(self.params) <= index < len(self.params) else ""

    def named(self, index: int) -> Source:
        """Return whom a parameter names; nobody where the server left it out, or named somebody
        by more than a line holds."""
        if not self.as_sent:
            text = self.param(index)
            return _checked(Source.parse(text), len(text)) or Source("")
        is_there = -len(self.as_sent) <= index < len(self.as_sent)
        text = _by_byte(self.as_sent[index]) if is_there else ""
        return _checked(_read_source(text), len(text)) or Source("")

    def listed(self, signs: str) -> Iterator[tuple[str, Source]]:
        """Return whom the last parameter lists, each with those of the signs that stand before;
        nobody whose name is longer than a line."""
        read = _read_source if self.as_sent else Source.parse
        text = _by_byte(self.as_sent[-1]) if self.as_sent else self.param(-1)
        for word in text.split(" "):
            bare = word.lstrip(signs)
            source = _checked(read(bare), len(bare))
            if source is not None:
                yield word[: len(word) - len(bare)], source


def decode(raw: bytes) -> str:
    """Read UTF-8, else the old Windows charset that clients without it use.

    A server that cuts a line may leave half a character at its end: that is left out where the
    rest shows that it is UTF-8.
    """
    return _decode(raw)[0]


def _decode(raw: bytes) -> tuple[str, bool]:
    """Read it; also whether it is UTF-8."""
    try:
        return raw.decode("utf-8"), True
    except UnicodeDecodeError as error:
        whole = raw[: error.start]
        if error.reason == "unexpected end of data" and not whole.isascii():
            return whole.decode("utf-8"), True
        return raw.decode("cp1252", "replace"), False


def _by_byte(raw: bytes) -> str:
    """Return a text with one sign for each byte, whatever the charset is."""
    return raw.decode("latin-1")


def _read_word(text: str) -> tuple[str, bool]:
    """Read a word out of such a text, which no server cuts; also whether it is UTF-8."""
    raw = text.encode("latin-1")
    try:
        return _without_nul(raw.decode("utf-8")), True
    except UnicodeDecodeError:
        return _without_nul(raw.decode("cp1252", "replace")), False


def _read_source(text: str) -> Source:
    """Read who it is out of such a text."""
    source = Source.parse(text)
    nick, is_utf8 = _read_word(source.nick)
    return Source(nick, _read_word(source.user)[0], _read_word(source.host)[0], is_utf8=is_utf8)


def _without_nul(text: str) -> str:
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}")


def parse(raw: bytes) -> Incoming | None:
    """Read one line without its line end. None if there is no command in it.

    A source without a name, or with one that is too long, counts as none. Where not all of it is
    UTF-8 each word is read by itself: names and text may be of several people.
    """
    raw = raw.rstrip(b"\r\n")
    text, is_utf8 = _decode(raw)
    if not is_utf8:
        return _parse(_by_byte(raw), is_mixed=True)
    return _parse(_without_nul(text) if "\0" in text else text)


def _parse(rest: str, *, is_mixed: bool = False) -> Incoming | None:
    tags: dict[str, str] = {}
    source = None
    if rest.startswith("@"):
        text, _, rest = rest[1:].partition(" ")
        tags = _parse_tags(_read_word(text)[0] if is_mixed else text)
    rest = rest.lstrip(" ")
    if rest.startswith(":"):
        text, _, rest = rest[1:].partition(" ")
        source = _checked(_read_source(text) if is_mixed else Source.parse(text), len(text))
    head, colon, trailing = (" " + rest).partition(" :")
    words = list(filter(None, head.split(" ")))
    if not words:
        return None
    params = (*words[1:], trailing) if colon else tuple(words[1:])
    if not is_mixed:
        return Incoming(words[0].upper(), params, source, tags)
    as_sent = tuple(one.encode("latin-1") for one in params)
    params = tuple(_read_word(one)[0] for one in params[:-1])
    params += tuple(_without_nul(decode(one)) for one in as_sent[-1:])
    return Incoming(_read_word(words[0])[0].upper(), params, source, tags, as_sent=as_sent)


_NAMING = frozenset({"NICK", "JOIN", "PART", "KICK"})
"""What means nothing without the name that comes first: a channel, a nick."""


def lacks_name(message: Incoming) -> bool:
    """Whether a line is about a name, and has none or one that no line could hold."""
    if message.command not in _NAMING:
        return False
    name = message.param(0)
    if message.command == "NICK":
        return not (is_word(name) and message.named(0).nick)
    return not (is_word(name) and len(name) < LINE_BYTES)


def is_word(text: str) -> bool:
    """Whether a text can stand in the middle of a line."""
    return text != "" and text[0] != ":" and " " not in text


def _checked(source: Source, length: int) -> Source | None:
    nick = source.nick
    is_named = nick and (4 * len(nick) <= NICK_BYTES or len(nick.encode()) <= NICK_BYTES)
    return source if is_named and length < LINE_BYTES else None


_CHATTER = frozenset({b"PRIVMSG", b"NOTICE", b"TAGMSG"})
_CHANNEL_SIGNS = frozenset({b"#", b"&"})


def is_chatter(raw: bytes, own: str) -> bool:
    """Whether a line is what somebody else says in a channel, told without reading all of it.

    In doubt it is not: so never where our nick, ``own``, is no ASCII, which servers compare in
    more than one way. With hundreds of our connections in one channel each line comes hundreds of
    times, and means nothing to those that do not listen.
    """
    if raw[:1] == b"@":
        raw = raw.partition(b" ")[2]
    words = raw.split(b" ", 3)
    if len(words) < 3 or raw[:1] != b":" or words[1] not in _CHATTER or not own.isascii():
        return False
    nick = words[0][1:].partition(b"!")[0].partition(b"@")[0]
    is_named = nick != b""
    return is_named and words[2][:1] in _CHANNEL_SIGNS and nick.lower() != own.lower().encode()


def read_pong(raw: bytes) -> Incoming | None:
    """Read a line that is plainly a ``PONG`` and in no group of lines; None for all others."""
    message = parse(raw) if b"PONG " in raw else None
    is_plain = message is not None and message.command == "PONG" and "batch" not in message.tags
    return message if is_plain else None


def _parse_tags(text: str) -> dict[str, str]:
    tags = {}
    for tag in text.split(";"):
        key, _, value = tag.partition("=")
        if key:
            tags[key] = _unescape(value) if "\\" in value else value
    return tags


def _unescape(value: str) -> str:
    characters = iter(value)
    return "".join(
        _TAG_ESCAPES.get(following, following)
        if character == "\\" and (following := next(characters, "")) is not None
        else character
        for character in characters
    )


class LineReader:
    """Cuts what arrives into lines."""

    def __init__(self) -> None:
        self._rest = b""

    @property
    def is_amid(self) -> bool:
        """Whether a line has begun and not ended."""
        return bool(self._rest)

    def feed(self, data: bytes) -> list[bytes]:
        """Take bytes, give the lines that are whole now.

        Raises ``ValueError`` when a line does not end within ``MOST_UNREAD_BYTES``.
        """
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > MOST_UNREAD_BYTES:
            raise ValueError(f"a line of over {MOST_UNREAD_BYTES} bytes")
        return [line for line in lines if line.strip(b"\r ")]


@dataclass(frozen=True, slots=True)
class Line:
    """One line for the server. What cannot be one line cannot be made.

    Raises ``PermanentFailure`` with what is wrong; :func:`line` cleans the last parameter first.
    """

    command: str
    params: tuple[str, ...] = ()
    limit: int = field(default=LINE_BYTES, compare=False)
    tags: tuple[tuple[str, str], ...] = ()
    _words: bytes = field(init=False, repr=False, compare=False)
    """All but the tags as it is written, made once: it is measured, then sent."""

    def __post_init__(self) -> None:
        if not (self.command.isascii() and self.command.isalnum()):
            raise PermanentFailure(f"{self.command!r} is no IRC command.")
        if len(self.params) > MOST_PARAMS:
            raise PermanentFailure(f"{self.command} takes at most {MOST_PARAMS} parameters.")
        for param in self.params[:-1]:
            if not is_word(param):
                raise PermanentFailure(f"{param!r} cannot stand in the middle of an IRC line.")
        words = " ".join(self._spelled())
        if _UNCLEAN.search(words) is not None:
            raise PermanentFailure(f"A value of {self.command} holds a line break or a NUL.")
        encoded = words.encode() + b"\r\n"
        if len(encoded) > self.limit:
            raise PermanentFailure(
                f"A line of {self.command} has {len(encoded)} bytes; "
                f"the server takes {self.limit}."
            )
        object.__setattr__(self, "_words", encoded)
        if self.tags:
            self._check_tags()

    def _check_tags(self) -> None:
        for key, value in self.tags:
            escaped = value.translate(_TAG_UNSAFE)
            if not _TAG_KEY.match(key) or clean(escaped) != escaped:
                raise PermanentFailure(f"{key!r} cannot be the tag of an IRC line.")
        if len(self._encode_tags()) > TAG_BYTES + 2:
            raise PermanentFailure(f"The tags of a line have over {TAG_BYTES} bytes.")

    def tagged(self, **tags: str) -> "Line":
        """Return the line with tags before it. They do not count for its limit."""
        # Every line that is said may get a label: what was checked is not checked again.
        made = object.__new__(Line)
        object.__setattr__(made, "command", self.command)
        object.__setattr__(made, "params", self.params)
        object.__setattr__(made, "limit", self.limit)
        object.__setattr__(made, "tags", (*self.tags, *tags.items()))
        object.__setattr__(made, "_words", self._words)
        made._check_tags()
        return made

    def encode(self) -> bytes:
        """Return the bytes, with the line end."""
        return self._encode_tags() + self._words if self.tags else self._words

    def _encode_tags(self) -> bytes:
        pairs = (
            f"{key}={value.translate(_TAG_UNSAFE)}" if value else key for key, value in self.tags
        )
        return b"@" + ";".join(pairs).encode() + b" "

    def _spelled(self) -> list[str]:
        words = [self.command, *self.params]
        if self.params:
            last = self.params[-1]
            if not last or last.startswith(":") or " " in last or self.command in _SPOKEN:
                words[-1] = f":{last}"
        return words


# Servers agree to read the text of these with or without the colon, but some clients' log
# filters do not; everybody writes it.
_SPOKEN = frozenset({"PRIVMSG", "RELAYMSG", "NOTICE", "QUIT", "PART", "USER"})


def clean(text: str) -> str:
    """Replace what no line can hold: CR, LF and NUL by spaces, lone surrogates by ``?``."""
    if _UNCLEAN.search(text) is None:
        return text
    return text.translate(_FORBIDDEN).encode("utf-8", "replace").decode()


def line(command: str, *params: str, limit: int = LINE_BYTES) -> Line:
    """Make a line. The last parameter is cleaned; the others must be clean as they are.

    The last one is text that a person wrote, where a space will do for a line break; in the
    middle stand names, and a changed name would be somebody else's.
    """
    cleaned = (*params[:-1], clean(params[-1])) if params else ()
    return Line(command.upper(), cleaned, limit)


def notice(nick: str, text: str, most_bytes: int = LINE_BYTES) -> Line:
    """Make a NOTICE to somebody, cut to its length.

    Raises ``PermanentFailure`` for a nick that no line can hold.
    """
    room = LINE_BYTES - len(f"NOTICE {nick} :\r\n".encode())
    return line("NOTICE", nick, cut(text, min(room, most_bytes)))


def cut(text: str, most_bytes: int) -> str:
    """Shorten a text to bytes of UTF-8, on a character's border. For reasons, not for messages."""
    return clean(text).encode()[: max(0, most_bytes)].decode("utf-8", "ignore")
