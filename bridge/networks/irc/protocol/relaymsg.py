"""Speaking for others by name (IRCv3 ``draft/relaymsg``): names, limits, refusals. Pure."""

from bridge.networks.irc.format import strip_codes
from bridge.networks.irc.protocol.isupport import Isupport
from bridge.networks.irc.wire import Incoming, cut
from bridge.sdk.errors import PermanentFailure

CAPABILITY = TAG = "draft/relaymsg"
COMMAND = "RELAYMSG"
_FORBIDDEN = frozenset("!+%@&#$:'\"?*,.<>")
"""What the specification has servers refuse in a name, and what looks like our own frame."""
_REFUSALS = frozenset({"481", "482", "573"})


class RelayRefused(PermanentFailure):
    """The server does not let us speak for others so."""


def relay_nick(name: str, separators: str, limits: Isupport) -> str:
    """Make the name that somebody has on the network: with one of the signs that no nick holds.

    A server that names no such signs gets a suffix that no reader takes for somebody's nick.
    """
    suffix = f"{separators[0]}m" if separators else "[m]"
    plain = "".join(
        sign for sign in "_".join(name.split())
        if sign.isprintable() and sign not in _FORBIDDEN and sign not in separators
    )  # fmt: skip
    most = min(limits.nick_length, 64) - len(suffix.encode())
    return (cut(plain, most) or "someone") + suffix


def relay_refusal(reply: Incoming) -> RelayRefused | None:
    """Read a reply as the refusal of a ``RELAYMSG``; None if it is not one."""
    is_fail = reply.command == "FAIL" and reply.param(0).upper() == COMMAND
    is_unknown = reply.command == "421" and reply.param(1).upper() == COMMAND
    if not is_fail and not is_unknown and reply.command not in _REFUSALS:
        return None
    return RelayRefused(f"The server did not relay it (it says: {strip_codes(reply.param(-1))})")


def relayed_by(message: Incoming) -> str:
    """Return who had something said in another's name; empty if nobody."""
    return message.tags.get(TAG, "")
