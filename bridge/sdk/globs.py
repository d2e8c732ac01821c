"""Patterns of ids with ``*`` and ``?`` (Matrix specification, appendix "Glob-style matching")."""

import re
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
        return self._walk(text)

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

    def _walk(self, text: str) -> bool:
        """Be at all places of the pattern at once that the text so far leads to."""
        takes, anything, stays, end = self._steps
        here = 1
        for character in text:
            here = (here & (takes.get(character, 0) | anything)) << 1 | here & stays
            if not here:
                return False
        return bool(here & end)
