"""In plain text, what a network has no other means for: edits, reactions, answers, redactions."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice

from bridge.sdk.graphemes import graphemes
from bridge.sdk.rich import (
    Colour,
    Items,
    Link,
    Node,
    Quote,
    Rich,
    Style,
    Styled,
    Text,
    is_bare,
    refill,
)
from bridge.sdk.text import to_plain

_EXCERPT = 40
"""Graphemes of a message that are quoted."""
_SMALL = 60
"""Characters of the old and the new words, at most, for a change that is said by itself."""
_LONGEST = 2000
"""Characters of a line that is compared word by word."""
_WORD = re.compile(r"\s+|[^\s]+")
_HIDDEN = Text("[spoiler]")


def open_text(rich: Rich) -> str:
    """Say in plain text what everybody is to see at once: spoilers, which it cannot hide, are
    left out."""
    return to_plain(rich if is_bare(rich.nodes) else Rich(_without_spoilers(rich.nodes)))


def _without_spoilers(nodes: Sequence[Node]) -> tuple[Node, ...]:
    made: list[Node] = []
    for node in nodes:
        match node:
            case Styled(Style.SPOILER, _):
                made.append(_HIDDEN)
            case Styled() | Colour() | Link() | Quote():
                made.append(refill(node, _without_spoilers(node.children)))
            case Items(items, _, _):
                made.append(replace(node, items=tuple(map(_without_spoilers, items))))
            case _:
                made.append(node)
    return tuple(made)


def excerpt(text: str, most: int = _EXCERPT) -> str:
    """The beginning of a text, on one line; ``most``: graphemes."""
    line = " ".join(text.split())
    short = "".join(islice(graphemes(line), most))
    return short if short == line else f"{short.rstrip()}…"


def difference(old: str, new: str) -> str:
    """Say what was changed: ``s/old/new/`` for a few words, ``* ...`` for the lines that differ.

    Empty if nothing was. ``old`` may be empty, when it is not known any more.
    """
    if old.split() == new.split():
        return ""
    before, after = old.split("\n"), new.split("\n")
    if old and len(before) == len(after):
        changed = [pair for pair in zip(before, after, strict=True) if pair[0] != pair[1]]
        said = [_of_line(*pair) for pair in changed]
        return "\n".join(said)
    return "\n".join(f"* {line}" for line in _from_first_change(before, after) if line.strip())


def _from_first_change(before: list[str], after: list[str]) -> list[str]:
    """The lines that are new or others; all of them if that would leave none to show."""
    start, end = _alike(before, after)
    return after[start : len(after) - end] or after


def _alike(before: list[str], after: list[str]) -> tuple[int, int]:
    """How many of both are the same at the start, and how many of the rest at the end."""
    most, start, end = min(len(before), len(after)), 0, 0
    while start < most and before[start] == after[start]:
        start += 1
    while start + end < most and before[-1 - end] == after[-1 - end]:
        end += 1
    return start, end


def _of_line(old: str, new: str) -> str:
    words = _changed_words(old, new) if len(old) <= _LONGEST else None
    if words is None:
        return f"* {new}"
    gone, come = words
    return f"s/{gone}/{come}/"


def _changed_words(old: str, new: str) -> tuple[str, str] | None:
    """The words that were changed for which; None if it is clearer to say the line again."""
    before, after = list(_words(old)), list(_words(new))
    start, end = _alike(before, after)
    # Where words were put in or taken out, their neighbour says where. So it does for one that
    # stands there twice.
    while start > 0 and (
        not "".join(before[start : len(before) - end]).strip()
        or not "".join(after[start : len(after) - end]).strip()
        or _count(old, "".join(before[start : len(before) - end])) > 1
    ):
        start -= 1
        if sum(map(len, before[start : len(before) - end])) > _SMALL:
            return None  # And what is more is not smaller.
    gone = "".join(before[start : len(before) - end])
    come = "".join(after[start : len(after) - end])
    is_clear = gone.strip() and come.strip() and _count(old, gone.strip()) == 1
    is_small = len(gone) + len(come) <= _SMALL and 2 * len(come) < 3 * len(new)
    if not is_clear or not is_small or "/" in gone + come or len(gone) >= len(old):
        return None
    return gone.strip(), come.strip()


def _count(text: str, part: str) -> int:
    """How often a part stands in a text, those that overlap too."""
    return sum(text.startswith(part, at) for at in range(len(text)))


def _words(line: str) -> Iterator[str]:
    return (match[0] for match in _WORD.finditer(line))
