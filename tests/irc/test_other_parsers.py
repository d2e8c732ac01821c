"""Lines and modes, read by us and by two other parsers: where they differ is written down here.

``irctokens`` and ``pydle`` were written by others from the same specifications. What we read as
they do is hardly a mistake of ours alone. Known differences, each passed over where it is said:

* Spaces before the source or the command: both take what follows for something else; we skip them.
* Spaces at the end of a line: pydle reads one more, empty parameter.
* CR or NUL within a line: irctokens ends the line there, pydle calls it invalid, we show a NUL as
  U+FFFD and leave a CR to :func:`clean`. What is no UTF-8 both read as ISO 8859-1, we as Windows'.
* A tag without a name: both keep it, under the empty name.
* ``\\`` in a tag's value: pydle replaces one kind of escape after another, so that a backslash
  that was escaped escapes again.
* Several ``@`` in a source: irctokens takes the first for the border of user and host, pydle
  fails, we take the last, as a user name may hold one. Without a user the host is part of the nick
  to pydle.
* More values after ``MODE`` than it has a use for: pydle reads them as modes. Fewer: it fails.
"""  # fmt: skip

import importlib
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from bridge.networks.irc.protocol.isupport import Isupport
from bridge.networks.irc.protocol.modes import Change, read_changes
from bridge.networks.irc.wire import Incoming, Source, parse
from tests.rigs.scale import examples

# They have no types.
IRCTOKENS: Any = importlib.import_module("irctokens")
PYDLE: Any = importlib.import_module("pydle.features.rfc1459.parsing")
PYDLE_TAGS: Any = importlib.import_module("pydle.features.ircv3.tags")

ODD = st.sampled_from(":;=\\@!#,+-%\x01\x02\x03\x1f\u00a0\u2028\u0085\u3000\ufeff\N{SNOWMAN}")
SIGNS = st.characters(exclude_categories=["Cs"], exclude_characters="\0\r\n ") | ODD
WORDS = st.text(SIGNS, min_size=1, max_size=8)
MIDDLE = WORDS.filter(lambda word: not word.startswith(":"))
NAMED = WORDS | st.builds("{}!{}@{}".format, WORDS, WORDS, WORDS)
SOURCES = NAMED.filter(lambda text: bool(Source.parse(text).nick))
"""Who has no name is somebody to the others, and nobody to us."""
COMMANDS = st.from_regex(r"[A-Za-z]{1,12}|[0-9]{3}", fullmatch=True)
KEYS = st.from_regex(r"\+?([a-z.]{1,5}/)?[a-zA-Z0-9-]{1,5}", fullmatch=True)
PIECES = st.sampled_from(["\\:", "\\s", "\\\\", "\\r", "\\n", "\\b", "\\", "s", "=", "a"])
ESCAPED = st.lists(PIECES, max_size=6).map("".join)
VALUES = st.none() | ESCAPED | st.text(SIGNS, max_size=8).map(lambda text: text.replace(";", ","))
SPACES = st.sampled_from([" ", " ", "  ", "    "])
TEXT = st.text(SIGNS | st.just(" "), max_size=12)


@st.composite
def lines(draw: st.DrawFn) -> str:
    """A line as the specification has it, however its values look and wherever it has spaces."""
    made = ""
    if tags := draw(st.lists(st.tuples(KEYS, VALUES), max_size=4)):
        written = (key if value is None else f"{key}={value}" for key, value in tags)
        made += f"@{';'.join(written)} "
    if source := draw(st.none() | SOURCES):
        made += f":{source}{draw(SPACES)}"
    made += draw(COMMANDS)
    for param in draw(st.lists(MIDDLE, max_size=6)):
        made += draw(SPACES) + param
    if (trailing := draw(st.none() | TEXT)) is not None:
        made += f"{draw(SPACES)}:{trailing}"
    return made


Read = tuple[dict[str, str], str, list[str]]


def by_us(raw: str) -> tuple[Incoming, Read]:
    message = parse(raw.encode())
    assert message is not None
    return message, (dict(message.tags), message.command, list(message.params))


@examples(300)
@given(lines())
def test_a_line_reads_as_irctokens_reads_it(raw: str) -> None:
    message, ours = by_us(raw)
    theirs = IRCTOKENS.tokenise(raw.encode())
    assert ours == (theirs.tags or {}, theirs.command, theirs.params)
    assert (message.source is None) == (theirs.source is None)
    if message.source is not None and theirs.source.count("@") < 2:
        mask = theirs.hostmask
        assert message.source == Source(mask.nickname, mask.username or "", mask.hostname or "")


@examples(300)
@given(lines())
def test_a_line_reads_as_pydle_reads_it(raw: str) -> None:
    message, (tags, *ours) = by_us(raw)
    theirs = PYDLE_TAGS.TaggedMessage.parse(raw.encode())
    command = theirs.command if isinstance(theirs.command, str) else f"{theirs.command:03}"
    assert ours == [command, theirs.params]
    if "\\" not in raw.partition(" ")[0]:
        assert tags == {key: "" if value is True else value for key, value in theirs.tags.items()}
    assert (message.source is None) == (theirs.source is None)
    if message.source is not None and is_plain(theirs.source):
        nick, user, host = PYDLE.parse_user(theirs.source)
        assert message.source == Source(nick, user or "", host or "")


def is_plain(source: str) -> bool:
    """Whether a source is a nick alone, or nick, user and host."""
    before, at, _ = source.partition("@")
    return source.count("@") < 2 and before.count("!") == len(at)


@examples(300)
@given(st.text(SIGNS | st.just(" "), max_size=40))
def test_whatever_else_comes_is_a_line_to_both_or_to_none(raw: str) -> None:
    raw = raw.lstrip(" ")
    if raw.startswith("@"):  # Spaces before the source again.
        raw = "{} {}".format(*(part.lstrip(" ") for part in raw.partition(" ")[::2]))
    message = parse(raw.encode())
    try:
        theirs = IRCTOKENS.tokenise(raw)
    except (ValueError, IndexError):
        assert message is None
        return
    assert message is not None
    tags = {key: value for key, value in (theirs.tags or {}).items() if key}
    assert by_us(raw)[1] == (tags, theirs.command, theirs.params)


LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
RANKS = 4
"""After lists, always with a value, with one when set, without: the place of ``PREFIX``."""


@st.composite
def networks(draw: st.DrawFn) -> list[str]:
    """The letters of each kind: four of ``CHANMODES``, and those of ``PREFIX``."""
    letters = draw(st.permutations(LETTERS))
    places = sorted(draw(st.lists(st.integers(0, 30), min_size=4, max_size=4)))
    borders = [0, *places, min(places[-1] + draw(st.integers(1, 5)), len(letters))]
    return ["".join(letters[a:b]) for a, b in pairwise(borders)]


@st.composite
def changes(draw: st.DrawFn) -> tuple[list[str], list[Change]]:
    """What the letters of a network are, and what is changed there."""
    kinds = draw(networks())
    made = []
    for letter in draw(st.lists(st.sampled_from("".join(kinds)), min_size=1, max_size=8)):
        adding = draw(st.booleans())
        kind = next(place for place, letters in enumerate(kinds) if letter in letters)
        takes = kind in {0, 1, RANKS} or (kind == 2 and adding)
        made.append(Change(adding, letter, draw(MIDDLE) if takes else ""))
    return kinds, made


@examples(300)
@given(changes())
def test_each_mode_has_the_value_that_the_servers_own_letters_give_it(
    made: tuple[list[str], list[Change]],
) -> None:
    kinds, changed = made
    signs = "~&@%+"[: len(kinds[RANKS])]
    limits = Isupport().with_tokens(
        [f"CHANMODES={','.join(kinds[:RANKS])}", f"PREFIX=({kinds[RANKS]}){signs}"]
    )
    words = ["".join(one.spelled for one in changed), *(one.value for one in changed if one.value)]
    assert read_changes(words, limits) == changed

    behaviour = {"list": kinds[0], "param": kinds[1] + kinds[RANKS], "param_set": kinds[2],
                 "noparam": kinds[3]}  # fmt: skip
    assert PYDLE.parse_modes(words, {}, behaviour) == state_after(changed, kinds)


def state_after(changed: Sequence[Change], kinds: Sequence[str]) -> dict[str, Any]:
    """The channel as pydle keeps it: lists of values, one value, or that it is set."""
    state: dict[str, Any] = {}
    for one in changed:
        if one.mode in kinds[0] + kinds[1] + kinds[RANKS]:
            held = state.setdefault(one.mode, []) if one.adding else state.get(one.mode, [])
            if one.adding:
                held.append(one.value)
            elif one.value in held:
                held.remove(one.value)
        elif one.adding:
            state[one.mode] = one.value or True
        else:
            state.pop(one.mode, None)
    return state
