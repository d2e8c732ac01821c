"""How a relay names somebody for whom it speaks: a text with places for what is known."""

import string

from bridge.sdk.ids import UserId

PLAIN = "{name}"
"""The display name alone."""
_PLACES = ("name", "user", "localpart", "server")
_LONGEST = 100


def check_format(text: str) -> str:
    """Give it back if it is a format of names; ``ValueError`` with a sentence if it is none."""
    try:
        found = list(string.Formatter().parse(text))
    except ValueError as error:
        raise ValueError(f"it is no format: {error}") from error
    places = [place for _, place, _, _ in found if place is not None]
    if any(
        place is not None and (place not in _PLACES or spec or conversion)
        for _, place, spec, conversion in found
    ):
        raise ValueError("in braces there are {name}, {user}, {localpart} and {server} only")
    if not set(places) & {"name", "user", "localpart"}:
        raise ValueError("it must say who speaks: {name}, {user} or {localpart}")
    if len(text) > _LONGEST or not text.isprintable():
        raise ValueError(f"it may have {_LONGEST} characters, without line breaks")
    return text


def write_name(name_format: str, user: UserId, name: str) -> str:
    """What the format makes of a Matrix user who is called ``name``."""
    localpart, _, server = user[1:].partition(":")
    return name_format.format(name=name, user=user, localpart=localpart, server=server)
