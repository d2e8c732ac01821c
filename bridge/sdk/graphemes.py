"""What people see as one character: extended grapheme clusters (UAX #29, Unicode 17)."""

import re
from collections.abc import Iterator
from functools import cache

_JOINER = "\\u200d"


def graphemes(text: str) -> Iterator[str]:
    """Give the clusters of ``text`` in order; together they are the text. Takes linear time."""
    if text.isascii() and "\r" not in text:
        yield from text
        return
    for match in _cluster().finditer(text):
        if match[0]:
            yield match[0]


@cache
def _cluster() -> re.Pattern[str]:
    """What matches one. All quantifiers are possessive: no text makes the match go back."""
    # It costs a MiB and a moment; only those who cut text that is not ASCII should pay that.
    from bridge.sdk import codepoints as of  # noqa: PLC0415

    lv = "".join(map(chr, range(0xAC00, 0xD7A4, 28)))
    lvt = f"(?![{lv}])[\\uac00-\\ud7a3]"
    vowels = f"(?:[{of.HANGUL_V}]++|[{lv}][{of.HANGUL_V}]*+|{lvt})[{of.HANGUL_T}]*+"
    core = "|".join(
        (
            # GB6 to GB8: a Hangul syllable.
            f"[{of.HANGUL_L}]++(?:{vowels})?+|{vowels}|[{of.HANGUL_T}]++",
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
    return re.compile(
        f"\\r\\n|[{of.CONTROL}]"
        f"|[{of.PREPEND}]*+(?:{core})?+[{of.EXTEND}{_JOINER}{of.SPACING}]*+"
    )  # fmt: skip
