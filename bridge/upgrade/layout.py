"""Where things stand in the admin's file: the lines of each key, of comments, of sections."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ruamel.yaml import YAML
from ruamel.yaml.nodes import CollectionNode, MappingNode, Node, ScalarNode

from bridge.upgrade.example import KeyPath, same_words


@dataclass(frozen=True, slots=True)
class Place:
    """A key in the file. Lines are counted from 0; ``last`` is the last that holds its value."""

    first: int
    last: int
    column: int
    commented: bool = False
    """It stands there as a comment."""
    open: bool = True
    """Keys can be put below it, each on a line of its own."""
    children: int | None = None
    """The column of the keys inside."""


class Layout:
    """One version of the file. Raises ruamel's ``YAMLError`` for what is no YAML."""

    def __init__(self, text: str) -> None:
        # Where both kinds are mixed, a line keeps its own at its end.
        self.newline = "\r\n" if 0 < text.count("\r\n") == text.count("\n") else "\n"
        self.lines = text.split(self.newline)
        self.column = 0
        self.is_open = True
        """The keys of the top stand on lines of their own."""
        self._places: dict[KeyPath, Place] = {}
        root = YAML(pure=True).compose(text)
        if isinstance(root, MappingNode):
            self.is_open = not root.flow_style
            for key, value in root.value:
                self._note((), key, value)
            if root.value:
                self.column = root.value[0][0].start_mark.column

    def find(self, path: KeyPath) -> Place | None:
        """The key's place, be it in use or commented out."""
        place = self._places.get(path)
        if place is not None:
            return place
        for number in self._where_comments_may_be(path):
            if re.match(rf"\s*#\s*{re.escape(path[-1])}:(\s|$)", self.lines[number]):
                return self._commented(number)
        return None

    def find_in_use(self, path: KeyPath) -> Place | None:
        """The key's place, if it has a value there."""
        return self._places.get(path)

    def end_of_block(self, path: KeyPath) -> int:
        """The line behind a key of the top, with the comments that belong to what is in it."""
        place = self.find(path)
        assert place is not None  # noqa: S101 - only asked of what was found
        end = place.last + 1
        if place.commented or not place.open:
            return end
        for number in range(end, self._next_key(place)):
            line = self.lines[number]
            if line.strip().startswith("#") and _indent(line) > self.column:
                end = number + 1
            elif line.strip():
                break
        return end

    def child_column(self, path: KeyPath) -> int:
        """Where keys inside a section begin."""
        place = self._places.get(path)
        if place is not None and place.children is not None:
            return place.children
        others = (one.children for one in self._places.values() if one.children is not None)
        deepest = next(others, self.column + 2)
        return max(deepest, (place.column if place else self.column) + 1)

    def comment_above(self, line: int, words: str) -> tuple[int, int] | None:
        """The comment lines above a line that hold exactly these words: (first, behind)."""
        top = line
        while top > 0 and self.lines[top - 1].lstrip().startswith("#"):
            top -= 1
        for behind in range(line, top, -1):
            for first in range(behind - 1, top - 1, -1):
                found = same_words(self.lines[first:behind])
                if found == words:
                    return first, behind
                if len(found) > len(words):
                    break
        return None

    # --- inside ---

    def _note(self, above: KeyPath, key: Node, value: Node) -> None:
        if not isinstance(key, ScalarNode) or len(above) > 2:
            return
        path = (*above, key.value)
        alias = value.start_mark.index < key.end_mark.index
        empty = isinstance(value, ScalarNode) and value.value == "" and not value.style
        block = isinstance(value, MappingNode) and not value.flow_style and not alias
        last = key.end_mark.line
        if not alias and not empty:
            last = max(last, self._last_line(value))
        self._places[path] = Place(
            key.start_mark.line, last, key.start_mark.column, open=block or (empty and not alias),
            children=value.value[0][0].start_mark.column if block and value.value else None,
        )  # fmt: skip
        if isinstance(value, MappingNode) and not alias:
            for inner_key, inner in value.value:
                self._note(path, inner_key, inner)

    def _last_line(self, node: Node) -> int:
        """The last line that holds something of a value that stands here."""
        end = int(node.end_mark.line)
        if isinstance(node, ScalarNode):
            # What is written below a | or > may look like a comment, and is none.
            return end - 1 if node.style in ("|", ">") else end
        if not isinstance(node, CollectionNode) or node.flow_style:
            return end
        # A block ends where the next thing begins, behind comments that are not its own.
        end = min(end, len(self.lines)) - 1
        while end > node.start_mark.line and self.lines[end].strip()[:1] in ("", "#"):
            end -= 1
        last = node.value[-1] if node.value else None
        inner = last[1] if isinstance(last, tuple) else last
        stands_here = inner is not None and inner.start_mark.index > node.start_mark.index
        return max(end, self._last_line(inner)) if inner is not None and stands_here else end

    def _where_comments_may_be(self, path: KeyPath) -> Iterator[int]:
        """The comment lines in which a key of that path could stand."""
        if len(path) == 1:
            numbers: Sequence[int] = range(len(self.lines))
        else:
            section = self._places.get(path[:1])
            if section is None or not section.open:
                return
            numbers = range(section.first + 1, self._next_key(section))
        for number in numbers:
            line = self.lines[number]
            if line.lstrip().startswith("#") and (len(path) > 1 or _depth(line) <= self.column):
                yield number

    def _next_key(self, place: Place) -> int:
        """The line of the next key of the top, or behind the last."""
        tops = [one.first for path, one in self._places.items() if len(path) == 1]
        return min((first for first in tops if first > place.first), default=len(self.lines))

    def _commented(self, first: int) -> Place:
        depth = _depth(self.lines[first])
        last = first
        while last + 1 < len(self.lines):
            after = self.lines[last + 1]
            if not after.lstrip().startswith("#") or _depth(after) <= depth:
                break
            last += 1
        return Place(first, last, _indent(self.lines[first]), commented=True)


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def _depth(line: str) -> int:
    """How far the text behind the comment's mark is indented, as if the mark were not there."""
    text = line.lstrip()[1:]
    inner = len(text) - len(text.lstrip())
    return _indent(line) + max(0, inner - 1)
