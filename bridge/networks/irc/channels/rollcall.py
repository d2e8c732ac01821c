"""Asking a server who is in a channel, from outside too, and who somebody is."""

from collections.abc import Mapping

from bridge.networks.irc.channels.whereabouts import find_person
from bridge.networks.irc.connections.connection import Connection
from bridge.networks.irc.connections.inquiry import Inquiries, Priority
from bridge.networks.irc.protocol import replies
from bridge.networks.irc.wire import Incoming, Source, line

MOST_NAMES = 20_000


class RollCall:
    """What one connection's server is asked about people."""

    def __init__(self, connection: Connection, inquiries: Inquiries) -> None:
        self._connection = connection
        self._inquiries = inquiries

    async def find_person(self, nick: str, priority: Priority) -> Source | None:
        """Who goes by a nick now, with user and host; None if nobody does.

        Raises a ``DeliveryError``.
        """
        return await find_person(self._inquiries, nick, self._connection.isupport.fold, priority)

    async def names(self, channel: str, priority: Priority) -> Mapping[str, str]:
        """Who is in the channel, as far as we may know: nick to the signs before it.

        Raises a ``DeliveryError``.
        """
        signs, names = "".join(self._connection.isupport.prefixes), dict[str, str]()

        def note(message: Incoming) -> None:
            for word in message.param(-1).split() if len(names) < MOST_NAMES else ():
                bare = word.lstrip(signs)
                nick = Source.parse(bare).nick
                if nick:
                    names[nick] = word[: len(word) - len(bare)]

        await self._inquiries.follow(
            line("NAMES", channel), wanted={replies.NAMES}, last={replies.END_OF_NAMES},
            channel=channel, hear=note, priority=priority,
        )  # fmt: skip
        return names

    async def moderators(self, channel: str, priority: Priority) -> Mapping[str, str]:
        """Those of the channel who run it: operators and whoever stands above them."""
        signs = set(operator_signs(self._connection.isupport.prefixes))
        names = await self.names(channel, priority)
        return {nick: held for nick, held in names.items() if signs.intersection(held)}


def operator_signs(prefixes: Mapping[str, str]) -> str:
    """The signs of operators and of those above them; a server tells them by rank."""
    found = ""
    for sign, mode in prefixes.items():
        found += sign
        if mode == "o":
            return found
    return ""
