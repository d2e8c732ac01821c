"""Sees by the lines of one connection that a channel which we are in gets another name.

A server tells it by ``RENAME`` to those who know that (IRCv3 ``draft/channel-rename``), and to
others by having them leave the one name and come to the other. That alone tells nothing: operators
move people so, too, and the channel stays. Ergo says in words what it means.
"""

from dataclasses import dataclass

from bridge.networks.irc.channels.channels import Channels
from bridge.networks.irc.connections.connection import Connection
from bridge.networks.irc.protocol.replies import is_renamed
from bridge.networks.irc.wire import Incoming

_WORDS = "Channel renamed"
"""So begins why we leave a channel, with Ergo."""


@dataclass(frozen=True, slots=True)
class Renaming:
    """A channel's old name and its new one, which is empty if it is not told."""

    old: str
    new: str
    is_whole: bool = True
    """What comes next can tell no more."""


class Renames:
    """Follows one connection, each line before the channels do."""

    def __init__(self, connection: Connection, channels: Channels) -> None:
        self._connection = connection
        self._channels = channels
        self._left = ""
        """The channel that the line before had us leave, saying that it is renamed."""

    def see(self, message: Incoming) -> Renaming | None:
        """Follow one line; return what it tells of a name."""
        left, self._left = self._left, ""
        is_own, limits = self._connection.is_own(message.source), self._connection.isupport
        match message.command:
            case "RENAME" if self._channels.is_in(message.param(0)):
                if limits.names_channel(message.param(1)):  # Else it means nothing.
                    return self._between(message.param(0), message.param(1))
            case "FAIL" if is_renamed(message):
                return self._between(message.param(2), message.param(3))
            case "JOIN" if is_own and left:
                renaming = self._between(left, message.param(0))
                if renaming is None:
                    self._channels.stay(left)
                return renaming
            case "PART" if is_own and self._channels.is_in(message.param(0)):
                if message.param(1).startswith(_WORDS):
                    self._left = message.param(0)
                    return Renaming(self._left, "", is_whole=False)
        return Renaming(left, "") if left else None

    def _between(self, old: str, new: str) -> Renaming | None:
        """None where only the case of letters changes: it is the same channel."""
        limits = self._connection.isupport
        if limits.fold(old) == limits.fold(new):
            return None
        return Renaming(old, new if limits.names_channel(new) else "")
