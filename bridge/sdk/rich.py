"""Formatted text as a small tree, between Matrix HTML and a network's own markup.

A message is a :class:`Rich`: a tuple of nodes. Each node is frozen; containers hold a
tuple of nodes. One parser makes the tree from Matrix HTML, one renderer per target writes
it out.
"""

from dataclasses import dataclass
from enum import StrEnum

from bridge.sdk.ids import UserId


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
    """A person, by Matrix id, and the name that is shown."""

    user: UserId
    name: str


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


Node = Text | LineBreak | Styled | Colour | Link | Mention | Code | Quote | Items


@dataclass(frozen=True, slots=True)
class Rich:
    """A formatted text."""

    nodes: tuple[Node, ...] = ()

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
