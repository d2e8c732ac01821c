"""A shipped example file, read into its entries: each key with its words and its lines."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

KeyPath = tuple[str, ...]

DATA = frozenset({"modules", "permissions", "rooms"})
"""Sections whose content is the admin's alone: what the example shows there is a sample."""

_KEY = re.compile(r"(?P<indent> *)(?P<mark># )?(?P<name>[a-z][a-z0-9_]*):(?P<rest>( .*)?)$")


@dataclass(frozen=True, slots=True)
class Entry:
    """One key of an example."""

    path: KeyPath
    comment: tuple[str, ...]
    """Its words, a line each, without the ``#``."""
    lines: tuple[str, ...]
    """The key with its value, neither indented nor commented out."""

    @property
    def dotted(self) -> str:
        """The path as sentences name it."""
        return ".".join(self.path)


Example = Mapping[KeyPath, Entry]
"""The entries in the file's order."""


def read_example(text: str) -> Example:
    """Read an example file, as ``bridge.manual.examples`` writes it."""
    entries: dict[KeyPath, Entry] = {}
    words: list[str] = []
    section = ""
    lines = text.splitlines()
    at = 0
    while at < len(lines):
        line = lines[at]
        at += 1
        if not line.strip():
            words = []
            continue
        match = _KEY.fullmatch(line)
        if match is None or _is_prose(match):
            words.append(line.strip().removeprefix("#").strip())
            continue
        indent, name = len(match["indent"]), match["name"]
        more = _continuation(lines, at, indent, commented=bool(match["mark"]))
        if not match["mark"] and not match["rest"] and name not in DATA:
            section, more = name, 0
        elif indent == 0:
            section = ""
        value = [_bare(one, indent, bool(match["mark"])) for one in lines[at - 1 : at + more]]
        at += more
        path = (section, name) if indent else (name,)
        entries[path] = Entry(path, tuple(words), tuple(value))
        words = []
    return entries


def same_words(lines: Sequence[str]) -> str:
    """The words of comment lines, wherever they are wrapped."""
    return " ".join(" ".join(line.strip().lstrip("#") for line in lines).split())


def _is_prose(match: "re.Match[str]") -> bool:
    """Whether a comment that looks like a key is words: ``# relay: one connection for all.``"""
    return bool(match["mark"]) and match["rest"].rstrip().endswith((".", ","))


def _continuation(lines: Sequence[str], at: int, indent: int, *, commented: bool) -> int:
    """How many lines belong to the value of the key before them."""
    start = " " * indent + ("#   " if commented else "  ")
    count = 0
    while at + count < len(lines) and lines[at + count].startswith(start):
        count += 1
    return count


def _bare(line: str, indent: int, commented: bool) -> str:
    line = line[indent:]
    return line.removeprefix("# ") if commented else line
