"""HTML cut into tags and text, in linear time and without errors, whatever is in it.

Python's ``html.parser`` needs minutes for 64 KiB of unclosed tags and raises for some numbers and
declarations; anybody in a room may send these.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from html import unescape

_BLANK = r"[ \t\r\n\f]"
# All quantifiers but the comment's are possessive, so no text makes the match go back.
_MARKUP = re.compile(
    r"<!--(?:-?>|.*?(?:--!?>|\Z))"
    r"|<[!?][^>]*+(?:>|\Z)"
    r"|<(?P<end>/?)(?P<name>[a-zA-Z][^ \t\r\n\f/>]*+)"
    rf"(?P<inside>(?:[^>=]++|={_BLANK}*+(?:\"[^\"]*+\"|'[^']*+'|))*+)(?P<close>>?)",
    re.DOTALL,
)
_ATTRIBUTE = re.compile(
    r"([^ \t\r\n\f\"'>/=][^ \t\r\n\f/>=]*+)"
    rf"(?:{_BLANK}*+={_BLANK}*+(?:\"([^\"]*+)\"|'([^']*+)'|([^ \t\r\n\f>]*+)))?+"
)
_NOT_HTML = {
    name: re.compile(rf"</{name}(?![^ \t\r\n\f/>])", re.I) for name in ("script", "style")
}
_LONG_NUMBER = re.compile("&#[0-9]{100,}+;?")
"""More digits than any character has; Python refuses to read the longest."""


@dataclass(frozen=True, slots=True)
class Tag:
    """The start or the end of an element."""

    name: str
    """In small letters."""

    is_end: bool
    inside: str

    def attributes(self) -> Mapping[str, str]:
        """Read the attributes; of two with the same name the first counts."""
        found: dict[str, str] = {}
        for match in _ATTRIBUTE.finditer(self.inside):
            value = match[2] or match[3] or match[4] or ""
            found.setdefault(match[1].lower(), _unescape(value))
        return found


def read_tags(text: str) -> Iterator[Tag | str]:
    """Give tags and the text between them. Comments, scripts and style sheets are left out.

    A tag that is never closed is text, as is any other ``<`` that begins none.
    """
    position = 0
    while match := _MARKUP.search(text, position):
        if match.start() > position:
            yield _unescape(text[position : match.start()])
        position = match.end()
        name = match["name"]
        if name is None:
            continue
        if not match["close"]:
            yield _unescape(match[0])
            continue
        tag = Tag(name.lower(), bool(match["end"]), match["inside"])
        yield tag
        if tag.name in _NOT_HTML and not tag.is_end:
            end = _NOT_HTML[tag.name].search(text, position)
            position = end.start() if end else len(text)
    if position < len(text):
        yield _unescape(text[position:])


def _unescape(text: str) -> str:
    return unescape(_LONG_NUMBER.sub("\ufffd", text)) if "&" in text else text
