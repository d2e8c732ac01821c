"""Formatted text said plainly and cut into lines."""

import pytest
from hypothesis import given

from bridge.sdk.ids import UserId
from bridge.sdk.rich import (
    DEEPEST,
    Code,
    Colour,
    Items,
    LineBreak,
    Link,
    Mention,
    Node,
    Quote,
    Rich,
    Style,
    Styled,
    Text,
)
from bridge.sdk.text import lines, to_plain
from tests.rigs.quick import is_quick
from tests.rigs.scale import examples
from tests.rigs.trees import nested, seen, texts, texts_without_lists, words

UNSEEN = "\0"
"""What neither side can hold: a link of no more than that is said by its address alone."""


def bold(*children: Node) -> Styled:
    return Styled(Style.BOLD, children)


@pytest.mark.parametrize(
    ("nodes", "said"),
    [
        ((), ""),
        ((Text("a"), LineBreak(), Text("b")), "a\nb"),
        ((Text("a"), LineBreak(), LineBreak()), "a\n\n"),
        ((bold(Text("a "), Colour("#ff0000", None, (Text("b"),))),), "a b"),
        ((Mention(UserId("@bob:example.org"), "Bob"), Text(": hi")), "Bob: hi"),
        ((Link("https://a.example/", (Text("here"),)),), "here (https://a.example/)"),
        ((Link("https://a.example/", (bold(Text("https://a.example/")),)),), "https://a.example/"),
        ((Link("mailto:a@b.example", (Text("a@b.example"),)),), "a@b.example"),
        ((Link("https://a.example/", ()),), "https://a.example/"),
        ((Link("https://a.example/", (Text("\0"),)),), "https://a.example/"),
        ((Link("https://a.example/", (LineBreak(),)), Text("x")), "https://a.example/\nx"),
        (
            (Link("https://b/", (Text("a"), LineBreak(), Text(" "), LineBreak(), Text("c"))),),
            "a (https://b/)\n\nc (https://b/)",
        ),
        ((Quote((Text("a"), LineBreak(), Text("b"))), Text("c")), "> a\n> b\nc"),
        ((Quote((Quote((Text("a"),)), Text("b"))),), "> > a\n> b"),
        ((Text("x"), Code("a\n  b"), Text("y")), "x\na\n  b\ny"),
        ((Text("x"), LineBreak(), Code("a"), LineBreak(), Text("y")), "x\na\ny"),
        ((Items(((Text("a"),), (Text("b"),))),), "• a\n• b"),
        ((Items(((Text("a"),), (Text("b"),)), ordered=True, start=9),), "9. a\n10. b"),
        ((Items(((Text("a"), LineBreak(), Text("b")),), ordered=True),), "1. a\n   b"),
        ((Items(((Text("a"), Items(((Text("b"),),))),)),), "• a\n  • b"),
        ((Items(()), Text("a")), "\na"),
    ],
)
def test_a_tree_is_said_plainly(nodes: tuple[Node, ...], said: str) -> None:
    assert to_plain(Rich(nodes)) == said


def test_every_line_has_its_styles() -> None:
    whole = Rich((bold(Text("a"), LineBreak(), Styled(Style.ITALIC, (Text("b\nc"),))), Text("d")))
    assert lines(whole) == [
        Rich((bold(Text("a")),)),
        Rich((bold(Styled(Style.ITALIC, (Text("b"),))),)),
        Rich((bold(Styled(Style.ITALIC, (Text("c"),))), Text("d"))),
    ]


def test_code_is_code_on_every_line() -> None:
    assert lines(Rich((Code("a\nb", "c"),))) == [Rich((Code("a", "c"),)), Rich((Code("b", "c"),))]


@examples(80)
@given(words)
def test_plain_text_is_said_as_it_is(text: str) -> None:
    assert to_plain(Rich.plain(text)) == text.replace("\r\n", "\n").replace("\r", "\n")


@examples(80)
@given(texts)
def test_a_line_holds_no_line_break(rich: Rich) -> None:
    for line in lines(rich):
        assert "\n" not in "".join(one for one, _ in seen(line.nodes) if isinstance(one, str))


@examples(80)
@given(texts_without_lists)
def test_lines_lose_no_text_and_no_look_but_a_quote_becomes_a_mark(rich: Rich) -> None:
    def unquoted(one: Rich) -> list[object]:
        looks = [(c, tuple(x for x in look if x != "quote")) for c, look in seen(one.nodes)]
        return [one for one in looks if str(one[0]).strip().strip(UNSEEN + ">")]

    assert [one for line in lines(rich) for one in unquoted(line)] == unquoted(rich)


@examples(80)
@given(texts)
def test_what_is_said_has_every_character(rich: Rich) -> None:
    said = iter(to_plain(rich))
    for one, _ in seen(rich.nodes):
        for character in one.name if isinstance(one, Mention) else one:
            is_unseen = character.isspace() or character == UNSEEN
            assert is_unseen or character in said, "in this order, and none twice"


@pytest.mark.parametrize(
    "rich",
    [
        Rich((nested(10_000, Text("a")),)),
        Rich((nested(DEEPEST, *(Text("a"), LineBreak()) * 4_096),)),
        Rich((Text("a"), LineBreak()) * 16_384),
        Rich((Code("\n" * 65_536),)),
        Rich((Text("\n" * 65_536),)),
        Rich((Quote((Text("a"), LineBreak()) * 16_384),)),
        Rich((Items(((Text("a"),),) * 16_384),)),
        Rich((bold(Text("a"), LineBreak()),) * 8_192),
    ],
    ids=range(8),
)
def test_hostile_texts_are_said_in_a_moment(rich: Rich) -> None:
    def say() -> None:
        assert to_plain(rich)

    assert is_quick(say, 10)  # Quadratic, most of these would be minutes.
