"""Writes ``bridge/sdk/codepoints.py`` from what the ``regex`` package knows of Unicode.

Run ``python -m tests.sdk.make_codepoints`` when a test says that Unicode has changed.
"""

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import regex

TARGET = Path(__file__).parents[2] / "bridge" / "sdk" / "codepoints.py"
CLASSES = {
    "CONTROL": (r"[\p{GCB=Control}\p{GCB=CR}\p{GCB=LF}]", "Always alone (but CR LF)."),
    "EXTEND": (r"\p{GCB=Extend}", "Joins what stands before it. Without the zero width joiner."),
    "SPACING": (r"\p{GCB=SpacingMark}", "Joins what stands before it, and has a width."),
    "PREPEND": (r"\p{GCB=Prepend}", "Joins what stands after it."),
    "HANGUL_L": (r"\p{GCB=L}", "Leading consonants."),
    "HANGUL_V": (r"\p{GCB=V}", "Vowels."),
    "HANGUL_T": (r"\p{GCB=T}", "Trailing consonants."),
    "PICTOGRAPH": (r"\p{Extended_Pictographic}", "What a zero width joiner puts together."),
    "CONSONANT": (r"\p{InCB=Consonant}", "Letters that form conjuncts (rule GB9c)."),
    "LINKER": (r"\p{InCB=Linker}", "Viramas that make a conjunct of two consonants."),
    "LINK_EXTEND": (r"\p{InCB=Extend}", "What may stand between a virama and its consonants."),
}
EVERYTHING = "".join(
    chr(code) for code in range(sys.maxunicode + 1) if not 0xD800 <= code <= 0xDFFF
)
HEAD = '''"""Properties of Unicode 17 that text segmentation (UAX #29) needs.

Written by ``python -m tests.sdk.make_codepoints``; not to be edited. Each is the inside of a
character class of ``re``. From the Unicode Character Database, © Unicode, Inc., used under the
Unicode License v3 (https://www.unicode.org/license.txt).
"""
'''


def characters(name: str) -> frozenset[str]:
    """Return the characters of a class."""
    return frozenset(regex.findall(CLASSES[name][0], EVERYTHING))


def ranges(found: Iterable[str]) -> Iterator[tuple[int, int]]:
    """Give the characters as ranges, first and last."""
    first = last = -2
    for code in sorted(map(ord, found)):
        if code != last + 1:
            if first >= 0:
                yield first, last
            first = code
        last = code
    yield first, last


def _escape(code: int) -> str:
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def write(name: str) -> str:
    """Write a class as Python."""
    lines = [""]
    for first, last in ranges(characters(name)):
        piece = _escape(first) + (f"-{_escape(last)}" if last > first else "")
        if len(lines[-1]) + len(piece) > 90:
            lines.append("")
        lines[-1] += piece
    if len(lines) == 1 and len(name) + len(lines[0]) < 90:
        return f'{name} = r"{lines[0]}"\n"""{CLASSES[name][1]}"""\n'
    inside = "".join(f'    r"{line}"\n' for line in lines)
    return f'{name} = (\n{inside})\n"""{CLASSES[name][1]}"""\n'


def main() -> None:
    """Write the file."""
    TARGET.write_text(HEAD + "\n" + "\n".join(write(name) for name in CLASSES), "utf-8")


if __name__ == "__main__":
    main()
