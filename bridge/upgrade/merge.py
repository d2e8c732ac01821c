"""The merge: old example, new example, the admin's file."""

import re
import textwrap
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from bridge.sdk.errors import ConfigError
from bridge.upgrade.example import Entry, Example, KeyPath, read_example, same_words
from bridge.upgrade.layout import Layout, Place
from bridge.upgrade.moves import Move
from bridge.upgrade.versions import name_version

_WIDTH = 96


@dataclass(slots=True)
class Merged:
    """What came of it."""

    text: str
    notes: list[str] = field(default_factory=list)
    """What changed and what is left to the admin, a sentence each."""


class _Edits:
    """Changes to the lines of one layout, made together."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._replaced: list[tuple[int, int, list[str]]] = []

    def put(self, at: int, lines: Sequence[str]) -> None:
        """Insert the lines before line ``at``, behind what was inserted there already."""
        self._replaced.append((at, at, list(lines)))

    def replace(self, first: int, behind: int, lines: Sequence[str]) -> None:
        """Have these lines instead of those."""
        self._replaced.append((first, behind, list(lines)))

    def text(self) -> str:
        """The file with all changes made."""
        lines: list[str] = []
        at = 0
        # What is put before a line comes before what replaces it.
        for first, behind, new in sorted(self._replaced, key=lambda one: one[:2]):
            lines += self._layout.lines[at:first]
            # Two that were put in one behind the other need one empty line between them.
            doubled = bool(new) and not new[0] and bool(lines) and not lines[-1].strip()
            lines += new[1:] if doubled else new
            at = max(at, behind)
        lines += self._layout.lines[at:]
        return self._layout.newline.join(lines)


def merge(user: str, old: str, new: str, *, version: str, moves: Sequence[Move] = ()) -> Merged:
    """Bring what ``new`` has and ``old`` had not into the ``user``'s text.

    Comments, order, style, anchors and values of the user stay; a shipped comment that the user
    left as it was becomes the new one. A new key comes as a comment with its default, so that
    nothing behaves differently. Raises ``ConfigError`` where that cannot be done by lines.
    """
    mark = user[:1] if user.startswith("\ufeff") else ""
    user = user.removeprefix(mark)
    if not user.endswith("\n"):
        user += "\r\n" if "\r\n" in user else "\n"
    if re.search(r"\r(?!\n)", user):
        raise _beyond_us()  # It ends a line for YAML, and not for us.
    merged = Merged(user)
    before, after = read_example(old), read_example(new)
    try:
        wanted = _load(user)
        for move in moves:
            if move.old in before and move.old not in after:
                _move(merged, _of_file(move), wanted)
                if _move(merged, move, wanted):
                    before = {_moved(path, move): entry for path, entry in before.items()}
        merged.text = _Merge(merged, before, after, version, wanted).run()
        merged.text = name_version(merged.text, version)
        fine = _meaning(_load(merged.text)) == _meaning(wanted)
    except YAMLError as error:
        raise _beyond_us() from error
    if not fine:
        raise _beyond_us()
    merged.text = mark + merged.text
    return merged


def _beyond_us() -> ConfigError:
    return ConfigError(
        "the file is written in a way that a change by lines would break, so it is left as it "
        "is; compare it with the example of this version by hand"
    )


class _Merge:
    """One merge of entries that have the same paths before and after."""

    def __init__(
        self, merged: Merged, old: Example, new: Example, version: str, wanted: dict[str, Any]
    ) -> None:
        self._notes = merged.notes
        self._old, self._new = old, new
        self._version = version
        self._wanted = wanted
        self._layout = Layout(merged.text)
        self._edits = _Edits(self._layout)

    def run(self) -> str:
        """Give the new text."""
        for path, entry in self._old.items():
            if path not in self._new and (len(path) == 1 or path[:1] in self._new):
                self._drop(entry)
        added = [entry for path, entry in self._new.items() if path not in self._old]
        sections = {entry.path for entry in added if len(entry.path) == 1}
        for path, entry in self._new.items():
            if path in self._old:
                self._renew(self._old[path], entry)
            elif path[:1] not in sections or len(path) == 1:
                inside = [one for one in added if one.path[:-1] == path]
                self._add(entry, inside)
        return self._edits.text()

    # --- keys that stay ---

    def _renew(self, old: Entry, new: Entry) -> None:
        """Have the new words and the new default where the old ones stand unchanged."""
        place = self._layout.find(new.path)
        if place is None:
            return
        if old.comment != new.comment:
            self._renew_comment(place, old, new)
        if place.commented and old.lines != new.lines and self._shows(place, old):
            space = self._layout.lines[place.first][: place.column]
            self._edits.replace(place.first, place.last + 1, _as_comment(new.lines, space))
            self._notes.append(f"{new.dotted} has another default: {new.lines[0]}")

    def _renew_comment(self, place: Place, old: Entry, new: Entry) -> None:
        if not old.comment:
            found: tuple[int, int] | None = (place.first, place.first)
        else:
            found = self._layout.comment_above(place.first, same_words(old.comment))
        if found is not None:
            space = self._layout.lines[place.first][: place.column]
            self._edits.replace(*found, _words(new.comment, space))
            self._notes.append(f"{new.dotted} has new words")

    def _shows(self, place: Place, entry: Entry) -> bool:
        there = self._layout.lines[place.first : place.last + 1]
        return same_words(there) == same_words(entry.lines)

    # --- keys that are gone ---

    def _drop(self, entry: Entry) -> None:
        place = self._layout.find(entry.path)
        if place is None:
            return
        if place.commented:
            if self._shows(place, entry):
                above = self._layout.comment_above(place.first, same_words(entry.comment))
                first = above[0] if above and above[1] == place.first else place.first
                self._edits.replace(first, place.last + 1, [])
                self._notes.append(f"{entry.dotted} is no longer there")
            return
        if self._in_a_line(entry.path):
            self._notes.append(
                f"{entry.dotted} is not known any more and shares a line with others: take it out"
            )
            return
        space = " " * place.column
        lines = self._layout.lines[place.first : place.last + 1]
        note = f"{space}# Trestle {self._version} does not know this any more:"
        self._edits.replace(
            place.first, place.last + 1,
            [note, *(f"{space}# {line[place.column:]}".rstrip() for line in lines)],
        )  # fmt: skip
        _take_out(self._wanted, entry.path)
        self._notes.append(f"{entry.dotted} is not known any more; it is a comment now")

    def _in_a_line(self, path: KeyPath) -> bool:
        if len(path) == 1:
            return not self._layout.is_open
        section = self._layout.find_in_use(path[:1])
        return section is None or not section.open

    # --- keys that are new ---

    def _add(self, entry: Entry, inside: Sequence[Entry]) -> None:
        if self._layout.find(entry.path) is not None:
            for one in inside:
                self._add(one, ())
            return
        if len(entry.path) == 1:
            self._add_at_the_top(entry, inside)
            return
        section = self._layout.find_in_use(entry.path[:1])
        if section is None or not section.open:
            why = "is not in your file" if section is None else "stands in one line"
            self._notes.append(
                f"{entry.dotted} is new, and not put in, since {entry.path[0]} {why}: "
                f"{' '.join(entry.comment)} ({entry.lines[0]})"
            )
            return
        column = self._layout.child_column(entry.path[:1])
        before = self._before(entry.path)
        at = section.first + 1 if before is None else before.last + 1
        self._edits.put(at, _entry_lines(entry, " " * column))
        self._notes.append(f"{entry.dotted} is new")

    def _add_at_the_top(self, entry: Entry, inside: Sequence[Entry]) -> None:
        name = entry.path[0]
        if not self._layout.is_open:
            self._notes.append(f"{name} is new, and not put in: {' '.join(entry.comment)}")
            return
        space = " " * self._layout.column
        lines = [*_words(entry.comment, space)]
        if inside:
            lines.append(f"{space}{name}:")
            column = " " * self._layout.child_column(entry.path)
            for one in inside:
                lines += _entry_lines(one, column)
        else:
            lines += _as_comment(entry.lines, space)
        at = self._place_at_the_top(entry.path)
        rows = self._layout.lines
        head = [""] if at > 0 and rows[at - 1].strip() else []
        tail = [""] if at < len(rows) and rows[at].strip() else []
        self._edits.put(at, [*head, *lines, *tail])
        self._notes.append(f"{name} is new")

    def _place_at_the_top(self, path: KeyPath) -> int:
        names: list[KeyPath] = [one for one in self._new if len(one) == 1]
        for name in reversed(names[: names.index(path)]):
            if self._layout.find(name) is not None:
                return self._layout.end_of_block(name)
        return 0

    def _before(self, path: KeyPath) -> Place | None:
        """The nearest key before it in the new example that the file has."""
        names = [one for one in self._new if one[:-1] == path[:-1]]
        for name in reversed(names[: names.index(path)]):
            place = self._layout.find(name)
            if place is not None:
                return place
        return None


def _move(merged: Merged, move: Move, wanted: dict[str, Any]) -> bool:
    """Have the key under its new name or in its new section. False if the file lacks it."""
    layout = Layout(merged.text)
    edits = _Edits(layout)
    source, target = _dotted(move.old), _dotted(move.new)
    place = layout.find_in_use(move.old)
    if place is None:
        return False
    if layout.find_in_use(move.new) is not None:
        merged.notes.append(f"{source} is {target} now, which your file has: the old one goes")
        return False
    line = layout.lines[place.first]
    renamed = move.new[-1] + line[place.column + len(move.old[-1]) :]
    if line[place.column : place.column + len(move.old[-1])] != move.old[-1]:
        raise _beyond_us()  # The key is written in quotes, say.
    if move.old[:-1] == move.new[:-1]:
        edits.replace(place.first, place.first + 1, [line[: place.column] + renamed])
    else:
        _carry(layout, edits, place, move, renamed)
    _put_in(wanted, move.new, _take_out(wanted, move.old))
    merged.notes.append(f"{source} is {target} now")
    merged.text = edits.text()
    return True


def _carry(layout: Layout, edits: _Edits, place: Place, move: Move, renamed: str) -> None:
    """Move the key's lines, and the comment above them, into another section."""
    first = place.first
    while first > 0 and layout.lines[first - 1].lstrip().startswith("#"):
        first -= 1
    words = layout.lines[first : place.first]
    section = layout.find_in_use(move.new[:1])
    if section is not None and not section.open:
        raise _beyond_us()
    column = layout.child_column(move.new[:1])
    shift = column - place.column
    lines = [" " * column + line.strip() for line in words]
    lines.append(" " * column + renamed)
    for line in layout.lines[place.first + 1 : place.last + 1]:
        lines.append(" " * max(0, len(line) - len(line.lstrip()) + shift) + line.lstrip())
    edits.replace(first, place.last + 1, [])
    if section is None:
        head = " " * layout.column + move.new[0] + ":"
        edits.put(layout.end_of_block(move.old[:1]), ["", head, *lines])
    else:
        edits.put(section.first + 1, lines)


def _of_file(move: Move) -> Move:
    """The same for the key that gives a secret by a file."""
    old, new = (f"{path[-1]}_file" for path in move)
    return Move((*move.old[:-1], old), (*move.new[:-1], new))


def _moved(path: KeyPath, move: Move) -> KeyPath:
    return move.new if path == move.old else path


def _dotted(path: KeyPath) -> str:
    return ".".join(path)


def _entry_lines(entry: Entry, space: str) -> list[str]:
    return [*_words(entry.comment, space), *_as_comment(entry.lines, space)]


def _words(comment: Sequence[str], space: str) -> list[str]:
    text = " ".join(comment)
    return [f"{space}# {line}" for line in textwrap.wrap(text, _WIDTH - len(space) - 2)]


def _as_comment(lines: Sequence[str], space: str) -> list[str]:
    return [f"{space}# {line}" for line in lines]


def _load(text: str) -> dict[str, Any]:
    document = YAML(typ="safe", pure=True).load(text)
    if document is None:
        return {}
    if not isinstance(document, dict):
        raise ConfigError("the settings must be keys and values, `homeserver:` for one")
    return deepcopy(document)  # What anchors made one thing may change apart.


def _meaning(document: Mapping[str, Any]) -> dict[str, Any]:
    """What the program reads in it: a section without a key is as good as none."""
    return {name: value for name, value in document.items() if value not in (None, {})}


def _take_out(document: dict[str, Any], path: KeyPath) -> Any:
    for step in path[:-1]:
        document = document[step]
    return document.pop(path[-1])


def _put_in(document: dict[str, Any], path: KeyPath, value: Any) -> None:
    for step in path[:-1]:
        if document.get(step) is None:
            document[step] = {}
        document = document[step]
    document[path[-1]] = value
