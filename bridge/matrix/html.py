"""Between Matrix HTML and ``sdk.rich``: one parser, one renderer.

The parser reads what the Matrix specification lists as allowed (client-server API, "m.room.message
msgtypes") and keeps the text of anything else. It never raises on what people send.
"""

import re
from collections.abc import Mapping, Sequence
from html import escape
from html.parser import HTMLParser
from typing import Any
from urllib.parse import unquote, urlsplit

import orjson

from bridge.sdk.cutting import split
from bridge.sdk.events import MessageKind
from bridge.sdk.ids import UserId
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
)
from bridge.sdk.text import to_plain

_DEEPEST = 100
_LONGEST = 256 * 1024
_EVENT_LIMIT = 65_536 - 2_048
"""Bytes of canonical JSON: the specification's limit of an event, less what surrounds content."""

_MOST_MENTIONS = 10
_STYLES = {
    "b": Style.BOLD, "strong": Style.BOLD, "i": Style.ITALIC, "em": Style.ITALIC,
    "u": Style.UNDERLINE, "ins": Style.UNDERLINE, "del": Style.STRIKE, "s": Style.STRIKE,
    "strike": Style.STRIKE, "code": Style.MONO, "tt": Style.MONO,
    "h1": Style.BOLD, "h2": Style.BOLD, "h3": Style.BOLD, "h4": Style.BOLD, "h5": Style.BOLD,
    "h6": Style.BOLD,
}  # fmt: skip
_BLOCKS = {"p", "div", "h1", "h2", "h3", "h4", "h5", "h6", "tr", "table", "details", "summary"}
_SILENT = {"script", "style", "mx-reply", "head", "title"}
_VOID = {"br", "hr", "img", "wbr", "input", "meta", "link"}
_COLOUR = re.compile(r"#[0-9a-fA-F]{6}$")
_MATRIX_TO = re.compile(r"https://matrix\.to/#/(@[^/?]+:[^/?]+)/?(?:\?.*)?$")
_SCHEMES = {"http", "https", "ftp", "mailto", "magnet", "matrix", "xmpp", "irc", "ircs"}


def parse(content: Mapping[str, Any]) -> Rich:
    """Read the text of an ``m.room.message`` content, without a reply's quoted fallback."""
    formatted = content.get("formatted_body")
    if (
        content.get("format") == "org.matrix.custom.html"
        and isinstance(formatted, str)
        and len(formatted) <= _LONGEST
    ):
        return parse_html(formatted)
    body = content.get("body")
    if not isinstance(body, str):
        return Rich()
    relates = content.get("m.relates_to")
    if isinstance(relates, dict) and "m.in_reply_to" in relates and body.startswith("> "):
        body = _without_quoted_lines(body)
    return Rich.plain(body[:_LONGEST])


def parse_html(text: str) -> Rich:
    """Read Matrix HTML as a tree."""
    parser = _Parser()
    parser.feed(text)
    parser.close()
    return Rich(parser.finish())


def _without_quoted_lines(body: str) -> str:
    lines = body.split("\n")
    while lines and lines[0].startswith(">"):
        lines.pop(0)
    while lines and not lines[0].strip():
        lines.pop(0)
    return "\n".join(lines)


class _Open:
    """An element that is not closed yet."""

    __slots__ = ("attributes", "children", "tag")

    def __init__(self, tag: str, attributes: Mapping[str, str]) -> None:
        self.tag = tag
        self.attributes = attributes
        self.children: list[Node] = []


class _Parser(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self._stack = [_Open("", {})]
        self._silent = 0
        self._too_deep = 0

    def finish(self) -> tuple[Node, ...]:
        while len(self._stack) > 1:
            self._close_top()
        return _trim(self._stack[0].children)

    def handle_starttag(self, tag: str, attrs: Sequence[tuple[str, str | None]]) -> None:
        if tag in _SILENT:
            self._silent += 1
            return
        if self._silent:
            return
        children = self._stack[-1].children
        if tag == "br":
            children.append(LineBreak())
        elif tag == "hr":
            self._break_line()
            children.append(Text("---"))
            children.append(LineBreak())
        elif tag == "img":
            name = dict(attrs).get("alt") or dict(attrs).get("title")
            if name:
                children.append(Text(_clean(name)))
        elif tag in _VOID:
            return
        elif len(self._stack) > _DEEPEST:
            self._too_deep += 1
        else:
            if tag in _BLOCKS or tag in {"blockquote", "ul", "ol", "pre"}:
                self._break_line()
            self._stack.append(_Open(tag, {name: value or "" for name, value in attrs}))

    def handle_startendtag(self, tag: str, attrs: Sequence[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in _VOID:
            self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag in _SILENT:
            self._silent = max(0, self._silent - 1)
            return
        if self._silent or tag in _VOID:
            return
        if self._too_deep:
            self._too_deep -= 1
            return
        if any(one.tag == tag for one in self._stack[1:]):
            while self._stack[-1].tag != tag:
                self._close_top()
            self._close_top()

    def handle_data(self, data: str) -> None:
        if self._silent:
            return
        top = self._stack[-1]
        if any(one.tag == "pre" for one in self._stack):
            top.children.append(Text(data))
            return
        if top.tag in {"ul", "ol", "table", "tr"} and not data.strip():
            return
        text = _clean(re.sub(r"[ \t\r\n\f]+", " ", data))
        if text.startswith(" ") and (not top.children or isinstance(top.children[-1], LineBreak)):
            text = text[1:] if len(self._stack) == 1 or top.tag in _BLOCKS else text
        if text:
            top.children.append(Text(text))

    def _break_line(self) -> None:
        children = self._stack[-1].children
        if children and not isinstance(children[-1], LineBreak | Quote | Items | Code):
            children.append(LineBreak())

    def _close_top(self) -> None:
        element = self._stack.pop()
        parent = self._stack[-1].children
        parent.extend(_nodes(element))
        if element.tag in _BLOCKS and parent and not isinstance(parent[-1], LineBreak):
            parent.append(LineBreak())


def _nodes(element: _Open) -> list[Node]:
    """What a closed element becomes."""
    children = tuple(element.children)
    if not children and element.tag not in {"pre"}:
        return []
    match element.tag:
        case "a":
            return _link(element, children)
        case "font" | "span":
            return _span(element, children)
        case "pre":
            return [_code(children)]
        case "blockquote":
            return [Quote(_trim(element.children))]
        case "ul" | "ol":
            return [_list(element)]
        case "li":
            # A marker for the list around it, which unwraps it.
            return [Quote(_trim(element.children))]
    style = _STYLES.get(element.tag)
    return list(children) if style is None else [Styled(style, children)]


def _link(element: _Open, children: tuple[Node, ...]) -> list[Node]:
    url = element.attributes.get("href", "").strip()
    person = _MATRIX_TO.match(unquote(url))
    if person:
        return [Mention(UserId(person[1]), to_plain(Rich(children)))]
    if urlsplit_scheme(url) not in _SCHEMES:
        return list(children)
    return [Link(url, children)]


def urlsplit_scheme(url: str) -> str:
    """The scheme of a URL, empty if it is none."""
    try:
        return urlsplit(url).scheme.lower()
    except ValueError:
        return ""


def _span(element: _Open, children: tuple[Node, ...]) -> list[Node]:
    attributes = element.attributes
    nodes: tuple[Node, ...] = children
    front = attributes.get("data-mx-color") or attributes.get("color") or ""
    back = attributes.get("data-mx-bg-color") or ""
    front = front if _COLOUR.match(front) else ""
    back = back if _COLOUR.match(back) else ""
    if front or back:
        nodes = (Colour(front.lower() or None, back.lower() or None, nodes),)
    if "data-mx-spoiler" in attributes:
        nodes = (Styled(Style.SPOILER, nodes),)
    return list(nodes)


def _code(children: tuple[Node, ...]) -> Code:
    return Code(_raw(children).strip("\n"))


def _raw(nodes: Sequence[Node]) -> str:
    parts = []
    for node in nodes:
        if isinstance(node, Text):
            parts.append(node.text)
        elif isinstance(node, LineBreak):
            parts.append("\n")
        elif isinstance(node, Styled | Colour | Link | Quote):
            parts.append(_raw(node.children))
        elif isinstance(node, Mention):
            parts.append(node.name)
        elif isinstance(node, Code):
            parts.append(node.text)
    return "".join(parts)


def _list(element: _Open) -> Items:
    items = tuple(
        node.children if isinstance(node, Quote) else (node,)
        for node in element.children
        if not isinstance(node, LineBreak)
    )
    start = element.attributes.get("start", "1")
    number = int(start) if start.isascii() and start.isdigit() and len(start) < 7 else 1
    return Items(items, element.tag == "ol", number)


def _trim(nodes: Sequence[Node]) -> tuple[Node, ...]:
    """Without line breaks at the ends."""
    first, last = 0, len(nodes)
    while first < last and isinstance(nodes[first], LineBreak):
        first += 1
    while last > first and isinstance(nodes[last - 1], LineBreak):
        last -= 1
    return tuple(nodes[first:last])


def _clean(text: str) -> str:
    return text.replace("\0", "")


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
    """Write the tree as Matrix HTML; every text is escaped."""
    return "".join(_html(node) for node in rich.nodes)


def _html(node: Node) -> str:
    match node:
        case Text(text):
            return escape(text)
        case LineBreak():
            return "<br>"
        case Styled(style, children):
            before, after = _TAGS[style]
            return before + _inner(children) + after
        case Colour(front, back, children):
            attributes = f' data-mx-color="{front}"' if front else ""
            attributes += f' data-mx-bg-color="{back}"' if back else ""
            return f"<span{attributes}>{_inner(children)}</span>"
        case Link(url, children):
            if urlsplit_scheme(url) not in _SCHEMES:
                return _inner(children)
            return f'<a href="{escape(url)}">{_inner(children)}</a>'
        case Mention(user, name):
            return f'<a href="https://matrix.to/#/{escape(user)}">{escape(name)}</a>'
        case Code(text, _):
            return f"<pre><code>{escape(text)}</code></pre>"
        case Quote(children):
            return f"<blockquote>{_inner(children)}</blockquote>"
        case Items(items, ordered, start):
            tag = "ol" if ordered else "ul"
            first = f' start="{start}"' if ordered and start != 1 else ""
            inner = "".join(f"<li>{_inner(item)}</li>" for item in items)
            return f"<{tag}{first}>{inner}</{tag}>"


def _inner(nodes: Sequence[Node]) -> str:
    return "".join(_html(node) for node in nodes)


def content_for(rich: Rich, kind: MessageKind, *, external_url: str = "") -> list[dict[str, Any]]:
    """Make the contents that say it: one, or several where one event would be too large.

    ``m.mentions`` is always set, with at most ten people; ``external_url`` only if it is http(s).
    """
    content = _content(rich, kind, external_url)
    if _fits(content):
        return [content]
    pieces = split(rich, lambda piece: _fits(_content(piece, kind, external_url)))
    return [_content(piece, kind, external_url) for piece in pieces]


def _content(rich: Rich, kind: MessageKind, external_url: str) -> dict[str, Any]:
    content: dict[str, Any] = {"msgtype": _MSGTYPES[kind], "body": to_plain(rich)}
    if not all(isinstance(node, Text | LineBreak) for node in rich.nodes):
        content["format"] = "org.matrix.custom.html"
        content["formatted_body"] = render_html(rich)
    people = list(dict.fromkeys(_mentioned(rich.nodes)))[:_MOST_MENTIONS]
    content["m.mentions"] = {"user_ids": people} if people else {}
    if _is_web_link(external_url):
        content["external_url"] = external_url
    return content


def _is_web_link(url: str) -> bool:
    """Whether it is a whole http(s) URL, without the blanks that clients read each in its way."""
    if not url.isprintable() or " " in url:
        return False
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    return parts.scheme in {"http", "https"} and bool(parts.hostname)


def _mentioned(nodes: Sequence[Node]) -> list[str]:
    found: list[str] = []
    for node in nodes:
        if isinstance(node, Mention):
            found.append(node.user)
        elif isinstance(node, Styled | Colour | Link | Quote):
            found += _mentioned(node.children)
        elif isinstance(node, Items):
            for item in node.items:
                found += _mentioned(item)
    return found


def _fits(content: dict[str, Any]) -> bool:
    text = content["body"] + content.get("formatted_body", "")
    if len(text) * 6 < _EVENT_LIMIT:
        return True  # No character takes more than six bytes.
    try:
        return len(orjson.dumps(content)) <= _EVENT_LIMIT
    except orjson.JSONEncodeError:
        return len(text) * 6 < _EVENT_LIMIT  # Lone surrogates: measured at their worst.
