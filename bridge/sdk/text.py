"""What is done with formatted text: said plainly, cut into lines."""

from collections.abc import Sequence

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
    is_bare,
    refill,
)

_TURNS = dict.fromkeys([0x61C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A)])


def without_turns(text: str) -> str:
    """A name without the signs that turn the direction of what follows it on the line."""
    return text if text.isascii() else text.translate(_TURNS)


def to_plain(rich: Rich) -> str:
    """Say it without markup: links with their address, quotes behind ``>``, lists with marks."""
    match rich.nodes:
        case (Text(text),):
            return text  # As nearly all that people say is.
        case nodes if is_bare(nodes):
            return "".join(map(_plain, nodes))
    return "\n".join("".join(map(_plain, line)) for line in _lines(rich.nodes))


def is_blank(nodes: Sequence[Node]) -> bool:
    """Whether there is nothing to see in them."""
    for node in nodes:
        match node:
            case Text(text) | Code(text, _):
                if text.replace("\0", "").strip():  # Neither side can hold a NUL.
                    return False
            case Mention():
                return False
            case Styled() | Colour() | Link() | Quote():
                if not is_blank(node.children):
                    return False
            case Items(items, _, _):
                if not all(map(is_blank, items)):
                    return False
    return True


def _plain(node: Node) -> str:
    match node:
        case Text(text) | Code(text, _):
            return text
        case LineBreak():
            return "\n"
        case Mention(_, name):
            return name
        case Link(url, children):
            if is_blank(children):
                return url
            shown = "".join(map(_plain, children))
            return shown if url in {shown, f"mailto:{shown}"} else f"{shown} ({url})"
        case Styled() | Colour() | Quote():
            return "".join(map(_plain, node.children))
        case Items(items, _, _):
            return "\n".join("".join(map(_plain, item)) for item in items)


def lines(rich: Rich) -> list[Rich]:
    """Cut into lines, each with its styles; items of lists, quotes and code are lines too."""
    match rich.nodes:
        case (Text(text),) if text and "\n" not in text:
            return [rich]  # As nearly all that people say is.
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
        return [_marked("> ", line) for line in _lines(node.children)]
    if isinstance(node, Items):
        made: list[list[Node]] = []
        for number, item in enumerate(node.items, node.start):
            mark = f"{number}. " if node.ordered else "• "
            for place, line in enumerate(_lines(item)):
                made.append(_marked(mark if place == 0 else " " * len(mark), line))
        return made or [[]]
    return None


def _marked(mark: str, line: list[Node]) -> list[Node]:
    if line and isinstance(line[0], Text):
        return [Text(mark + line[0].text), *line[1:]]
    return [Text(mark), *line]


def _inline_lines(node: Node) -> list[list[Node]]:
    if isinstance(node, LineBreak):
        return [[], []]
    if isinstance(node, Text):
        return [[Text(part)] if part else [] for part in node.text.split("\n")]
    if isinstance(node, Styled | Colour | Link):
        inside = _lines(node.children)
        if isinstance(node, Link):
            inside = [[] if is_blank(line) else line for line in inside]
            if not any(inside):
                inside[0] = [Text("")]  # Nothing is shown for it, so its address is.
        return [[refill(node, tuple(line))] if line else [] for line in inside]
    return [[node]]
