"""Formatted text as a small tree, between Matrix HTML and a network's own markup.

A message is a :class:`Rich`: a tuple of nodes. Each node is frozen; containers hold a
tuple of nodes. One parser makes the tree from Matrix HTML, one renderer per target writes
it out. No tree is deeper than :data:`DEEPEST`, so what walks one may do so by recursion.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from bridge.sdk.ids import RemoteUserId, UserId

DEEPEST = 32
"""How many containers may stand in each other. Work on a text grows with its depth."""


class Style(StrEnum):
    """What a span of text may look like."""

    BOLD = "bold"
    ITALIC = "italic"
    UNDERLINE = "underline"
    STRIKE = "strike"
    MONO = "mono"
    SPOILER = "spoiler"


@dataclass(frozen=True, slots=True)
class Text:
    """Plain characters, without line breaks."""

    text: str


@dataclass(frozen=True, slots=True)
class LineBreak:
    """The end of a line."""


@dataclass(frozen=True, slots=True)
class Styled:
    """A span in one style."""

    style: Style
    children: tuple["Node", ...]


@dataclass(frozen=True, slots=True)
class Colour:
    """A coloured span. Colours are ``#rrggbb`` or None."""

    foreground: str | None
    background: str | None
    children: tuple["Node", ...]


@dataclass(frozen=True, slots=True)
class Link:
    """A link. ``url`` is absolute; children are what is shown."""

    url: str
    children: tuple["Node", ...]


@dataclass(frozen=True, slots=True)
class Mention:
    """A person, by Matrix id, and the name that is shown.

    For somebody on the network the core fills in ``remote``. A module that mentions one gives
    that and may leave ``user`` empty: the core puts the ghost's id there.
    """

    user: UserId
    name: str
    remote: RemoteUserId | None = None


@dataclass(frozen=True, slots=True)
class Code:
    """A block of code; may hold line breaks."""

    text: str
    language: str | None = None


@dataclass(frozen=True, slots=True)
class Quote:
    """A block quote."""

    children: tuple["Node", ...]


@dataclass(frozen=True, slots=True)
class Items:
    """A list; each item is a tuple of nodes."""

    items: tuple[tuple["Node", ...], ...]
    ordered: bool = False
    start: int = 1


Container = Styled | Colour | Link | Quote
"""What holds nodes in one row."""

Node = Text | LineBreak | Mention | Code | Container | Items


_BARE: frozenset[type] = frozenset({Text, LineBreak})


@dataclass(frozen=True, slots=True)
class Rich:
    """A formatted text. What stands deeper than :data:`DEEPEST` loses its look, never its text."""

    nodes: tuple[Node, ...] = ()

    def __post_init__(self) -> None:
        if not _BARE.issuperset(map(type, self.nodes)) and _is_too_deep(self.nodes):
            object.__setattr__(self, "nodes", _not_deeper(self.nodes, DEEPEST))

    @classmethod
    def plain(cls, text: str) -> "Rich":
        """Make a tree of plain text; ``\\n``, ``\\r\\n`` and ``\\r`` become line breaks."""
        if "\n" not in text and "\r" not in text:
            return cls((Text(text),) if text else ())
        nodes: list[Node] = []
        for number, line in enumerate(text.replace("\r\n", "\n").replace("\r", "\n").split("\n")):
            if number:
                nodes.append(LineBreak())
            if line:
                nodes.append(Text(line))
        return cls(tuple(nodes))


def is_bare(nodes: Sequence[Node]) -> bool:
    """Whether they are text and line breaks alone."""
    return _BARE.issuperset(map(type, nodes))


def refill(container: Container, children: tuple[Node, ...]) -> Container:
    """Make the same container around other nodes."""
    match container:
        case Styled(style, _):
            return Styled(style, children)
        case Colour(foreground, background, _):
            return Colour(foreground, background, children)
        case Link(url, _):
            return Link(url, children)
        case Quote():
            return Quote(children)


def mentions_as(rich: Rich, change: Callable[[Mention], Node]) -> Rich:
    """Make the same text with each mention changed to something else."""
    if is_bare(rich.nodes):
        return rich
    return Rich(_mentions_as(rich.nodes, change))


def _mentions_as(nodes: Sequence[Node], change: Callable[[Mention], Node]) -> tuple[Node, ...]:
    made: list[Node] = []
    for node in nodes:
        match node:
            case Mention():
                made.append(change(node))
            case Styled() | Colour() | Link() | Quote():
                made.append(refill(node, _mentions_as(node.children, change)))
            case Items(items, _, _):
                inside = tuple(_mentions_as(item, change) for item in items)
                made.append(replace(node, items=inside))
            case _:
                made.append(node)
    return tuple(made)


def _children(node: Node) -> Sequence[Node]:
    """What stands in a container; the items of a list are told apart by line breaks."""
    match node:
        case Styled() | Colour() | Link() | Quote():
            return node.children
        case Items(items, _, _):
            inside: list[Node] = []
            for item in items:
                inside += (*item, LineBreak())
            return inside
        case _:
            return ()


def _is_too_deep(nodes: Sequence[Node]) -> bool:
    level = nodes
    for _ in range(DEEPEST + 1):
        level = [child for node in level for child in _children(node)]
        if not level:
            return False
    return True


def _not_deeper(nodes: Sequence[Node], most: int) -> tuple[Node, ...]:
    if most == 0:
        return tuple(_leaves(nodes))
    made: list[Node] = []
    for node in nodes:
        match node:
            case Styled() | Colour() | Link() | Quote():
                made.append(refill(node, _not_deeper(node.children, most - 1)))
            case Items(items, _, _):
                kept = tuple(_not_deeper(item, most - 1) for item in items)
                made.append(replace(node, items=kept))
            case _:
                made.append(node)
    return tuple(made)


def _leaves(nodes: Sequence[Node]) -> Iterator[Node]:
    """What holds nothing else, in order. Any depth will do: nothing here calls itself."""
    waiting = list(reversed(nodes))
    while waiting:
        node = waiting.pop()
        if isinstance(node, Styled | Colour | Link | Quote | Items):
            waiting.extend(reversed(_children(node)))
        else:
            yield node
