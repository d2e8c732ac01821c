"""IRC's codes to the tree and back."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.networks.irc.colours import PALETTE, colour_of, nearest
from bridge.networks.irc.format import ANY_COLOUR, clean_text, from_irc, strip_codes, to_irc
from bridge.sdk.ids import UserId
from bridge.sdk.rich import (
    Code,
    Colour,
    Items,
    Link,
    Mention,
    Node,
    Quote,
    Rich,
    Style,
    Styled,
    Text,
)
from bridge.sdk.text import to_plain
from tests.rigs.scale import examples


def rich(*nodes: Node) -> Rich:
    return Rich(nodes)


def styled(style: Style, text: str) -> Styled:
    return Styled(style, (Text(text),))


@pytest.mark.parametrize(
    ("codes", "tree"),
    [
        ("plain", rich(Text("plain"))),
        ("a \x02b\x02 c", rich(Text("a "), styled(Style.BOLD, "b"), Text(" c"))),
        ("\x1di\x0f\x1fu", rich(styled(Style.ITALIC, "i"), styled(Style.UNDERLINE, "u"))),
        ("\x1es\x1e\x11m", rich(styled(Style.STRIKE, "s"), styled(Style.MONO, "m"))),
        ("\x0304red\x03 x", rich(Colour("#ff0000", None, (Text("red"),)), Text(" x"))),
        ("\x034,1x", rich(Colour("#ff0000", "#000000", (Text("x"),)))),
        (
            "\x0304,01a\x0305b",
            rich(
                Colour("#ff0000", "#000000", (Text("a"),)),
                Colour("#7f0000", "#000000", (Text("b"),)),
            ),
        ),
        ("\x0304,a", rich(Colour("#ff0000", None, (Text(",a"),)))),
        ("\x030412", rich(Colour("#ff0000", None, (Text("12"),)))),
        ("\x0399x", rich(Text("x"))),
        ("\x0398x", rich(Colour("#ffffff", None, (Text("x"),)))),
        ("\x04Ff8800x", rich(Colour("#ff8800", None, (Text("x"),)))),
        ("\x04ff8800,000000x\x04y", rich(Colour("#ff8800", "#000000", (Text("x"),)), Text("y"))),
        ("\x0301,01secret", rich(styled(Style.SPOILER, "secret"))),
        (
            "\x16rev\x16 \x07bell",
            rich(Colour("#ffffff", "#000000", (Text("rev"),)), Text(" bell")),
        ),
        ("\x0304,02\x16rev", rich(Colour("#00007f", "#ff0000", (Text("rev"),)))),
        ("\x02\x02", rich()),
        ("\x03٣x", rich(Text("٣x"))),
        ("\x031,٣", rich(Colour("#000000", None, (Text(",٣"),)))),
        (
            "\x02b\x1di\x02j",
            rich(
                Styled(Style.BOLD, (Text("b"), styled(Style.ITALIC, "i"))),
                styled(Style.ITALIC, "j"),
            ),
        ),
    ],
)
def test_codes_are_read_into_a_tree(codes: str, tree: Rich) -> None:
    assert from_irc(codes) == tree


@pytest.mark.parametrize(
    ("tree", "codes"),
    [
        (rich(Text("a "), styled(Style.BOLD, "b"), Text(" c")), "a \x02b\x0f c"),
        (rich(Styled(Style.BOLD, (Text("b"), styled(Style.ITALIC, "i")))), "\x02b\x1di\x0f"),
        (rich(Colour("#fe0101", None, (Text("red"),))), "\x0304red\x0f"),
        (rich(Colour("#ff0000", "#000000", (Text("x"),))), "\x0304,01x\x0f"),
        (rich(Colour(None, "#000000", (Text("x"),))), "\x0399,01x\x0f"),
        (rich(Colour("#ff0000", None, (Text("12"),))), "\x0304\x02\x0212\x0f"),
        (rich(Colour("#ff0000", None, (Text(",5"),))), "\x0304\x02\x02,5\x0f"),
        (rich(styled(Style.SPOILER, "x")), "\x0301,01x\x0f"),
        (
            rich(Styled(Style.SPOILER, (Colour("#ff0000", None, (Text("x"),)), Text("y")))),
            "\x0301,01xy\x0f",
        ),
        (rich(Colour("#ff0000", "#fe0000", (Text("x"),))), "\x0304x\x0f"),
        (rich(Code("x = 1")), "\x11x = 1\x0f"),
        (rich(Link("https://a.example/", (Text("here"),))), "here (https://a.example/)"),
        (rich(Link("https://a.example/", (Text("https://a.example/"),))), "https://a.example/"),
        (rich(Link("https://a.example/\r\nx y", ())), "https://a.example/%20%20x%20y"),
        (rich(Mention(UserId("@bob:example.org"), "Bob"), Text(": hi")), "Bob: hi"),
        (rich(Quote((Text("said"),))), "> said"),
        (rich(Items(((Text("a"),), (Text("b"),)), ordered=True)), " 1. a 2. b"),
        (rich(Text("a\r\nb\x01\x02\x03\x0f\x00c\td")), "a  bc d"),
    ],
)
def test_a_tree_is_written_in_codes(tree: Rich, codes: str) -> None:
    assert to_irc(tree) == codes


def test_a_mention_is_written_as_the_nick() -> None:
    mention = Mention(UserId("@bob:example.org"), "Robert")
    assert to_irc(rich(mention), name_of=lambda one: f"{one.name}_nick") == "Robert_nick"


def test_ninety_nine_colours_are_used_where_they_are_known() -> None:
    tree = rich(Colour("#743a00", None, (Text("x"),)))
    assert to_irc(tree, colours=99) == "\x0329x\x0f"
    assert to_irc(tree, colours=16) != to_irc(tree, colours=99)


def test_each_colour_of_the_palette_is_nearest_to_itself() -> None:
    assert len(PALETTE) == 99
    for number, colour in enumerate(PALETTE):
        assert colour_of(nearest(colour, 99)) == colour
        assert colour_of(number) == colour
    assert colour_of(99) is None


TEXT = st.text(st.characters(exclude_categories=("Cc", "Cs")), min_size=1, max_size=12)


@dataclass(frozen=True)
class Look:
    """How a character looks on IRC."""

    styles: frozenset[Style] = frozenset()
    foreground: str | None = None
    background: str | None = None


COLOURS = st.sampled_from((*PALETTE, None))
NODES = st.recursive(
    TEXT.map(Text),
    lambda children: st.one_of(
        st.builds(Styled, st.sampled_from(Style), st.tuples(children)),
        st.builds(Colour, COLOURS, COLOURS, st.tuples(children, children)),
    ),
    max_leaves=8,
)


@examples(300)
@given(st.lists(NODES, max_size=4))
def test_text_survives_the_way_there_and_back(nodes: list[Node]) -> None:
    tree = Rich(tuple(nodes))
    written = to_irc(tree, colours=99)
    assert to_plain(from_irc(written)) == strip_codes(written) == to_plain(tree)
    # Read once it is stable: nothing is lost by going round again.
    again = to_irc(from_irc(written), colours=99)
    assert to_irc(from_irc(again), colours=99) == again


def looks(nodes: Sequence[Node], now: Look = Look()) -> Iterator[tuple[str, Look]]:
    """Every character as a client shows it, of what IRC can show."""
    for node in nodes:
        match node:
            case Text(text):
                yield from ((character, now) for character in text)
            case Styled(Style.SPOILER, children):
                yield from looks(children, Look(now.styles | {Style.SPOILER}))
            case Styled(style, children):
                yield from looks(children, replace(now, styles=now.styles | {style}))
            case Colour(front, back, children) if Style.SPOILER not in now.styles:
                front, back = front or now.foreground, back or now.background
                if front is not None and front == back:
                    yield from looks(children, Look(now.styles | {Style.SPOILER}))
                else:
                    yield from looks(children, replace(now, foreground=front, background=back))
            case Colour(_, _, children):
                yield from looks(children, now)


@pytest.mark.parametrize("colours", [99, ANY_COLOUR])
@examples(300)
@given(nodes=st.lists(NODES, max_size=4))
def test_every_character_keeps_its_styles_and_its_colours(nodes: list[Node], colours: int) -> None:
    written = to_irc(Rich(tuple(nodes)), colours=colours)
    assert list(looks(from_irc(written).nodes)) == list(looks(nodes))


def test_a_colour_that_is_in_no_list_crosses_as_it_is_where_that_is_set() -> None:
    tree = rich(Colour("#123456", None, (Text(",1"),)), Colour("#123456", "#abcdef", (Text("2"),)))
    written = to_irc(tree, colours=ANY_COLOUR)
    assert written == "\x04123456\x02\x02,1\x04123456,abcdef\x02\x022\x0f"
    assert from_irc(written) == tree


def test_a_spoiler_is_hidden_by_codes_that_all_clients_know() -> None:
    hidden = (styled(Style.SPOILER, "x"), Colour("#123456", "#123456", (Text("x"),)))
    for colours in (16, 99, ANY_COLOUR):
        assert to_irc(rich(hidden[0]), colours=colours) == "\x0301,01x\x0f"
        assert to_irc(rich(hidden[1]), colours=colours)[0] == "\x03"


@examples(100)
@given(st.lists(NODES, max_size=4))
def test_with_sixteen_colours_the_styles_and_the_nearest_colours_stay(nodes: list[Node]) -> None:
    def near(look: Look) -> Look:
        front, back = (
            colour_of(nearest(one, 16)) if one else None
            for one in (look.foreground, look.background)
        )
        return replace(look, foreground=front, background=back)

    wanted = [(character, near(look)) for character, look in looks(nodes)]
    for (got, look), (character, other) in zip(
        looks(from_irc(to_irc(Rich(tuple(nodes)))).nodes), wanted, strict=True
    ):
        assert got == character
        assert look.styles == other.styles
        assert look.foreground == other.foreground
        # On its own colour nobody could read it.
        seen = None if other.background == other.foreground else other.background
        assert look.background == seen


@examples(300)
@given(st.text())
def test_text_cannot_bring_codes_of_its_own(text: str) -> None:
    written = to_irc(rich(Text(text)))
    assert from_irc(written).nodes in ((), (Text(clean_text(text)),))
    assert not any(ord(character) < 0x20 for character in written)


@examples(300)
@given(st.text(st.characters() | st.sampled_from("\x02\x03\x04\x0f\x11\x16\x1d\x1e\x1f0123,")))
def test_any_codes_are_read(text: str) -> None:
    assert to_plain(from_irc(text)) == strip_codes(text)
