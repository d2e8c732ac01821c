"""Formatted text split into pieces that fit, for networks (and homeservers) with a limit."""

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import groupby, pairwise

from bridge.sdk.graphemes import graphemes
from bridge.sdk.rich import (
    Code,
    Colour,
    Container,
    Items,
    LineBreak,
    Link,
    Node,
    Quote,
    Rich,
    Styled,
    Text,
    refill,
)

Fits = Callable[[Rich], bool]

_SPACES = frozenset(" \t\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2008\u200b\u205f\u3000")
_WHOLE = "\0"
"""Stands in the flat text for a node that is not cut. A control character joins no other."""


def split(rich: Rich, fits: Fits) -> list[Rich]:
    """Split into pieces that each fit, best at the end of a line, else of a word.

    Joined, the pieces are the whole: a space or line break at a cut ends the piece before it.
    Styles that a cut interrupts are opened again in the next piece; of a list's item, the rest
    stands without its mark. No grapheme is cut, nor a mention, nor a link that fits by itself (one
    whose address alone is too long becomes text). A grapheme that does not fit by itself stands
    alone. No piece is empty, unless the whole is.

    ``fits`` must hold for the beginning of what it holds for. It is asked some ten times a
    piece, about texts not much longer than the piece.
    """
    if fits(rich):
        return [rich]
    flat = _Flat(rich, fits)
    pieces: list[Rich] = []
    start, guess = 0, 64
    while start < flat.length:
        end = _longest(partial(flat.fits, start), start + 1, start + guess, flat.length)
        guess = end - start
        if end < flat.length:
            end = _at_a_border(flat, start, end)
        pieces.append(flat.piece(start, end))
        start = end
    return pieces or [rich]


class _Frame:
    """One visit of a container, told from another visit of an equal one by identity."""

    __slots__ = ("begin", "node", "number")

    def __init__(self, node: Node, begin: int, number: int | None = None) -> None:
        self.node = node
        self.begin = begin
        """Where it begins in the flat text."""
        self.number = number
        """Which item of the list ``node`` it is; None for a container itself."""


_Path = tuple[_Frame, ...]
_Part = tuple[_Path, Node | None]


class _Flat:
    """A tree as one row of graphemes, and for each stretch of it the containers around it."""

    def __init__(self, rich: Rich, fits: Fits) -> None:
        self._fits = fits
        self._begins: list[int] = []
        self._leaves: list[_Part] = []
        self._texts: list[str] = []
        self._size = 0
        self._borders: set[int] = set()
        """Where a block begins or ends in the text."""
        self._add_all(rich.nodes, ())
        self._text = "".join(self._texts)
        self._cuts = [0]
        """Where a grapheme begins or ends in the text."""
        edges = sorted({0, self._size, *self._borders})
        for begin, end in pairwise(edges):
            for one in graphemes(self._text[begin:end]):
                self._cuts.append(self._cuts[-1] + len(one))
        self.length = len(self._cuts) - 1
        """How many graphemes there are."""

    def fits(self, start: int, end: int) -> bool:
        """Whether the graphemes from ``start`` to ``end`` would fit."""
        return self._fits(self.piece(start, end))

    def piece(self, start: int, end: int) -> Rich:
        """Build the tree of the graphemes from ``start`` to ``end``."""
        begin = self._cuts[start]
        return Rich(tuple(_gather(list(self._parts(begin, self._cuts[end])), 0, begin)))

    def ends_line(self, place: int) -> bool:
        """Whether a line or a block ends before the grapheme, or a block begins with it."""
        cut = self._cuts[place]
        return self._text[cut - 1] == "\n" or cut in self._borders

    def ends_word(self, place: int) -> bool:
        """Whether a line ends there, or white space stands before the grapheme."""
        return self._text[self._cuts[place] - 1] in _SPACES or self.ends_line(place)

    def is_blank(self, start: int, end: int) -> bool:
        """Whether there is nothing to see from ``start`` to ``end``."""
        return self._text[self._cuts[start] : self._cuts[end]].isspace()

    def _parts(self, begin: int, end: int) -> Iterator[_Part]:
        for number in range(bisect_right(self._begins, begin) - 1, len(self._leaves)):
            first = self._begins[number]
            if first >= end:
                return
            path, node = self._leaves[number]
            if isinstance(node, Text):
                node = Text(node.text[max(begin - first, 0) : end - first])
            yield path, node

    def _add(self, path: _Path, node: Node | None) -> None:
        match node:
            case Text(text):
                flat = text
            case LineBreak():
                flat = "\n"
            case _:
                flat = _WHOLE
        if flat:
            self._begins.append(self._size)
            self._leaves.append((path, node))
            self._texts.append(flat)
            self._size += len(flat)

    def _add_all(self, nodes: Sequence[Node], path: _Path) -> None:
        for node in nodes:
            match node:
                case Items():
                    self._add_items(node, path)
                case Link():
                    self._add_link(node, path)
                case Code(text, _):
                    self._add_inside(node, (Text(text),), path)
                case Styled() | Colour() | Quote():
                    self._add_inside(node, node.children, path)
                case _:
                    self._add(path, node)

    def _add_inside(self, node: Container | Code, children: Sequence[Node], path: _Path) -> None:
        begin = self._size
        if isinstance(node, Code | Quote):
            self._borders.add(begin)
        self._add_all(children, (*path, _Frame(node, begin)))
        if self._size == begin:
            self._add(path, node if isinstance(node, Code) else refill(node, ()))
        if isinstance(node, Code | Quote):
            self._borders.add(self._size)

    def _add_items(self, node: Items, path: _Path) -> None:
        around = (*path, _Frame(node, self._size))
        for number, item in enumerate(node.items):
            begin = self._size
            self._borders.add(begin)
            inside = (*around, _Frame(node, begin, number))
            self._add_all(item, inside)
            if self._size == begin:
                self._add(inside, None)
        self._borders.add(self._size)

    def _add_link(self, node: Link, path: _Path) -> None:
        if any(isinstance(frame.node, Link) for frame in path):
            self._add_inside(node, node.children, path)
        elif self._fits(_alone(path, node)):
            self._add(path, node)
        elif self._fits(_alone(path, Link(node.url, (Text("…"),)))):
            self._add_inside(node, node.children, path)
        else:
            begin = len(self._texts)
            self._add_all(node.children, path)
            shown = "".join(self._texts[begin:])
            if node.url not in {shown, f"mailto:{shown}"}:
                self._add(path, Text(f" ({node.url})" if shown else node.url))


def _alone(path: _Path, node: Node) -> Rich:
    return Rich(tuple(_gather([(path, node)], 0, 0)))


def _longest(fits: Callable[[int], bool], low: int, guess: int, high: int) -> int:
    """The last place up to ``high`` that fits, or ``low``, which is taken unasked.

    From the guess the step doubles, up or down, until the end lies between two places: so no
    text much longer than what fits is ever built. What is long may end a hundredth too early.
    """
    start = low
    place = max(low, min(guess, high))
    step = max((place - low) // 8, 1)
    if place == low or fits(place):
        low = place
        while low < high:
            place = min(low + step, high)
            if not fits(place):
                high = place - 1
                break
            low, step = place, step * 2
    else:
        high = place - 1
        while low < high:
            place = max(high + 1 - step, low + 1)
            if fits(place):
                low = place
                break
            high, step = place - 1, step * 2
    while high - low > (low - start) // 100:
        middle = (low + high + 1) // 2
        if fits(middle):
            low = middle
        else:
            high = middle - 1
    return low


def _at_a_border(flat: _Flat, start: int, end: int) -> int:
    """Back to the end of a line in the second half, else of a word after the first quarter."""
    quarter, half = start + (end - start) // 4, start + (end - start) // 2
    found = next((place for place in range(end, half, -1) if flat.ends_line(place)), None)
    if found is None:
        found = next((place for place in range(end, quarter, -1) if flat.ends_word(place)), end)
    return found if not flat.is_blank(start, found) and flat.fits(start, found) else end


def _gather(parts: Sequence[_Part], depth: int, begin: int) -> Iterator[Node]:
    """Put leaves back into their containers, from ``depth`` inwards."""
    groups = [
        (frame, list(group))
        for frame, group in groupby(parts, lambda part: _frame(part[0], depth))
    ]
    for place, (frame, group) in enumerate(groups):
        if frame is None:
            yield from (node for _, node in group if node is not None)
        elif isinstance(frame.node, Items):
            after = groups[place + 1] if place + 1 < len(groups) else None
            ends_line = after is None or isinstance(after[1][0][1], LineBreak)
            yield from _gather_items(frame.node, group, depth + 1, begin, ends_line=ends_line)
        elif isinstance(frame.node, Code):
            text = "".join(node.text for _, node in group if isinstance(node, Text))
            yield replace(frame.node, text=text)
        elif isinstance(frame.node, Styled | Colour | Link | Quote):
            yield refill(frame.node, tuple(_gather(group, depth + 1, begin)))


def _gather_items(
    node: Items, parts: Sequence[_Part], depth: int, begin: int, *, ends_line: bool
) -> Iterator[Node]:
    """Rebuild a list. An item that began in the piece before goes on without its mark."""
    items: list[tuple[Node, ...]] = []
    first = 0
    for frame, group in groupby(parts, lambda part: part[0][depth]):
        children = tuple(_gather(list(group), depth + 1, begin))
        if frame.begin < begin:
            yield from children
        else:
            first = first if items else frame.number or 0
            items.append(children)
    if items:
        yield replace(node, items=tuple(items), start=node.start + first)
    elif not ends_line:
        yield LineBreak()


def _frame(path: _Path, depth: int) -> _Frame | None:
    return path[depth] if len(path) > depth else None
