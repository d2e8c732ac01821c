"""What somebody who has another user name now went by before: bans of that still hold.

The server sees the new name alone, so the bridge looks before it joins a channel.
"""

import re
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress

from bridge.networks.irc.connections.connection import Connection
from bridge.networks.irc.connections.inquiry import Inquiries
from bridge.networks.irc.names.usernames import as_seen
from bridge.networks.irc.network.network import Network
from bridge.networks.irc.protocol import replies
from bridge.networks.irc.protocol.isupport import Isupport
from bridge.networks.irc.wire import Source
from bridge.sdk.errors import DeliveryError, PermanentFailure
from bridge.sdk.globs import Glob

# Some servers put before a mask what the ban is of: InspIRCd's ``m:`` of speaking, say.
_KIND = re.compile(r"\A~?\w+:(?=[^!]*!)")


def former_bans(
    connection: Connection, inquiries: Inquiries, names: Sequence[str], network: Network
) -> Callable[[str], Awaitable[None]] | None:
    """Make what raises ``PermanentFailure`` for a channel that bans one of the user names.

    None where there is nothing to ask.
    """

    async def look(channel: str) -> None:
        for mask in await _masks(channel, network.relay, inquiries):
            if is_of_former(mask, connection.own, names, connection.isupport):
                raise PermanentFailure(
                    f"{channel} cannot be joined: it bans {mask}, which is a user name that you "
                    "had. A ban is not got round: ask the channel's operators"
                )

    return look if names else None


async def _masks(channel: str, relay: Inquiries | None, own: Inquiries) -> list[str]:
    if relay is not None:
        # It is there already, and some servers show the list to members alone.
        with suppress(DeliveryError):
            return await relay.bans(channel)
    with suppress(replies.CommandRefusedError):  # Nor is every channel there yet.
        return await own.bans(channel)
    return []


def is_of_former(mask: str, own: Source, names: Sequence[str], limits: Isupport) -> bool:
    """Whether a mask bans somebody by one of the user names of before, with ``~`` or without."""
    nick, _, where = _KIND.sub("", mask).partition("!")
    user, _, host = where.rpartition("@")
    if not user.strip("*?~"):
        return False  # It is about the nick or the host: the server sees those itself.
    shown = {f"{tilde}{one}" for name in names for one in (name, as_seen(name, limits))
             for tilde in ("", "~")}  # fmt: skip
    return (
        Glob(limits.fold(nick)).matches(limits.fold(own.nick))
        and (not own.host or Glob(host.lower()).matches(own.host.lower()))
        and any(map(Glob(user.lower()).matches, shown))
    )
