"""Split: pieces fit, and together they are the whole."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.sdk.cutting import split
from bridge.sdk.graphemes import graphemes
from bridge.sdk.ids import UserId
from bridge.sdk.rich import (
    DEEPEST,
    Code,
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
from bridge.sdk.text import to_plain
from tests.rigs.quick import is_quick
from tests.rigs.scale import examples
from tests.rigs.trees import children_of, nested, seen, texts, texts_in_styles, texts_without_lists

FAMILY = "\U0001f468\u200d\U0001f469\u200d\U0001f467\u200d\U0001f466"
KIB_16 = 16 * 1024


def rich(*nodes: Node) -> Rich:
    return Rich(nodes)


def weight(nodes: Sequence[Node]) -> int:
    """A measure as a network has it: characters, and what it costs to open and close a style."""
    total = 0
    for node in nodes:
        inside = children_of(node)
        match node:
            case Text(text):
                total += len(text)
            case Code(text, _):
                total += 5 + len(text)
            case Mention(_, name):
                total += 3 + len(name)
            case Items(items, _, _):
                total += 2 * len(items)
            case Link(url, _):
                total += len(url)
            case LineBreak():
                total += 1
            case _:
                total += 3
        total += weight(inside) if inside else 0
    return total


def fits(budget: int) -> Callable[[Rich], bool]:
    return lambda piece: weight(piece.nodes) <= budget


def plainly(budget: int) -> Callable[[Rich], bool]:
    return lambda piece: len(to_plain(piece)) <= budget


def rows(nodes: Sequence[Node]) -> list[str]:
    """What may be cut between, in a row for each block: a NUL for each thing that is no text."""
    made = [""]
    for node in nodes:
        match node:
            case Text(text):
                made[-1] += text
            case LineBreak():
                made[-1] += "\n"
            case Code(text, _):
                made += [text or "\0", ""]
            case Quote(children):
                made += [*(rows(children) if flat(children) else ["\0"]), ""]
            case Items((), _, _):
                pass  # There is nothing in it, not even a mark.
            case Items(items, _, _):
                made += [row for item in items for row in (rows(item) if flat(item) else ["\0"])]
                made.append("")
            case _:
                inside = rows(children_of(node) or ())
                made[-1] += inside[0] if "".join(inside) else "\0"
                made += inside[1:]
    return made


def flat(nodes: Sequence[Node]) -> str:
    """All rows in one."""
    return "".join(rows(nodes))


def clusters(nodes: Sequence[Node]) -> list[str]:
    """What is never cut."""
    return [one for row in rows(nodes) for one in graphemes(row)]


def test_what_fits_stays_as_it_is() -> None:
    whole = rich(Text("short"))
    assert split(whole, plainly(5)) == [whole]


def test_a_cut_is_made_behind_a_space() -> None:
    pieces = split(rich(Text("one two three four")), plainly(9))
    assert [to_plain(piece) for piece in pieces] == ["one two ", "three ", "four"]


def test_a_line_is_rather_ended_than_a_word() -> None:
    whole = Rich.plain("one two\nthree four")
    assert [to_plain(piece) for piece in split(whole, plainly(14))] == ["one two\n", "three four"]


def test_a_word_that_is_too_long_is_cut_anywhere() -> None:
    pieces = split(rich(Text("abcdefgh")), plainly(3))
    assert [to_plain(piece) for piece in pieces] == ["abc", "def", "gh"]


def test_a_space_right_at_the_start_is_no_place_to_cut() -> None:
    assert len(split(rich(Text("aaaaaaaaa b" + "c" * 9)), plainly(10))) == 2


def test_styles_are_opened_again() -> None:
    whole = rich(Styled(Style.BOLD, (Text("one "), Styled(Style.ITALIC, (Text("two three"),)))))
    assert split(whole, plainly(8)) == [
        rich(Styled(Style.BOLD, (Text("one "), Styled(Style.ITALIC, (Text("two "),))))),
        rich(Styled(Style.BOLD, (Styled(Style.ITALIC, (Text("three"),)),))),
    ]


def test_a_block_of_code_is_cut_into_blocks_at_its_lines() -> None:
    whole = rich(Code("a = 1\nb = 2\nc = 3", "python"))
    assert split(whole, plainly(14)) == [
        rich(Code("a = 1\nb = 2\n", "python")),
        rich(Code("c = 3", "python")),
    ]


def test_a_quote_goes_on_as_a_quote() -> None:
    pieces = split(rich(Quote((Text("one two"),)), Text("three")), plainly(7))
    assert [to_plain(piece) for piece in pieces] == ["> one ", "> two", "three"]


def test_a_list_counts_on_and_the_rest_of_an_item_has_no_mark() -> None:
    whole = rich(Items(((Text("one two three"),), (Text("four"),)), ordered=True, start=4))
    assert split(whole, plainly(12)) == [
        rich(Items(((Text("one two "),),), ordered=True, start=4)),
        rich(Text("three")),
        rich(Items(((Text("four"),),), ordered=True, start=5)),
    ]


def test_what_follows_the_rest_of_an_item_stands_in_a_line_of_its_own() -> None:
    whole = rich(Items(((Text("one two"),),)), Text("after that"))
    pieces = split(whole, plainly(9))
    assert [to_plain(piece) for piece in pieces] == ["• one two", "after ", "that"]
    pieces = split(whole, plainly(8))
    assert [to_plain(piece) for piece in pieces] == ["• one ", "two", "after ", "that"]


def test_a_mention_is_never_cut() -> None:
    bob = Mention(UserId("@bob:example.org"), "Bob the Builder")
    pieces = split(rich(Text("hi "), bob, Text(" there")), plainly(6))
    assert pieces == [rich(Text("hi ")), rich(bob), rich(Text(" there"))]


def test_a_link_that_fits_is_not_cut() -> None:
    link = Link("https://a.example/", (Text("a b c"),))
    assert split(rich(Text("text "), link), plainly(26)) == [rich(Text("text ")), rich(link)]


def test_a_link_with_much_text_links_in_every_piece() -> None:
    pieces = split(rich(Link("https://a.b/", (Text("one two three"),))), plainly(20))
    assert pieces == [rich(Link("https://a.b/", (Text(t),))) for t in ("one ", "two ", "three")]


@pytest.mark.parametrize(
    ("shown", "text"),
    [
        ("here", "here (https://a.example/long)"),
        ("https://a.example/long", "https://a.example/long"),
        ("", "https://a.example/long"),
    ],
)
def test_a_link_whose_address_is_too_long_becomes_text(shown: str, text: str) -> None:
    pieces = split(rich(Link("https://a.example/long", (Text(shown),))), plainly(10))
    assert "".join(to_plain(piece) for piece in pieces) == text


@pytest.mark.parametrize(
    "whole", [FAMILY, "e" + "\u0301" * 30, "\U0001f1e9\U0001f1ea", "\r\n", "क्षि"]
)
def test_a_grapheme_that_does_not_fit_stands_alone(whole: str) -> None:
    pieces = split(rich(Text(f"a{whole}b")), lambda piece: len(to_plain(piece)) <= 1)
    assert [piece.nodes for piece in pieces] == [(Text("a"),), (Text(whole),), (Text("b"),)]


def test_a_grapheme_over_two_nodes_is_not_cut() -> None:
    whole = rich(Text("ae"), Styled(Style.BOLD, (Text("\u0301b"),)))
    assert split(whole, plainly(2)) == [
        rich(Text("a")),
        rich(Text("e"), Styled(Style.BOLD, (Text("\u0301"),))),
        rich(Styled(Style.BOLD, (Text("b"),))),
    ]


def test_nothing_is_one_empty_piece() -> None:
    assert split(Rich(), lambda _: False) == [Rich()]


@examples(100)
@given(texts, st.integers(1, 40))
def test_every_piece_fits_or_is_one_grapheme_and_none_is_empty(whole: Rich, budget: int) -> None:
    pieces = split(whole, fits(budget))
    assert pieces == [whole] or all(piece.nodes for piece in pieces)
    for piece in pieces:
        assert fits(budget)(piece) or len(clusters(piece.nodes)) <= 1


@examples(100)
@given(texts_without_lists, st.integers(60, 90))
def test_joined_the_pieces_are_the_whole(whole: Rich, budget: int) -> None:
    pieces = split(whole, fits(budget))
    assert [one for piece in pieces for one in seen(piece.nodes)] == list(seen(whole.nodes))


@examples(100)
@given(texts, st.integers(60, 90))
def test_of_a_list_only_marks_are_lost(whole: Rich, budget: int) -> None:
    def without_breaks(nodes: Sequence[Node]) -> list[object]:
        return [one for one in seen(nodes) if one[0] != "\n"]

    pieces = split(whole, fits(budget))
    joined = [one for piece in pieces for one in without_breaks(piece.nodes)]
    assert joined == without_breaks(whole.nodes)


@examples(100)
@given(texts_in_styles, st.integers(4, 90))
def test_no_grapheme_is_cut(whole: Rich, budget: int) -> None:
    borders, at = {0}, 0
    for one in clusters(whole.nodes):
        at += len(one)
        borders.add(at)
    at = 0
    for piece in split(whole, fits(budget)):
        at += len(flat(piece.nodes))
        assert at in borders


@dataclass
class Measure:
    """Counts what it was asked about."""

    budget: int
    asked: int = 0

    def __call__(self, piece: Rich) -> bool:
        length = len(flat(piece.nodes))
        self.asked += length
        return length <= self.budget


@pytest.mark.parametrize(
    "nodes",
    [
        [Text("a" * KIB_16)],
        [Text(" " * KIB_16)],
        [Text("word " * (KIB_16 // 5))],
        [Text("\n" * KIB_16)],
        [Text("e" + "\u0301" * KIB_16)],
        [Text(FAMILY * (KIB_16 // 25))],
        [Text("\ud800\0\u202e\u200d" * (KIB_16 // 12))],
        [Code("x = 1\n" * (KIB_16 // 6))],
        [Text("a"), LineBreak()] * (KIB_16 // 5),
        [Styled(Style.BOLD, (Text("a"),))] * (KIB_16 // 8),
        [Link("https://a.example/", (Text("a"),))] * (KIB_16 // 30),
        [Items(tuple((Text("a b"),) for _ in range(KIB_16 // 8)))],
        [Mention(UserId("@a:b"), "a")] * (KIB_16 // 40),
        [nested(DEEPEST, Text("a " * 500))],
    ],
    ids=lambda nodes: f"{len(nodes)} {type(nodes[0]).__name__}",
)
def test_it_asks_about_a_few_times_the_text_however_it_is_made(nodes: list[Node]) -> None:
    whole = rich(*nodes)
    length = len(flat(whole.nodes))
    for budget in (1, 400, 10_000):
        measure = Measure(budget)
        pieces = split(whole, measure)
        assert len("".join(flat(piece.nodes) for piece in pieces)) >= length
        assert measure.asked < 20 * length + 1000, budget


def test_64_kib_are_split_in_a_moment() -> None:
    whole = rich(Styled(Style.BOLD, (Text("e\u0301 word " * (KIB_16 // 2)),)))

    def cut_up() -> None:
        pieces = split(whole, lambda piece: len(to_plain(piece).encode()) <= 400)
        assert len(pieces) < 300

    assert is_quick(cut_up, 5)  # Quadratic, it would be minutes.
