"""The tree of a formatted text."""

from dataclasses import FrozenInstanceError

import pytest
from hypothesis import given

from bridge.sdk.rich import DEEPEST, LineBreak, Rich, Style, Styled, Text
from tests.rigs.scale import examples
from tests.rigs.trees import depth_of, nested, seen, texts, words


@pytest.mark.parametrize(
    ("text", "nodes"),
    [
        ("", ()),
        ("a", (Text("a"),)),
        ("a\nb", (Text("a"), LineBreak(), Text("b"))),
        ("a\r\nb\rc", (Text("a"), LineBreak(), Text("b"), LineBreak(), Text("c"))),
        ("\n\n", (LineBreak(), LineBreak())),
    ],
)
def test_plain_text_is_read_line_by_line(text: str, nodes: tuple[Text | LineBreak, ...]) -> None:
    assert Rich.plain(text).nodes == nodes


@examples(80)
@given(words)
def test_plain_text_loses_nothing_but_the_kind_of_its_line_breaks(text: str) -> None:
    said = "".join(str(one) for one, _ in seen(Rich.plain(text).nodes))
    assert said == text.replace("\r\n", "\n").replace("\r", "\n")


def test_a_tree_cannot_be_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        Rich.plain("a").nodes = ()  # type: ignore[misc]


@examples(100)
@given(texts)
def test_what_is_not_too_deep_is_kept_as_it_is(rich: Rich) -> None:
    before = rich.nodes
    assert Rich(before).nodes is before


@pytest.mark.parametrize("depth", [DEEPEST - 1, DEEPEST])
def test_as_deep_as_allowed_is_kept(depth: int) -> None:
    node = nested(depth, Text("a"))
    assert Rich((node,)).nodes == (node,)


@pytest.mark.parametrize("depth", [DEEPEST + 1, 1000, 100_000])
def test_what_is_too_deep_keeps_its_text(depth: int) -> None:
    rich = Rich((Text("x"), nested(depth, Text("a"), LineBreak(), Text("c"))))
    assert depth_of(rich) == DEEPEST
    said = "".join(str(one) for one, _ in seen(rich.nodes))
    assert said.replace("\n", "").strip("b") == "xac"
    assert said.count("b") == len([n for n in range(depth) if n % 5 == 2])


def test_what_is_too_deep_keeps_the_looks_around_it() -> None:
    node: Text | Styled = Text("a")
    for _ in range(DEEPEST):
        node = Styled(Style.ITALIC, (node,))
    rich = Rich((Styled(Style.BOLD, (node, Text("b"))),))
    assert list(seen(rich.nodes)) == [
        ("a", (Style.BOLD, *[Style.ITALIC] * (DEEPEST - 1))),
        ("b", (Style.BOLD,)),
    ]
