"""What people see as one character: extended grapheme clusters (UAX #29), with the standard
library alone.

The properties that ``unicodedata`` lacks are derived: Extend from the categories Mn and Me and a
few code points, Hangul syllable types from their arithmetic, pictographs from their blocks.
"""

import unicodedata
from collections.abc import Iterator

_ZWJ = "\u200d"
_EXTRA_EXTEND = frozenset(
    "\u200c\u09be\u09d7\u0b3e\u0b57\u0bbe\u0bd7\u0cc2\u0cd5\u0cd6\u0d3e\u0d57\u0dcf\u0ddf"
    "\u1b35\u302e\u302f\uff9e\uff9f\U0001133e\U00011357\U000114b0\U000114bd\U000115af"
    "\U00011930\U0001d165\U0001d16e\U0001d16f\U0001d170\U0001d171\U0001d172"
)
_NOT_SPACING = frozenset(
    "\u102b\u102c\u1038\u1062\u1063\u1064\u1067\u1068\u1069\u106a\u106b\u106c\u106d\u1083"
    "\u1087\u1088\u1089\u108a\u108b\u108c\u108f\u109a\u109b\u109c\u1a61\u1a63\u1a64\uaa7b\uaa7d"
)
_EXTRA_SPACING = frozenset("\u0e33\u0eb3")
_PREPEND = frozenset(
    "\u0600\u0601\u0602\u0603\u0604\u0605\u06dd\u070f\u0890\u0891\u08e2\u0d4e"
    "\U000110bd\U000110cd\U000111c2\U000111c3"
)


def graphemes(text: str) -> Iterator[str]:
    """Give the clusters of ``text`` in order; together they are the text."""
    if text.isascii() and "\r" not in text:
        yield from text
        return
    start = 0
    for position in range(1, len(text)):
        if _breaks(text, start, position):
            yield text[start:position]
            start = position
    if text:
        yield text[start:]


def _breaks(text: str, start: int, position: int) -> bool:
    """Whether a cluster that began at ``start`` ends before ``position``."""
    before, after = text[position - 1], text[position]
    if before == "\r" and after == "\n":
        return False
    if _is_control(before) or _is_control(after):
        return True
    if _is_extend(after) or _is_spacing(after) or before in _PREPEND:
        return False
    if _joins_hangul(before, after):
        return False
    if _is_indic(after) and _conjunct_before(text, start, position):
        return False
    if before == _ZWJ and _is_pictograph(after):
        return not _pictograph_before(text, start, position - 1)
    if _is_flag(before) and _is_flag(after):
        letters = 0
        while position - letters > start and _is_flag(text[position - 1 - letters]):
            letters += 1
        return letters % 2 == 0
    return True


def _is_control(character: str) -> bool:
    if character in {_ZWJ, "\u200c"} or character in _PREPEND:
        return False
    category = unicodedata.category(character)
    if category == "Cf":
        return not "\U000e0020" <= character <= "\U000e007f"
    if category == "Cn":
        return (
            "\u2060" <= character <= "\u206f"
            or "\ufff0" <= character <= "\ufff8"
            or "\U000e0000" <= character <= "\U000e0fff"
        )
    return category in {"Cc", "Zl", "Zp", "Cs"}


def _is_extend(character: str) -> bool:
    return (
        character == _ZWJ
        or character in _EXTRA_EXTEND
        or "\U0001f3fb" <= character <= "\U0001f3ff"
        or "\U000e0020" <= character <= "\U000e007f"
        or unicodedata.category(character) in {"Mn", "Me"}
    )


def _is_spacing(character: str) -> bool:
    if character in _EXTRA_SPACING:
        return True
    return unicodedata.category(character) == "Mc" and character not in _NOT_SPACING


def _is_flag(character: str) -> bool:
    return "\U0001f1e6" <= character <= "\U0001f1ff"


def _is_pictograph(character: str) -> bool:
    code = ord(character)
    if _is_flag(character) or 0x1F3FB <= code <= 0x1F3FF:
        return False
    return (
        0x1F000 <= code <= 0x1FAFF
        or 0x1FC00 <= code <= 0x1FFFD
        or 0x2600 <= code <= 0x27BF
        or 0x2190 <= code <= 0x21FF
        or 0x2300 <= code <= 0x23FF
        or 0x2B00 <= code <= 0x2BFF
        or 0x25A0 <= code <= 0x25FF
        or code in {0xA9, 0xAE, 0x203C, 0x2049, 0x2122, 0x2139, 0x24C2, 0x2934, 0x2935}
        or code in {0x3030, 0x303D, 0x3297, 0x3299}
    )


def _pictograph_before(text: str, start: int, joiner: int) -> bool:
    position = joiner - 1
    while position > start and _is_extend(text[position]):
        position -= 1
    return position >= start and _is_pictograph(text[position])


def _is_indic(character: str) -> bool:
    """A consonant of a script that forms conjuncts (rule GB9c)."""
    return (
        "\u0915" <= character <= "\u0d3a"
        and unicodedata.category(character) == "Lo"
        and not "\u0a00" <= character <= "\u0a7f"
        and not "\u0b80" <= character <= "\u0bff"
        and not "\u0c80" <= character <= "\u0cff"
    )


def _conjunct_before(text: str, start: int, position: int) -> bool:
    linked = False
    for place in range(position - 1, start - 1, -1):
        character = text[place]
        if unicodedata.combining(character) == 9:
            linked = True
        elif not _is_extend(character):
            return linked and _is_indic(character)
    return False


def _joins_hangul(before: str, after: str) -> bool:
    first, second = _hangul(before), _hangul(after)
    return (
        (first == "L" and second in {"L", "V", "LV", "LVT"})
        or (first in {"LV", "V"} and second in {"V", "T"})
        or (first in {"LVT", "T"} and second == "T")
    )


def _hangul(character: str) -> str:
    code = ord(character)
    if 0xAC00 <= code <= 0xD7A3:
        return "LVT" if (code - 0xAC00) % 28 else "LV"
    if 0x1100 <= code <= 0x115F or 0xA960 <= code <= 0xA97C:
        return "L"
    if 0x1160 <= code <= 0x11A7 or 0xD7B0 <= code <= 0xD7C6:
        return "V"
    if 0x11A8 <= code <= 0x11FF or 0xD7CB <= code <= 0xD7FB:
        return "T"
    return ""
