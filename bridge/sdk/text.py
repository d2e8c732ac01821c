"""What is done with formatted text: said plainly, cut into lines, split to fit."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from bridge.sdk.graphemes import graphemes
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
    Styled,
    Text,
)

Fits = Callable[[Rich], bool]


def to_plain(rich: Rich) -> str:
    """Say it without markup: links with their address, quotes behind ``>``, lists with marks."""
    return "\n".join("".join(_plain(node) for node in line.nodes) for line in lines(rich))


def _plain(node: Node) -> str:
    match node:
        case Text(text) | Code(text, _):
            return text
        case LineBreak():
            return "\n"
        case Mention(_, name):
            return name
        case Link(url, children):
            shown = "".join(map(_plain, children))
            return shown if url in {shown, f"mailto:{shown}"} else f"{shown} ({url})"
        case Styled() | Colour() | Quote():
            return "".join(map(_plain, node.children))
        case Items(items, _, _):
            return "\n".join("".join(map(_plain, item)) for item in items)


def lines(rich: Rich) -> list[Rich]:
    """Cut into lines, each with its styles; items of lists, quotes and code are lines too."""
    return [Rich(tuple(line)) for line in _lines(rich.nodes)]


def _lines(nodes: Sequence[Node]) -> list[list[Node]]:
    made: list[list[Node]] = [[]]
    fresh = True
    for node in nodes:
        block = _block_lines(node)
        if block is not None:
            if not fresh and made[-1]:
                made.append([])
            made[-1:] = block
            made.append([])
            fresh = True
            continue
        pieces = _inline_lines(node)
        if fresh and isinstance(node, LineBreak) and len(made) > 1:
            fresh = False  # The block before has ended the line already.
            continue
        made[-1].extend(pieces[0])
        for piece in pieces[1:]:
            made.append(list(piece))
        fresh = False
    if fresh and len(made) > 1:
        made.pop()
    return made


def _block_lines(node: Node) -> list[list[Node]] | None:
    """The lines of a block, None for what stands within a line."""
    if isinstance(node, Code):
        return [[Code(line, node.language)] for line in node.text.split("\n")]
    if isinstance(node, Quote):
        return [[Text("> "), *line] for line in _lines(node.children)]
    if isinstance(node, Items):
        made: list[list[Node]] = []
        for number, item in enumerate(node.items, node.start):
            mark = f"{number}. " if node.ordered else "• "
            for place, line in enumerate(_lines(item)):
                made.append([Text(mark if place == 0 else " " * len(mark)), *line])
        return made or [[]]
    return None


def _inline_lines(node: Node) -> list[list[Node]]:
    if isinstance(node, LineBreak):
        return [[], []]
    if isinstance(node, Text):
        return [[Text(part)] if part else [] for part in node.text.split("\n")]
    if isinstance(node, Styled | Colour | Link):
        return [
            [replace(node, children=tuple(line))] if line else [] for line in _lines(node.children)
        ]
    return [[node]]


def split(rich: Rich, fits: Fits) -> list[Rich]:
    """Split into pieces that each fit, at a space where there is one, with styles opened again.

    No grapheme is cut and no text is lost but the space at a cut. A grapheme that does not fit
    by itself stands alone. Measures O(pieces · log length) times.
    """
    if fits(rich):
        return [rich]
    atoms = list(_atoms(rich.nodes, ()))
    pieces: list[Rich] = []
    start = 0
    while start < len(atoms):
        end = _longest(atoms, start, fits)
        if end < len(atoms):
            end = _at_a_border(atoms, start, end)
        pieces.append(_build(atoms[start:end]))
        start = end
        if start < len(atoms) and _is_space(atoms[start]):
            start += 1
    return pieces


Atom = tuple[tuple[Node, ...], Node]
"""One grapheme (or unbreakable node) with the containers around it, outermost first."""


def _atoms(nodes: Sequence[Node], around: tuple[Node, ...]) -> Iterator[Atom]:
    for node in nodes:
        if isinstance(node, Text):
            for one in graphemes(node.text):
                yield around, Text(one)
        elif isinstance(node, Code):
            for one in graphemes(node.text):
                yield (*around, replace(node, text="")), Text(one)
        elif isinstance(node, Styled | Colour | Link | Quote):
            yield from _atoms(node.children, (*around, node))
        elif isinstance(node, Items):
            for line in _lines([node]):
                yield from _atoms(line, around)
                yield around, LineBreak()
        else:
            yield around, node


def _longest(atoms: Sequence[Atom], start: int, fits: Fits) -> int:
    """The end of the longest run from ``start`` that fits; at least one atom."""
    step = 1
    while start + step < len(atoms) and fits(_build(atoms[start : start + step])):
        step *= 2
    low, high = start + 1, min(start + step, len(atoms))
    while low < high:
        middle = (low + high + 1) // 2
        if fits(_build(atoms[start:middle])):
            low = middle
        else:
            high = middle - 1
    return low


def _at_a_border(atoms: Sequence[Atom], start: int, end: int) -> int:
    """Back to the last space or line break of the run, if that is not too far."""
    if _is_space(atoms[end]):
        return end
    for position in range(end - 1, start + (end - start) // 4, -1):
        if _is_space(atoms[position]):
            return position
    return end


def _is_space(atom: Atom) -> bool:
    node = atom[1]
    return isinstance(node, LineBreak) or (isinstance(node, Text) and node.text in {" ", "\n"})


def _build(atoms: Sequence[Atom]) -> Rich:
    return Rich(_gather(atoms, 0))


def _gather(atoms: Sequence[Atom], depth: int) -> tuple[Node, ...]:
    """Put atoms back into their containers, those side by side in the same one together."""
    made: list[Node] = []
    at = 0
    while at < len(atoms):
        around, node = atoms[at]
        end = at + 1
        if len(around) > depth:
            container = around[depth]
            while end < len(atoms) and _is_in(atoms[end], depth, container):
                end += 1
            made.append(_fill(container, atoms[at:end], depth))
        elif isinstance(node, Text):
            while end < len(atoms) and len(atoms[end][0]) == depth and isinstance(
                atoms[end][1], Text
            ):  # fmt: skip
                end += 1
            made.append(
                Text("".join(one.text for _, one in atoms[at:end] if isinstance(one, Text)))
            )
        else:
            made.append(node)
        at = end
    return tuple(made)


def _is_in(atom: Atom, depth: int, container: Node) -> bool:
    return len(atom[0]) > depth and atom[0][depth] is container


def _fill(container: Node, atoms: Sequence[Atom], depth: int) -> Node:
    if isinstance(container, Code):
        text = "".join(one.text for _, one in atoms if isinstance(one, Text))
        return replace(container, text=text)
    assert isinstance(container, Styled | Colour | Link | Quote)  # noqa: S101 - all containers
    return replace(container, children=_gather(atoms, depth + 1))
