"""What people see as one character: extended grapheme clusters (UAX #29, Unicode 17)."""

import re
from collections.abc import Iterator

from bridge.sdk import codepoints as of

_JOINER = "\\u200d"
_HANGUL_LV = "".join(map(chr, range(0xAC00, 0xD7A4, 28)))
_HANGUL_LVT = f"(?![{_HANGUL_LV}])[\\uac00-\\ud7a3]"
_VOWELS = f"(?:[{of.HANGUL_V}]++|[{_HANGUL_LV}][{of.HANGUL_V}]*+|{_HANGUL_LVT})[{of.HANGUL_T}]*+"
_CORE = "|".join(
    (
        # GB6 to GB8: a Hangul syllable.
        f"[{of.HANGUL_L}]++(?:{_VOWELS})?+|{_VOWELS}|[{of.HANGUL_T}]++",
        # GB9c: consonants that a virama makes one.
        f"[{of.CONSONANT}](?:[{of.LINK_EXTEND}]*+[{of.LINKER}][{of.LINK_EXTEND}{of.LINKER}]*+"
        f"[{of.CONSONANT}])*+",
        # GB11: emoji put together by joiners.
        f"[{of.PICTOGRAPH}](?:[{of.EXTEND}]*+{_JOINER}[{of.PICTOGRAPH}])*+",
        # GB12 and GB13: two regional indicators are a flag.
        "[\\U0001f1e6-\\U0001f1ff]{2}",
        f"[^{of.CONTROL}]",
    )
)
# All quantifiers are possessive: no text makes the match go back, so time is linear.
_CLUSTER = re.compile(
    f"\\r\\n|[{of.CONTROL}]"
    f"|[{of.PREPEND}]*+(?:{_CORE})?+[{of.EXTEND}{_JOINER}{of.SPACING}]*+"
)  # fmt: skip


def graphemes(text: str) -> Iterator[str]:
    """Give the clusters of ``text`` in order; together they are the text. Takes linear time."""
    if text.isascii() and "\r" not in text:
        yield from text
        return
    for match in _CLUSTER.finditer(text):
        if match[0]:
            yield match[0]
