"""What a server's refusals mean, in sentences, and what is to be done about them."""

import re

from bridge.networks.irc.format import strip_codes
from bridge.networks.irc.wire import Incoming
from bridge.sdk.errors import (
    DeliveryError,
    LoginRequired,
    ModuleError,
    ModuleNotReady,
    PermanentFailure,
    TemporaryFailure,
)

WELCOME, ISUPPORT = "001", "005"
END_OF_MOTD, NO_MOTD = "376", "422"
NAMES, END_OF_NAMES = "353", "366"
HOST_HIDDEN = "396"
CANNOT_SEND = "404"

JOIN_REFUSED = {
    "403": "there is no such channel",
    "405": "we are in too many channels there",
    "442": "we are not in it",
    "448": "the network does not accept this name",
    "470": "the network sends us to another channel",
    "471": "the channel is full",
    "473": "it is for invited people only",
    "474": "we are banned from it",
    "475": "it needs a key",
    "476": "the network does not accept this name",
    "477": "it is for registered nicks only",
    "479": "the network does not accept this name",
    "485": "we may not join it",
    "489": "it is for encrypted connections only",
    "500": "too many people join it now",
    "519": "it is for administrators of the network only",
    "520": "it is for operators of the network only",
}
JOIN_LATER = {
    "407": "too many names at once",
    "437": "the channel cannot be joined for the moment",
    "263": "the server is too busy",
    "439": "the server asks us to slow down",
    "480": "too many people join it now",
}
NICK_TAKEN = frozenset({"433", "436", "437"})
NICK_REFUSED = frozenset({"432"})
NICK_LATER = frozenset({"438", "447", "484"})

SASL_DONE = frozenset({"903", "907"})
SASL_REFUSED = frozenset({"902", "904", "905", "906"})

# Not every server has a numeric for these: some only say it in their ERROR.
_BANNED = re.compile(
    r"\b(?:[gkzqdx][- ]?lined?|banned|blacklisted|access denied|bad password"
    r"|password (?:incorrect|mismatch))\b",
    re.IGNORECASE,
)


def join_refusal(reply: Incoming, channel: str) -> DeliveryError | None:
    """Read a numeric as the answer to a join; None if it is none."""
    said = strip_codes(reply.param(-1))
    if reply.command in JOIN_REFUSED:
        reason = JOIN_REFUSED[reply.command]
        return PermanentFailure(f"{channel} cannot be joined: {reason} (the server: {said})")
    if reply.command in JOIN_LATER:
        reason = JOIN_LATER[reply.command]
        return TemporaryFailure(f"{channel} cannot be joined now: {reason} (the server: {said})")
    return None


def send_refusal(reply: Incoming, channel: str) -> PermanentFailure:
    """Read a 404: the channel's modes or bans keep us from speaking."""
    said = strip_codes(reply.param(-1))
    return PermanentFailure(f"{channel} does not let this user speak (the server: {said})")


def ended(server: str, error: str) -> ModuleError:
    """Explain why a connection ended, by the server's last ``ERROR``."""
    said = strip_codes(error)
    if not said:
        return ModuleNotReady(f"{server} closed the connection.")
    if _BANNED.search(said):
        # Coming back would be knocking at a door that a person shut.
        return LoginRequired(f"{server} does not let us in: {said}")
    return ModuleNotReady(f"{server} closed the connection: {said}")
