"""Channels with a key (``+k``) that end with their last member and are made anew by a person's
own connection: the key is theirs again."""

from collections.abc import Callable

from bridge.networks.irc.channels.channels import FindKey
from bridge.networks.irc.connections.connection import Connection
from bridge.networks.irc.protocol import replies
from bridge.networks.irc.protocol.modes import rank_of
from bridge.networks.irc.wire import Incoming, line
from bridge.sdk.events import Rank


class Locks:
    """Sets the key that is kept on a channel in which a connection is the first.

    What the relay makes anew it locks itself, by what it hears of the channel.
    """

    def __init__(
        self, connection: Connection, is_in: Callable[[str], bool], find_key: FindKey
    ) -> None:
        """``find_key`` gives a key that is kept, not one that somebody has just said."""
        self._connection = connection
        self._is_in = is_in
        self._find_key = find_key
        self._ours: dict[str, bool] = {}
        """Channels, folded, of which the list of names that comes with our join is not whole:
        whether we, alone as yet, may set modes there."""

    def handle(self, message: Incoming) -> None:
        """Follow one line."""
        fold = self._connection.isupport.fold
        if message.command == "JOIN" and self._connection.is_own(message.source):
            name = message.param(0)
            if self._is_in(name) and self._find_key(name, fold) is not None:
                self._ours[fold(name)] = False
        elif self._ours and message.command in {replies.NAMES, replies.END_OF_NAMES}:
            name = replies.channel_of(message)
            if message.command == replies.NAMES:
                self._learn(fold(name), message)
            elif self._ours.pop(fold(name), False):
                self._lock(name)

    def _learn(self, channel: str, message: Incoming) -> None:
        prefixes = self._connection.isupport.prefixes
        for signs, who in message.listed("".join(prefixes)):
            if not self._connection.is_own(who):
                self._ours.pop(channel, None)
            elif channel in self._ours:
                letters = "".join(prefixes[sign] for sign in signs)
                self._ours[channel] = rank_of(letters) >= Rank.MODERATOR

    def _lock(self, name: str) -> None:
        key = self._find_key(name, self._connection.isupport.fold)
        if key is not None and self._is_in(name):
            self._connection.write(line("MODE", name, "+k", key.reveal()))
