"""Between the content of an ``m.room.message`` and ``sdk.rich``."""

import re
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import orjson

from bridge.matrix.htmltree import clean, parse_html
from bridge.matrix.links import find_address, is_user_id, is_web_link, link_to
from bridge.sdk.cutting import split
from bridge.sdk.events import MessageKind
from bridge.sdk.rich import (
    Code,
    Colour,
    Items,
    LineBreak,
    Link,
    Mention,
    Node,
    Quote,
    Rich,
    Style,
    Styled,
    Text,
    is_bare,
)
from bridge.sdk.text import is_blank, to_plain

_LONGEST = 256 * 1024
_EVENT_LIMIT = 65_536 - 2_048
"""Bytes of canonical JSON: the specification's limit of an event, less what surrounds content."""

_MOST_MENTIONS = 10
_LONGEST_URL = 2048
_SHORT_TEXT = 8192
"""Characters that fit into an event, however they are written."""

_QUOTED_LINES = re.compile(r"(?:>[^\n]*+(?:\n|\Z))++(?:[^\S\n]*+\n)*+")
_COLOUR = re.compile("#[0-9a-f]{6}")
_RUN_OF_SPACES = re.compile("  +")


def parse(content: Mapping[str, Any]) -> Rich:
    """Read the text of an ``m.room.message`` content, without a reply's quoted fallback.

    The plain body counts where there is no HTML, too much of it, or none that shows anything.
    """
    formatted = content.get("formatted_body")
    if (
        content.get("format") == "org.matrix.custom.html"
        and isinstance(formatted, str)
        and len(formatted) <= _LONGEST
    ):
        rich = parse_html(formatted)
        if rich.nodes:
            return rich
    body = content.get("body")
    if not isinstance(body, str):
        return Rich()
    return Rich.plain(clean(without_quote(content, body)[:_LONGEST]))


def without_quote(content: Mapping[str, Any], body: str) -> str:
    """The plain text of a reply without the quotation that older clients put before it."""
    relates = content.get("m.relates_to")
    if isinstance(relates, dict) and "m.in_reply_to" in relates and body.startswith("> "):
        quoted = _QUOTED_LINES.match(body)
        return body[quoted.end() :] if quoted else body
    return body


# --- from the tree to a message ---

_TAGS = {
    Style.BOLD: ("<strong>", "</strong>"),
    Style.ITALIC: ("<em>", "</em>"),
    Style.UNDERLINE: ("<u>", "</u>"),
    Style.STRIKE: ("<del>", "</del>"),
    Style.MONO: ("<code>", "</code>"),
    Style.SPOILER: ("<span data-mx-spoiler>", "</span>"),
}
_MSGTYPES = {
    MessageKind.TEXT: "m.text",
    MessageKind.EMOTE: "m.emote",
    MessageKind.NOTICE: "m.notice",
}


def render_html(rich: Rich) -> str:
    """Write the tree as Matrix HTML; every text is escaped, what cannot be sent is left out."""
    return _inner(rich.nodes)


def _inner(nodes: Sequence[Node], *, in_link: bool = False) -> str:
    return "".join(_html(node, in_link=in_link) for node in nodes)


def _html(node: Node, *, in_link: bool) -> str:
    match node:
        case Text(text):
            return _text(text)
        case LineBreak():
            return "<br>"
        case Styled(style, children):
            before, after = _TAGS[style]
            return before + _inner(children, in_link=in_link) + after
        case Colour(front, back, children):
            return _coloured(front, back, _inner(children, in_link=in_link))
        case Link(url, children):
            return _link(url, children, in_link=in_link)
        case Mention(user, name):
            shown = _text(" ".join(clean(name).split()) or user)
            return shown if in_link or not is_user_id(user) else _anchor(link_to(user), shown)
        case Code(text, language):
            return _code(clean(text), language)
        case Quote(children):
            return f"<blockquote>{_inner(children, in_link=in_link)}</blockquote>"
        case Items(items, ordered, start):
            tag = "ol" if ordered else "ul"
            first = f' start="{start}"' if ordered and start != 1 else ""
            inner = "".join(f"<li>{_inner(item, in_link=in_link)}</li>" for item in items)
            return f"<{tag}{first}>{inner}</{tag}>"


def _text(text: str) -> str:
    shown = escape(clean(text)).replace("\n", "<br>")
    # Clients show one space for several: all but the last of a run are made to stay.
    return _RUN_OF_SPACES.sub(lambda run: "\xa0" * (len(run[0]) - 1) + " ", shown)


def _coloured(front: str | None, back: str | None, inner: str) -> str:
    attributes = "".join(
        f' {name}="{value.lower()}"'
        for name, value in (("data-mx-color", front), ("data-mx-bg-color", back))
        if value and _COLOUR.fullmatch(value.lower())
    )
    return f"<span{attributes}>{inner}</span>" if attributes else inner


def _link(url: str, children: Sequence[Node], *, in_link: bool) -> str:
    address = find_address(url)
    if address is None or in_link:
        return _inner(children, in_link=in_link)
    shown = escape(address) if is_blank(children) else _inner(children, in_link=True)
    return _anchor(address, shown)


def _anchor(address: str, shown: str) -> str:
    return f'<a href="{escape(address)}">{shown}</a>'


def _code(text: str, language: str | None) -> str:
    described = f' class="language-{escape(clean(language))}"' if language else ""
    # Readers leave out the last line break of a block.
    last = "\n" if text.endswith("\n") else ""
    return f"<pre><code{described}>{escape(text)}{last}</code></pre>"


def content_for(rich: Rich, kind: MessageKind, *, external_url: str = "") -> list[dict[str, Any]]:
    """Make the contents that say it: one, or several where one event would be too large.

    ``m.mentions`` is always set, with at most ten people; ``external_url`` only if it is http(s).
    """
    content = _content(rich, kind, external_url)
    if _fits(content):
        return [content]
    pieces = split(rich, lambda piece: _fits(_content(piece, kind, external_url)))
    contents = [_content(piece, kind, external_url) for piece in pieces]
    return [part for one in contents for part in _parts(one)]


def _parts(content: dict[str, Any]) -> list[dict[str, Any]]:
    """Cut what is one grapheme, or one name, and still too large for an event."""
    if _fits(content):
        return [content]
    rest = {key: content[key] for key in content if key not in {"format", "formatted_body"}}
    text = content["body"]
    starts = range(0, len(text), _SHORT_TEXT)
    return [rest | {"body": text[start : start + _SHORT_TEXT]} for start in starts]


def _content(rich: Rich, kind: MessageKind, external_url: str) -> dict[str, Any]:
    content: dict[str, Any] = {"msgtype": _MSGTYPES[kind], "body": clean(to_plain(rich))}
    if not is_bare(rich.nodes):
        content["format"] = "org.matrix.custom.html"
        content["formatted_body"] = render_html(rich)
    people = list(dict.fromkeys(_mentioned(rich.nodes)))[:_MOST_MENTIONS]
    content["m.mentions"] = {"user_ids": people} if people else {}
    if external_url and len(external_url) <= _LONGEST_URL and is_web_link(external_url):
        content["external_url"] = external_url
    return content


def _mentioned(nodes: Sequence[Node]) -> list[str]:
    found: list[str] = []
    for node in nodes:
        if isinstance(node, Mention):
            found += [node.user] if is_user_id(node.user) else []
        elif isinstance(node, Styled | Colour | Link | Quote):
            found += _mentioned(node.children)
        elif isinstance(node, Items):
            for item in node.items:
                found += _mentioned(item)
    return found


def _fits(content: dict[str, Any]) -> bool:
    if len(content["body"]) + len(content.get("formatted_body", "")) <= _SHORT_TEXT:
        return True  # No character takes more than six bytes.
    return len(orjson.dumps(content)) <= _EVENT_LIMIT
