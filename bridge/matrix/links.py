"""Addresses in messages: which may be followed, and which stand for a person."""

import re
from typing import TypeGuard
from urllib.parse import quote, unquote, urlsplit

from bridge.sdk.ids import UserId

SCHEMES = {"http", "https", "ftp", "mailto", "magnet", "matrix", "xmpp", "irc", "ircs"}
"""What the specification lets a link have, and what leads to other chats. All are harmless."""

_WITH_HOST = {"http", "https", "ftp", "irc", "ircs"}
_CONTROLS = re.compile("[\0-\x1f\x7f\ud800-\udfff]")
_USER = re.compile(r"@[!-9;-~]{0,250}:[A-Za-z0-9.:\[\]-]{1,250}")
_USER_LIMIT = 255
_ALIAS = re.compile(r"#[^\s:\0\ud800-\udfff][^\s\0\ud800-\udfff]*:[A-Za-z0-9.:\[\]-]{1,250}")
_MATRIX_TO = re.compile(r"https?://matrix\.to/#/([^/?]+)/?(?:\?.*)?", re.IGNORECASE)
_MATRIX_USER = re.compile(r"matrix:u/([^/?]+)(?:\?.*)?", re.IGNORECASE)


def find_address(written: str) -> str | None:
    """The address that a client would follow; None if it is none, or may do harm."""
    address = _CONTROLS.sub("", written.strip()).strip().replace(" ", "%20")
    try:
        parts = urlsplit(address)
        host = parts.hostname
    except ValueError:
        return None
    scheme = parts.scheme.lower()
    if scheme not in SCHEMES or (scheme in _WITH_HOST and not host):
        return None
    return address


def is_web_link(address: str) -> bool:
    """Whether it is a whole http(s) URL, without the blanks that clients read each in its way."""
    return (
        address.isprintable()
        and " " not in address
        and find_address(address) == address
        and urlsplit(address).scheme in {"http", "https"}
    )


def is_user_id(text: str) -> bool:
    """Whether it is written as the id of a Matrix user is."""
    return _USER.fullmatch(text) is not None and len(text) <= _USER_LIMIT


def is_alias(value: object) -> TypeGuard[str]:
    """Whether it is written as the alias of a room is."""
    return (
        isinstance(value, str)
        and _ALIAS.fullmatch(value) is not None
        and len(value.encode()) <= _USER_LIMIT
    )


def find_person(address: str) -> UserId | None:
    """Whom a ``matrix.to`` link or a ``matrix:`` URI stands for, None if for nobody."""
    if match := _MATRIX_TO.fullmatch(address):
        user = unquote(match[1])
    elif match := _MATRIX_USER.fullmatch(address):
        user = "@" + unquote(match[1])
    else:
        return None
    return UserId(user) if is_user_id(user) else None


def link_to(identifier: str) -> str:
    """The ``matrix.to`` link of a person, or of a room by its alias."""
    return "https://matrix.to/#/" + quote(identifier, safe="@:!$&'()*+,;=")
