"""How a relay names the person it speaks for: a text with places for what is known."""

import string

from bridge.sdk.ids import UserId

PLAIN = "{name}"
"""The display name alone."""
_PLACES = ("name", "user", "localpart", "server")
_LONGEST = 100


def check_format(text: str) -> str:
    """Give it back if it is a format of names; else raise ``ValueError`` with a sentence."""
    try:
        found = list(string.Formatter().parse(text))
    except ValueError as error:
        raise ValueError(f"it is no format: {error}") from error
    places = {place for _, place, _, _ in found} - {None}
    if places - {*_PLACES} or any(spec or conversion for _, _, spec, conversion in found):
        raise ValueError("only {name}, {user}, {localpart} and {server} may stand in braces")
    if not places & {"name", "user", "localpart"}:
        raise ValueError("it must say who speaks: {name}, {user} or {localpart}")
    if len(text) > _LONGEST or not text.isprintable():
        raise ValueError(f"it may have at most {_LONGEST} characters, and no line breaks")
    return text


def write_name(name_format: str, user: UserId, name: str) -> str:
    """What the format makes of a Matrix user who is called ``name``."""
    localpart, _, server = user[1:].partition(":")
    return name_format.format(name=name, user=user, localpart=localpart, server=server)
