"""Formatted texts of every kind, for property tests: what people write, and what nobody would."""

from collections.abc import Iterator, Sequence

from hypothesis import strategies as st

from bridge.sdk.ids import UserId
from bridge.sdk.rich import (
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

HOSTILE = (
    *("\0", "\u0301", "e\u0301\u0323", "\u200d", "\ufe0f", "\u200f", "\u202e", "\u2066", "\ud800"),
    *("\udfff", "\ufeff", "\r", "\x01", "\x7f", "\U0001f468\u200d\U0001f469\u200d\U0001f467"),
    *(
        "\U0001f1e9\U0001f1ea",
        "\U0001f1eb",
        "שלום",
        "مرحبا",
        "한",
        "\u1112\u1161",
        "क्षि",
        "\u0600",
    ),
    *("&", "<", ">", '"', "'", "&amp;", "</b>", "<br>", "-->", "\u2028", "\x85", "\xa0", "\u200b"),
)
"""What text may hold at worst, each a piece that hypothesis joins to others."""

words = st.lists(
    st.sampled_from(("a", "b ", " ", "word", "1", ",", *HOSTILE)) | st.characters(), max_size=12
).map("".join)
"""Text in one line or several, sound or not."""

people = st.builds(
    Mention, st.sampled_from(("@a:b", "@x=2f/y:example.org:8448")).map(UserId), words
)
addresses = st.sampled_from(("https://a.example/?b=c&d", "mailto:a@b.example", "magnet:?xt=1"))
colours = st.sampled_from(("#ff0000", "#00ff7f", None))
_leaves = st.one_of(
    words.map(Text),
    st.just(LineBreak()),
    people,
    st.builds(
        Code, words | words.map(lambda text: f"{text}\n\n x\n"), st.sampled_from((None, "c"))
    ),
)


def _styles(children: st.SearchStrategy[Node]) -> st.SearchStrategy[Node]:
    several = st.lists(children, max_size=4).map(tuple)
    return st.one_of(
        st.builds(Styled, st.sampled_from(Style), several),
        st.builds(Colour, colours, colours, several),
        st.builds(Quote, several),
    )


def _containers(children: st.SearchStrategy[Node]) -> st.SearchStrategy[Node]:
    several = st.lists(children, max_size=4).map(tuple)
    return _styles(children) | st.builds(Link, addresses, several)


def _with_lists(children: st.SearchStrategy[Node]) -> st.SearchStrategy[Node]:
    items = st.lists(st.lists(children, max_size=3).map(tuple), max_size=4).map(tuple)
    return _containers(children) | st.builds(Items, items, st.booleans(), st.integers(0, 99))


def _texts(nodes: st.SearchStrategy[Node]) -> st.SearchStrategy[Rich]:
    return st.lists(nodes, max_size=5).map(lambda several: Rich(tuple(several)))


texts_in_styles = _texts(st.recursive(_leaves, _styles, max_leaves=12))
texts_without_lists = _texts(st.recursive(_leaves, _containers, max_leaves=12))
texts = _texts(st.recursive(_leaves, _with_lists, max_leaves=12))


def nested(depth: int, *inside: Node) -> Node:
    """Containers of each kind in each other, ``depth`` of them."""
    node: tuple[Node, ...] = inside
    for number in range(depth):
        match number % 5:
            case 0:
                node = (Styled(list(Style)[number % 6], node),)
            case 1:
                node = (Quote(node),)
            case 2:
                node = (Items((node, (Text("b"),))),)
            case 3:
                node = (Colour("#ff0000", None, node),)
            case _:
                node = (Link("https://a.example/", node),)
    return node[0]


def depth_of(rich: Rich) -> int:
    """How many containers stand in each other."""
    deepest = 0
    waiting = [(node, 0) for node in rich.nodes]
    while waiting:
        node, depth = waiting.pop()
        inside = children_of(node)
        if inside is not None:
            deepest = max(deepest, depth + 1)
            waiting += [(child, depth + 1) for child in inside]
    return deepest


def children_of(node: Node) -> Sequence[Node] | None:
    """What stands in a container, of all items of a list; None for what holds nothing."""
    match node:
        case Styled() | Colour() | Link() | Quote():
            return node.children
        case Items(items, _, _):
            return [child for item in items for child in item]
        case _:
            return None


Seen = tuple[str | Mention, tuple[object, ...]]
"""A character, or a person, and how it looks: what stands around it, outermost first."""


def seen(nodes: Sequence[Node], around: tuple[object, ...] = ()) -> Iterator[Seen]:
    """Every character with its look. Being in a list is no look: a cut takes the mark away."""
    for node in nodes:
        match node:
            case Text(text):
                yield from ((character, around) for character in text)
            case LineBreak():
                yield "\n", around
            case Mention():
                yield node, around
            case Code(text, language):
                yield from ((character, (*around, "code", language)) for character in text)
            case Styled(style, children):
                yield from seen(children, (*around, style))
            case Colour(front, back, children):
                yield from seen(children, (*around, front, back))
            case Link(url, children):
                yield from seen(children, (*around, url))
            case Quote(children):
                yield from seen(children, (*around, "quote"))
            case Items(items, _, _):
                for item in items:
                    yield from seen(item, around)
