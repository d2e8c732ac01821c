"""Single values of a network's settings: what can never work is refused with a sentence.

What lies outside, a file say, is looked at when it is used: one network without it ends no other.
"""

import re
from collections.abc import Callable
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema

from bridge.networks.irc.names.nicks import NICK_RULE, is_nick
from bridge.networks.irc.names.targets import read_person
from bridge.networks.irc.wire import clean
from bridge.sdk.errors import PermanentFailure
from bridge.sdk.secret import Secret

MOST_NICK = 50
"""Characters: more than any network is known to take, and few take more than 30."""


def one_line(text: str) -> str:
    """Give the text back if a line can carry it; else raise ``ValueError``."""
    if clean(text) != text:
        raise ValueError("it holds a line break or a NUL, which no IRC line can carry")
    return text


def _hide(value: object) -> object:
    if not isinstance(value, str):
        return value
    return Secret(one_line(value))


SecretText = Annotated[
    Secret,
    BeforeValidator(_hide),
    WithJsonSchema({"type": "string", "format": "password"}),
]
"""A text that is shown nowhere once it is read."""


def _one_host(text: str) -> str:
    # One colon stands before a port; an IPv6 address has more.
    is_one = text.count(":") != 1 and not any(one in "/[]" or one.isspace() for one in text)
    try:
        text.encode("idna")  # As every connection does.
    except UnicodeError:
        is_one = False
    if not (is_one and text.isprintable()):
        raise ValueError(
            f"{text!r} is no host: give its name or address alone, irc.example.org say; "
            "a port has a key of its own, and so has tls"
        )
    return text


Host = Annotated[str, Field(min_length=1), AfterValidator(_one_host)]


def read_listen(text: str) -> tuple[str, int]:
    """Read ``address:port``. Raises ``ValueError`` for anything else."""
    host, colon, port = text.rpartition(":")
    if not colon or not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise ValueError("give it as address:port, 0.0.0.0:113 say")
    return _one_host(host.strip("[]")), int(port)


def _own_nick(text: str) -> str:
    if not is_nick(text):
        raise ValueError(f"{text!r} is no IRC nick: {NICK_RULE}")
    if len(text) > MOST_NICK:
        raise ValueError(f"a nick has at most {MOST_NICK} characters, on most networks 30 or less")
    return text


OwnNick = Annotated[str, AfterValidator(_own_nick)]
"""One that every server takes, its length aside."""


def _reading(read: Callable[[str], str]) -> Callable[[str], str]:
    def check(text: str) -> str:
        try:
            return read(text)
        except PermanentFailure as error:
            raise ValueError(str(error).rstrip(".")) from error

    return check


def _any_nick(text: str) -> str:
    # Some networks have nicks that others refuse: one that begins with a digit, say.
    if not text.isprintable() or re.search(r"^[#&:]|[ ,!@*?]|^$", text):
        raise ValueError(f"{text!r} is no IRC nick: no network has such a one")
    return text


AnyNick = Annotated[str, AfterValidator(_any_nick)]
"""Anybody's, on any network."""
Service = Annotated[str, AfterValidator(_reading(read_person))]
"""A nick, with its server or without."""
