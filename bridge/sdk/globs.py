"""Patterns of ids with ``*`` and ``?`` (Matrix specification, appendix "Glob-style matching")."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

LONGEST = 512
"""Characters. Ids have 255 bytes; no pattern need be longer."""

_STARS = re.compile(r"\*{2,}")


@dataclass(frozen=True)
class Glob:
    """One pattern: ``*`` is any text, also none, and ``?`` any one character."""

    text: str

    @property
    def is_plain(self) -> bool:
        """Whether it is one text only."""
        return "*" not in self.text and "?" not in self.text

    @cached_property
    def _pattern(self) -> str:
        return _STARS.sub("*", self.text)

    @cached_property
    def _ends(self) -> tuple[str, str]:
        """What a text must begin and end with: most are told apart by that."""
        pieces = re.split(r"[*?]", self._pattern)
        return pieces[0], pieces[-1]

    def matches(self, text: str) -> bool:
        """Whether the whole text is like it, in time that grows with the text's length."""
        if self.is_plain:
            return text == self.text
        begin, end = self._ends
        if len(self._pattern) > LONGEST or not (text.startswith(begin) and text.endswith(end)):
            return False
        return bool(self._walk(text) & self._steps[-1])

    def between(self, begin: str, end: str) -> "Sequence[Glob]":
        """What may stand between two texts, as patterns; none if nothing may.

        One of them matches a text if, and only if, this one matches ``begin + text + end``. There
        are never more than ``(1 + len(begin)) * (1 + len(end))``.
        """
        ours, theirs = self._ends
        if not (begin.startswith(ours) or ours.startswith(begin)):
            return []
        if not (end.endswith(theirs) or theirs.endswith(end)) or len(self._pattern) > LONGEST:
            return []
        found = {
            last._pattern[::-1]
            for first in self._after(begin)
            for last in Glob(first._pattern[::-1])._after(end[::-1])
        }
        return [Glob(text) for text in sorted(found)]

    def _after(self, text: str) -> "Iterator[Glob]":
        """What may follow a text that stands at the begin."""
        _, _, stays, _ = self._steps
        here = self._walk(text)
        # What is left behind a star leads nowhere that the star does not lead to as well.
        last = max((here & stays).bit_length() - 1, 0)
        for place, at in enumerate(self._places):
            if place >= last and here >> place & 1:
                yield Glob(self._pattern[at:])

    @cached_property
    def _places(self) -> Sequence[int]:
        """Where in the pattern each place begins, with its star if it has one, and the end."""
        signs = self._pattern
        begins = [at - (signs[at - 1 : at] == "*") for at, one in enumerate(signs) if one != "*"]
        return [*begins, len(signs) - signs.endswith("*")]

    @cached_property
    def _steps(self) -> tuple[dict[str, int], int, int, int]:
        """For each character the places in the pattern that take it, as bits; then the places
        that take any, those of stars (which may be stayed at), and the end."""
        takes: dict[str, int] = {}
        anything = stays = place = 0
        for character in self._pattern:
            if character == "*":
                stays |= 1 << place
                continue
            if character == "?":
                anything |= 1 << place
            else:
                takes[character] = takes.get(character, 0) | 1 << place
            place += 1
        return takes, anything, stays, 1 << place

    def _walk(self, text: str) -> int:
        """Be at all places of the pattern at once that the text leads to: these, as bits."""
        takes, anything, stays, _ = self._steps
        here = 1
        for character in text:
            here = (here & (takes.get(character, 0) | anything)) << 1 | here & stays
            if not here:
                break
        return here
