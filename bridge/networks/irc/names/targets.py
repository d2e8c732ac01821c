"""What people type as a channel, a nick or a mask, read strictly.

Two published takeovers of another bridge's channels began with a comma or a control character in
a name, so nothing is repaired here: what is not one is refused.
"""

import re

from bridge.networks.irc.names.nicks import NICK_RULE, is_nick
from bridge.networks.irc.protocol.isupport import Isupport
from bridge.sdk.errors import PermanentFailure
from bridge.sdk.events import RemoteChat
from bridge.sdk.ids import RemoteChatId

_MASK = re.compile(r"[^\x00-\x20,:\x7f][^\x00-\x20,\x7f]{0,199}\Z")
_MOST_NICK = 64
_SERVICE = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]{0,63}\Z")


def read_channel(text: str, limits: Isupport) -> RemoteChat:
    """Read a channel's name. Raises ``PermanentFailure`` with what is wrong with it."""
    name = text.strip()
    if not limits.names_channel(name):
        raise PermanentFailure(
            f"{name[:50]!r} is no channel of this network. A channel's name begins with one "
            f"of {' '.join(limits.channel_types)} and has no space, comma or colon."
        )
    if len(name.encode()) > limits.channel_length:
        raise PermanentFailure(
            f"The channel's name has {len(name.encode())} bytes; this network allows "
            f"{limits.channel_length}."
        )
    if not name.isascii() and limits.knows_ascii_alone:
        raise PermanentFailure(
            f"This network compares names by a rule ({limits.casemapping[:30]}) that this bridge "
            "does not know: one channel could be bridged as two. A name in ASCII can be bridged."
        )
    return RemoteChat(id=RemoteChatId(limits.fold(name)), name=name)


def read_nick(text: str) -> str:
    """Read somebody's nick. Raises ``PermanentFailure`` if it is not one.

    Some networks take letters of all the world, and signs: whatever is no ASCII and can be seen.
    """
    name = text.strip()
    ascii_part = "".join(one if one.isascii() else "x" for one in name)
    if len(name) > _MOST_NICK or not (is_nick(ascii_part) and name.isprintable()):
        raise PermanentFailure(f"{name[:50]!r} is no IRC nick{_instead_of(name)}.")
    return name


def _instead_of(name: str) -> str:
    """What it is that was taken for a nick, else what a nick is."""
    if name[:1] == "@" and ":" in name:
        return " but a Matrix id: their nick on the network goes here"
    if name[:1] in {"#", "&"}:
        return " but a channel: a person's nick goes here"
    return f": {NICK_RULE}"


def read_own_nick(text: str) -> str:
    """Read a nick for one of ours: what every network takes. Raises ``PermanentFailure``."""
    name = read_nick(text)
    if not is_nick(name):
        raise PermanentFailure(f"{name!r} is no IRC nick that this bridge can take: {NICK_RULE}.")
    return name


def read_person(text: str) -> str:
    """Read a nick, or a service with its server: ``NickServ@services.example.org``."""
    nick, at, server = text.strip().partition("@")
    if at and not _SERVICE.match(server):
        raise PermanentFailure(f"{server[:50]!r} is no server of services.")
    return read_nick(nick) + at + server


def read_mask(text: str) -> str:
    """Read a mask of people, ``*!*@host.example``. Raises ``PermanentFailure`` if it is not one.

    One that is about everybody is refused: it would be a ban of the bridge, too.
    """
    mask = text.strip()
    if not _MASK.match(mask) or not any(sign in mask for sign in "!@$"):
        raise PermanentFailure(f"{mask[:50]!r} is no mask: it looks like *!*@host.example.")
    if not mask.strip("*!@?.$:~"):
        raise PermanentFailure(f"{mask[:50]!r} is everybody.")
    return mask
