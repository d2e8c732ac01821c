"""Matrix HTML read as a tree of ``sdk.rich``.

Read is what the Matrix specification lists as allowed (client-server API v1.17, "m.room.message
msgtypes"); of anything else the text is kept. Nothing that people send raises, and all takes
linear time.
"""

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from bridge.matrix.links import find_address, find_person
from bridge.matrix.tags import Tag, read_tags
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
from bridge.sdk.text import to_plain

_DEEPEST = 100
"""Elements in each other, as the specification advises; those deeper are looked through."""
_DEEPEST_LOOK = 8
"""The same for what changes each line within it: as many as anybody can tell apart. A whole text
takes time in proportion to its lines, times this."""

_HEADINGS = {"h1", "h2", "h3", "h4", "h5", "h6"}
_STYLES = {
    "b": Style.BOLD, "strong": Style.BOLD, "i": Style.ITALIC, "em": Style.ITALIC,
    "u": Style.UNDERLINE, "ins": Style.UNDERLINE, "del": Style.STRIKE, "s": Style.STRIKE,
    "strike": Style.STRIKE, "code": Style.MONO, "tt": Style.MONO,
    **dict.fromkeys(_HEADINGS, Style.BOLD),
}  # fmt: skip
_LISTS = {"ul", "ol"}
_CELLS = {"td", "th"}
_ROWS = {"tr", "thead", "tbody", "tfoot"}
_PARTED = {*_LISTS, "blockquote", "pre"}
"""What becomes a block of its own."""

_LINES = {"p", "div", "table", "caption", "details", "summary", "tr", "li", *_CELLS, *_HEADINGS}
"""What stands in lines of its own."""

_HIDDEN = {"mx-reply", "head", "title", "script", "style"}
_VOID = {"br", "hr", "img", "wbr", "area", "base", "col", "embed", "input", "link", "meta"}
_BEARS_LOOK = {"a", "span", "font", "sup", "sub", *_STYLES}

_REPEATED = {*_LISTS, "blockquote", "font", "span"}
"""What looks different in another of its kind."""

_WALLS = {
    "li": _LISTS,
    **{cell: {"table"} for cell in (*_CELLS, *_ROWS)},
    **{block: set[str]() for block in (*_PARTED, "table")},
}
_ANY_WALL = {*_PARTED, *_CELLS, "table", "li"}
"""What the end of any other element does not reach beyond."""

_ENDS: Mapping[str, tuple[str, ...]] = {
    "li": ("li",),
    "a": ("a",),
    **dict.fromkeys(_CELLS, ("td", "th")),
    **dict.fromkeys(_ROWS, ("tr",)),
    **dict.fromkeys((*_PARTED, *_HEADINGS, "p", "div", "table", "hr"), ("p",)),
}
"""What ends where another element begins, since nobody closes these."""

_CELL_BORDER = " | "
_BLANKS = re.compile(r"[ \t\r\n\f]+")
_COLOUR = re.compile(r"#[0-9a-fA-F]{6}")
_LANGUAGE = re.compile(r"language-([^\s<>\"'&]{1,40})")
_NUMBER = re.compile(r"-?[0-9]{1,6}")
_RAISED = str.maketrans("0123456789+-=()n", "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁼⁽⁾ⁿ")
_LOWERED = str.maketrans("0123456789+-=()", "₀₁₂₃₄₅₆₇₈₉₊₋₌₍₎")
_UNSOUND = re.compile("[\ud800-\udfff]")


def parse_html(text: str) -> Rich:
    """Read Matrix HTML as a tree."""
    return _Reader().read(text)


def clean(text: str) -> str:
    """The text without what JSON, or the homeserver's database, cannot hold."""
    return _UNSOUND.sub("\ufffd", text).replace("\0", "")


class _Open:
    """An element that is not closed yet."""

    __slots__ = (
        "attributes", "before", "cells", "children", "items", "language", "style", "tag",
    )  # fmt: skip

    def __init__(self, tag: str, attributes: Mapping[str, str], style: Style | None) -> None:
        self.tag = tag
        self.attributes = attributes
        self.style = style
        self.children: list[Node] = []
        self.items: list[tuple[Node, ...]] = []
        self.cells = 0
        self.language: str | None = None
        self.before = (True, False)
        """How the line was where a block began."""


class _Reader:
    def __init__(self) -> None:
        self._stack = [_Open("", {}, None)]
        self._styles: Counter[Style | None] = Counter()
        self._skipped: Counter[str] = Counter()
        self._hidden = ""
        self._hidden_depth = 0
        self._pre = 0
        self._fresh = True  # Nothing stands in this line.
        self._due = False  # The line ends before whatever comes next.
        self._between = ""  # What comes before whatever comes next in this line.
        self._spaced = False  # What was written last is a space.

    def read(self, text: str) -> Rich:
        for token in read_tags(text):
            if self._hidden:
                self._count_hidden(token)
            elif isinstance(token, str):
                self._text(clean(token))
            elif token.is_end:
                self._end(token.name)
            else:
                self._start(token)
        while len(self._stack) > 1:
            self._close()
        return Rich(_whole(self._stack[0].children))

    def _count_hidden(self, token: Tag | str) -> None:
        if isinstance(token, Tag) and token.name == self._hidden:
            self._hidden_depth += -1 if token.is_end else 1
            if self._hidden_depth == 0:
                self._hidden = ""

    # --- what stands in a line ---

    def _text(self, text: str) -> None:
        if self._pre:
            top = self._stack[-1]
            if top.tag == "pre" and not top.children:
                text = text.removeprefix("\n")  # As HTML has it, right behind the tag.
            if text:
                self._put(Text(text))
                self._fresh = text.endswith("\n")
            return
        text = _BLANKS.sub(" ", text)
        words = text.strip(" ")
        if text.startswith(" ") and not self._spaced:
            self._between = self._between or " "
        if words:
            self._put(Text(words))
            self._between = " " if text.endswith(" ") else ""

    def _put(self, node: Node) -> None:
        self._flush()
        self._stack[-1].children.append(node)
        self._fresh = self._spaced = False

    def _flush(self) -> None:
        """Write what is due before something that is seen."""
        if self._due:
            self._stack[-1].children.append(LineBreak())
            self._fresh = True
        elif self._between and not self._fresh:
            self._stack[-1].children.append(Text(self._between))
            self._spaced = True
        self._due, self._between = False, ""

    def _break(self) -> None:
        """End the line, if there is one, and if anything follows."""
        if self._between != _CELL_BORDER:
            self._due = self._due or not self._fresh
            self._between = ""

    # --- elements ---

    def _start(self, tag: Tag) -> None:
        name = tag.name
        for ended in _ENDS.get(name, ()):
            self._end(ended, implied=True)
        if name in _HIDDEN:
            self._hidden, self._hidden_depth = name, 1
        elif name in _VOID:
            self._start_void(tag)
        elif self._is_too_deep(name):
            self._skipped[name] += 1
        else:
            self._open(tag)

    def _is_too_deep(self, name: str) -> bool:
        depth = len(self._stack)
        if depth <= _DEEPEST_LOOK or name not in _REPEATED:
            return depth > _DEEPEST
        return sum(one.tag in _REPEATED for one in self._stack) >= _DEEPEST_LOOK

    def _start_void(self, tag: Tag) -> None:
        match tag.name:
            case "br":
                self._between = ""
                self._put(LineBreak())
                self._fresh = True
            case "hr":
                self._break()
                self._put(Text("---"))
                self._break()
            case "img":
                attributes = tag.attributes()
                shown = attributes.get("alt") or attributes.get("title") or ""
                self._text(clean(shown))

    def _open(self, tag: Tag) -> None:
        name, parent = tag.name, self._stack[-1]
        style = _STYLES.get(name)
        if name == "code" and parent.tag == "pre":
            style = None
            found = _LANGUAGE.search(tag.attributes().get("class", ""))
            parent.language = found and found[1]
        element = _Open(name, tag.attributes() if tag.inside else {}, style)
        if name == "span" and "data-mx-spoiler" in element.attributes:
            element.style = Style.SPOILER
        if self._styles[element.style]:
            element.style = None  # It looks so already.
        if name in _PARTED or (name == "li" and parent.tag in _LISTS):
            self._begin_block(element, parent)
        elif name in _CELLS and parent.tag == "tr":
            self._begin_cell(parent)
        elif name in _LINES:
            self._break()
        elif name in _BEARS_LOOK:
            self._flush()
        self._stack.append(element)
        self._styles[element.style] += element.style is not None
        self._pre += name == "pre"

    def _begin_block(self, element: _Open, parent: _Open) -> None:
        element.before = (self._fresh, self._due)
        if element.tag == "li":
            _take_stray(parent)
        self._begin_line()

    def _begin_line(self) -> None:
        self._fresh, self._due, self._between = True, False, ""

    def _begin_cell(self, row: _Open) -> None:
        if row.cells:
            self._due, self._between = False, _CELL_BORDER
        row.cells += 1

    def _end(self, name: str, *, implied: bool = False) -> None:
        if self._skipped[name] and not implied:
            self._skipped[name] -= 1
            return
        walls = _WALLS.get(name, _ANY_WALL)
        for place in range(len(self._stack) - 1, 0, -1):
            tag = self._stack[place].tag
            if tag == name:
                while len(self._stack) > place:
                    self._close()
                return
            if tag in walls:
                return

    def _close(self) -> None:
        element = self._stack.pop()
        parent = self._stack[-1]
        self._styles[element.style] -= element.style is not None
        self._pre -= element.tag == "pre"
        if element.tag == "li" and parent.tag in _LISTS:
            parent.items.append(_whole(element.children))
            self._begin_line()
            return
        if element.tag in _PARTED:
            self._close_block(element, parent)
            return
        parent.children += _nodes(element)
        if element.tag in _ROWS:
            self._between = ""
        if element.tag in _LINES and not (element.tag in _CELLS and parent.tag == "tr"):
            self._break()

    def _close_block(self, element: _Open, parent: _Open) -> None:
        block = _block(element)
        self._begin_line()
        if block is not None:
            parent.children.append(block)
        else:
            self._fresh, self._due = element.before
            self._break()


def _take_stray(element: _Open) -> None:
    """What stands in a list outside its items is an item too; a list goes on with the last one."""
    stray, element.children = _whole(element.children), []
    if element.items and all(isinstance(node, Items) for node in stray):
        element.items[-1] += stray
    elif stray:
        element.items.append(stray)


def _block(element: _Open) -> Node | None:
    """What a closed block becomes, None if there is nothing in it."""
    if element.tag == "pre":
        return Code(_raw(element.children).removesuffix("\n"), element.language)
    if element.tag == "blockquote":
        children = _whole(element.children)
        return Quote(children) if children else None
    _take_stray(element)
    written = element.attributes.get("start", "")
    start = int(written) if _NUMBER.fullmatch(written) else 1
    ordered = element.tag == "ol"
    return Items(tuple(element.items), ordered, start if ordered else 1) if element.items else None


def _nodes(element: _Open) -> Sequence[Node]:
    """What an element within lines becomes."""
    if element.tag == "span" and not element.children:
        formula = clean(element.attributes.get("data-mx-maths", ""))
        element.children += [Text(formula)] if formula else []
    if not element.children:
        return ()
    children = _joined(element.children)
    make: Callable[[_Open, tuple[Node, ...]], Sequence[Node]] = {
        "a": _link, "span": _span, "font": _span, "sup": _shifted, "sub": _shifted,
    }.get(element.tag, _styled)  # fmt: skip
    return make(element, children)


def _styled(element: _Open, children: tuple[Node, ...]) -> Sequence[Node]:
    return children if element.style is None else [Styled(element.style, children)]


def _link(element: _Open, children: tuple[Node, ...]) -> Sequence[Node]:
    address = find_address(element.attributes.get("href", ""))
    if address is None:
        return children
    person = find_person(address)
    if person is None:
        return [Link(address, children)]
    return [Mention(person, " ".join(to_plain(Rich(children)).split()) or person)]


def _span(element: _Open, children: tuple[Node, ...]) -> Sequence[Node]:
    attributes = element.attributes
    front = attributes.get("data-mx-color") or attributes.get("color") or ""
    back = attributes.get("data-mx-bg-color") or ""
    foreground = front.lower() if _COLOUR.fullmatch(front) else None
    background = back.lower() if _COLOUR.fullmatch(back) else None
    if foreground or background:
        children = (Colour(foreground, background, children),)
    if element.style is None:
        return children
    reason = " ".join(clean(attributes.get("data-mx-spoiler", "")).split())
    spoiler = Styled(element.style, children)
    return [Text(f"({reason}) "), spoiler] if reason else [spoiler]


def _shifted(element: _Open, children: tuple[Node, ...]) -> Sequence[Node]:
    """Raised or lowered numbers, where there are characters for them."""
    table = _RAISED if element.tag == "sup" else _LOWERED
    if len(children) == 1 and isinstance(children[0], Text):
        text = children[0].text
        if all(ord(character) in table for character in text):
            return [Text(text.translate(table))]
    return children


def _raw(nodes: Sequence[Node]) -> str:
    parts = []
    for node in nodes:
        match node:
            case Text(text) | Code(text, _):
                parts.append(text)
            case LineBreak():
                parts.append("\n")
            case Mention(_, name):
                parts.append(name)
            case Styled() | Colour() | Link() | Quote():
                parts.append(_raw(node.children))
            case Items(items, _, _):
                parts += [_raw(item) + "\n" for item in items]
    return "".join(parts)


def _whole(nodes: Sequence[Node]) -> tuple[Node, ...]:
    """All that stands in a block, without line breaks at its ends."""
    first, last = 0, len(nodes)
    while first < last and isinstance(nodes[first], LineBreak):
        first += 1
    while last > first and isinstance(nodes[last - 1], LineBreak):
        last -= 1
    return _joined(nodes[first:last])


def _joined(nodes: Sequence[Node]) -> tuple[Node, ...]:
    """With texts side by side made one."""
    made: list[Node] = []
    texts: list[str] = []
    for node in nodes:
        if isinstance(node, Text):
            texts.append(node.text)
            continue
        if texts:
            made.append(Text("".join(texts)))
            texts = []
        made.append(node)
    if texts:
        made.append(Text("".join(texts)))
    return tuple(made)
