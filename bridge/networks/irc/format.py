"""IRC's formatting codes <-> ``sdk.rich``. One line each; the tree is cut before."""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from bridge.networks.irc.colours import DEFAULT, colour_of, nearest
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

BOLD, COLOUR, HEX, RESET, MONO, REVERSE = "\x02", "\x03", "\x04", "\x0f", "\x11", "\x16"
ITALIC, STRIKE, UNDERLINE = "\x1d", "\x1e", "\x1f"

_TOGGLES = {
    BOLD: Style.BOLD,
    ITALIC: Style.ITALIC,
    UNDERLINE: Style.UNDERLINE,
    STRIKE: Style.STRIKE,
    MONO: Style.MONO,
}
_CODES = {style: code for code, style in _TOGGLES.items()}
_ORDER = tuple(_CODES)
_CONTROLS = dict.fromkeys([*range(0x20), 0x7F]) | {ord(space): " " for space in "\t\n\v\f\r"}
_TOKEN = re.compile(
    r"\x03(?:(?P<fg>[0-9]{1,2})(?:,(?P<bg>[0-9]{1,2}))?)?"
    r"|\x04(?:(?P<fghex>[0-9a-fA-F]{6})(?:,(?P<bghex>[0-9a-fA-F]{6}))?)?"
    r"|(?P<code>[\x02\x0f\x11\x16\x1d\x1e\x1f])"
)
_WHITE, _BLACK = colour_of(0), colour_of(1)
_HIDDEN = 1
"""A spoiler is black on black: readers' clients show it when it is selected."""

ANY_COLOUR = 1 << 24
"""The number of colours where each may be written as it is, by its hexadecimal digits."""

NameOf = Callable[[Mention], str]


@dataclass(frozen=True, slots=True)
class _Look:
    """How a run of text looks. Colours are ``#rrggbb`` or None."""

    styles: frozenset[Style] = frozenset()
    foreground: str | None = None
    background: str | None = None
    is_reversed: bool = False
    """Read from IRC: the two are to be swapped."""


_PLAIN = _Look()
_Run = tuple[str, _Look]


def clean_text(text: str) -> str:
    """Take out what clients read as a code or CTCP; white space becomes a space."""
    return text if text.isprintable() else text.translate(_CONTROLS)


# --- Matrix to IRC ---------------------------------------------------------------------------


def to_irc(rich: Rich, *, colours: int = 16, name_of: NameOf | None = None) -> str:
    """Render one line's tree. Line breaks that are left in it become spaces."""
    match rich.nodes:
        case (Text(text),):
            return clean_text(text)  # As nearly all that people say is.
    written: list[str] = []
    look = _PLAIN
    for text, asked in _runs(rich.nodes, _PLAIN, name_of or (lambda mention: mention.name)):
        if not text:
            continue
        wanted = _shown(asked, colours)
        codes = _codes(look, wanted, colours)
        # A digit or a comma after a colour code would be read as part of it.
        if (COLOUR in codes or HEX in codes) and text[0] in ",0123456789":
            codes += BOLD + BOLD
        written += (codes, text)
        look = wanted
    if look != _PLAIN:
        written.append(RESET)
    return "".join(written)


def _shown(look: _Look, colours: int) -> _Look:
    """How it looks in the colours there are. No text that is to be read gets its own colour as
    background."""
    if (not look.foreground and not look.background) or colours >= ANY_COLOUR:
        return look
    front, back = (
        colour_of(nearest(colour, colours)) if colour else None
        for colour in (look.foreground, look.background)
    )
    if front == back and look.foreground != look.background:
        back = None
    return replace(look, foreground=front, background=back)


def _codes(now: _Look, wanted: _Look, colours: int) -> str:
    if now == wanted:
        return ""
    loses = (
        now.styles - wanted.styles
        or (now.foreground and not wanted.foreground)
        or (now.background and not wanted.background)
    )
    if loses:
        return RESET + _codes(_PLAIN, wanted, colours)
    codes = ""
    if (now.foreground, now.background) != (wanted.foreground, wanted.background):
        codes = _colour_code(wanted, colours)
    return codes + "".join(
        _CODES[style] for style in _ORDER if style in wanted.styles - now.styles
    )


def _colour_code(look: _Look, colours: int) -> str:
    is_hidden = look.foreground == look.background  # To be so for clients of few colours, too.
    if colours >= ANY_COLOUR and look.foreground and not is_hidden:
        back = f",{look.background[1:]}" if look.background else ""
        return f"{HEX}{look.foreground[1:]}{back}"
    front = nearest(look.foreground, colours) if look.foreground else DEFAULT
    if not look.background:
        return f"{COLOUR}{front:02}"
    return f"{COLOUR}{front:02},{nearest(look.background, colours):02}"


def _runs(nodes: Sequence[Node], look: _Look, name_of: NameOf) -> Iterator[_Run]:
    for node in nodes:
        match node:
            case Text(text):
                yield clean_text(text), look
            case LineBreak():
                yield " ", look
            case Mention():
                yield clean_text(name_of(node)), look
            case Code(text):
                yield clean_text(text), _styled(look, Style.MONO)
            case Styled() | Colour():
                yield from _runs(node.children, _looking(node, look), name_of)
            case Link(url, children):
                yield from _link(url, list(_runs(children, look, name_of)), look)
            case Quote(children):
                yield from [("> ", look), *_runs(children, look, name_of)]
            case Items():
                yield from _items(node, look, name_of)


def _looking(node: Styled | Colour, look: _Look) -> _Look:
    if isinstance(node, Styled):
        return _styled(look, node.style)
    if look.foreground and look.foreground == look.background:
        return look  # What is hidden stays so, whatever its colour would be.
    return replace(
        look,
        foreground=node.foreground or look.foreground,
        background=node.background or look.background,
    )


def _styled(look: _Look, style: Style) -> _Look:
    if style is Style.SPOILER:
        black = colour_of(_HIDDEN)
        return replace(look, foreground=black, background=black)
    return replace(look, styles=look.styles | {style})


def _link(url: str, shown: list[_Run], look: _Look) -> Iterator[_Run]:
    address = clean_text(url).replace(" ", "%20")
    text = "".join(run for run, _ in shown).strip()
    if not text or text in {address, address.removeprefix("mailto:")}:
        yield text or address, look
        return
    yield from shown
    yield f" ({address})", look


def _items(items: Items, look: _Look, name_of: NameOf) -> Iterator[_Run]:
    for number, item in enumerate(items.items, items.start):
        yield (f" {number}. " if items.ordered else " • "), look
        yield from _runs(item, look, name_of)


# --- IRC to Matrix ---------------------------------------------------------------------------


def from_irc(text: str) -> Rich:
    """Read one line's codes into a tree. Reverse swaps the colours, other controls are dropped."""
    if text.isprintable():
        return Rich((Text(text),)) if text else Rich(())
    look = _PLAIN
    runs: list[_Run] = []
    end = 0
    for match in _TOKEN.finditer(text):
        runs.append((clean_text(text[end : match.start()]), look))
        look = _next_look(look, match)
        end = match.end()
    runs.append((clean_text(text[end:]), look))
    return Rich(_tree([run for run in runs if run[0]], _LAYERS))


def _next_look(look: _Look, match: re.Match[str]) -> _Look:
    code = match["code"]
    if code == RESET:
        return _PLAIN
    if code in _TOGGLES:
        return replace(look, styles=look.styles ^ {_TOGGLES[code]})
    if code == REVERSE:
        return replace(look, is_reversed=not look.is_reversed)
    if match[0][0] == COLOUR:
        front, back = match["fg"], match["bg"]
        colours = [colour_of(int(number)) if number else None for number in (front, back)]
    else:
        front, back = match["fghex"], match["bghex"]
        colours = [f"#{value.lower()}" if value else None for value in (front, back)]
    if front is None:
        return replace(look, foreground=None, background=None)
    kept = look.background if back is None else colours[1]
    return replace(look, foreground=colours[0], background=kept)


def strip_codes(text: str) -> str:
    """Return the text alone, for reasons and names."""
    return text if text.isprintable() else clean_text(_TOKEN.sub("", text))


_Layer = Callable[[_Look], tuple[object, ...]]


def _style_layer(style: Style) -> _Layer:
    return lambda look: (style,) if style in look.styles else ()


def _colour_layer(look: _Look) -> tuple[object, ...]:
    front, back = look.foreground, look.background
    if look.is_reversed:
        # What the reader's own colours are, nobody knows.
        front, back = back or _WHITE, front or _BLACK
    return ("colour", front, back) if front or back else ()


_LAYERS: tuple[_Layer, ...] = (_colour_layer, *(_style_layer(style) for style in _ORDER))


def _tree(runs: list[_Run], layers: Sequence[_Layer]) -> tuple[Node, ...]:
    """Nest runs: neighbours that share the first layer's look share one node."""
    if not layers:
        return (Text("".join(text for text, _ in runs)),) if runs else ()
    nodes: list[Node] = []
    for key, group in groupby(runs, lambda run: layers[0](run[1])):
        children = _tree(list(group), layers[1:])
        match key:
            case (Style() as style,):
                nodes.append(Styled(style, children))
            case ("colour", front, back) if front == back:
                nodes.append(Styled(Style.SPOILER, children))
            case ("colour", str() | None as front, str() | None as back):
                nodes.append(Colour(front, back, children))
            case _:
                nodes.extend(children)
    return tuple(nodes)
