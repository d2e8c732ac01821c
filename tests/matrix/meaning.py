"""What a reader gets from a tree, however it is put together."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from bridge.matrix.htmltree import clean
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
from bridge.sdk.text import is_blank


@dataclass(frozen=True)
class Look:
    """How a character looks, and what it stands in."""

    styles: frozenset[Style] = frozenset()
    foreground: str | None = None
    background: str | None = None
    link: str | None = None
    blocks: tuple[object, ...] = ()

    def within(self, *block: object) -> "Look":
        """The same in one block more."""
        return replace(self, blocks=(*self.blocks, block))


Meaning = list[tuple[str, Look, str]]
"""Each character that is seen, its look, and what it begins: a line, a word or nothing."""


def meaning(rich: Rich) -> Meaning:
    """Read the tree as a person would, without what cannot be sent."""
    walk = _Walk()
    walk.into(rich.nodes, Look())
    return walk.found


class _Walk:
    def __init__(self) -> None:
        self.found: Meaning = []
        self._begins = "line"

    def into(self, nodes: Sequence[Node], look: Look) -> None:
        for node in nodes:
            match node:
                case Text(text):
                    self._say(text, look)
                case LineBreak():
                    self._begins = "line"
                case Mention(user, name):
                    shown = " ".join(clean(name).split()) or user
                    self._say(shown, look if look.link else replace(look, link=user))
                case Styled(style, children):
                    self.into(children, replace(look, styles=look.styles | {style}))
                case Colour(front, back, children):
                    front, back = front or look.foreground, back or look.background
                    self.into(children, replace(look, foreground=front, background=back))
                case Link(url, children):
                    inside = look if look.link else replace(look, link=url)
                    is_shown = look.link or not is_blank(children)
                    self.into(children if is_shown else (Text(url),), inside)
                case Code() | Quote() | Items():
                    self._begins = "line"
                    self._block(node, look)
                    self._begins = "line"

    def _block(self, node: Code | Quote | Items, look: Look) -> None:
        match node:
            case Code(text, language):
                self._say(text, look.within("code", language))
            case Quote(children):
                self.into(children, look.within("quote"))
            case Items(items, ordered, start):
                for number, item in enumerate(items, start):
                    self._begins = "line"
                    self.into(item, look.within("item", number if ordered else None))

    def _say(self, text: str, look: Look) -> None:
        for character in clean(text):
            if character == "\n":
                self._begins = "line"
            elif character.isspace():
                self._begins = self._begins or "word"
            else:
                self.found.append((character, look, self._begins))
                self._begins = ""
