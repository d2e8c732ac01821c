"""What one client says and does in channels that it is in."""

import asyncio
from collections.abc import Sequence

from bridge.networks.irc.connections.connection import Connection
from bridge.networks.irc.connections.sending import Delivered
from bridge.networks.irc.messages.mentions import without_nicks
from bridge.networks.irc.messages.reactions import Reactions
from bridge.networks.irc.messages.speech import compose, relayed_name
from bridge.networks.irc.network.network import Network
from bridge.networks.irc.network.relayednames import SIGN
from bridge.networks.irc.protocol.acts import (
    REDACTION,
    TAGS,
    answering,
    is_of_network,
    reacting,
    redacting,
    unreacting,
)
from bridge.networks.irc.protocol.relaymsg import RelayRefused, relay_nick
from bridge.networks.irc.wire import Line
from bridge.sdk.errors import Unsupported
from bridge.sdk.events import Message, Reaction, Receipt, Redaction, RemoteChat
from bridge.sdk.ids import EventId, RemoteChatId, RemoteMessageId
from bridge.sdk.module import Host
from bridge.sdk.rich import Mention


class Voice:
    """Brings messages, reactions and deletions to a connection, and waits for its word."""

    def __init__(self, network: Network, host: Host) -> None:
        self._network = network
        self._host = host
        self._settings = network.settings
        self._reactions = Reactions(host)
        self._no_relaying: set[RemoteChatId] = set()
        """Where the server does not let us speak in others' names."""
        self._stops: dict[asyncio.Future[None], EventId] = {}
        """What ends the saying of a message, which may go to several channels."""

    def begin_anew(self) -> None:
        """Forget what the last server did not let us do."""
        self._no_relaying.clear()

    def stop(self, event_id: EventId) -> bool:
        """Write no more lines of a message; False if none is being written."""
        found = [
            stop for stop, said in self._stops.items() if said == event_id and not stop.done()
        ]
        for stop in found:
            stop.set_result(None)
        return bool(found)

    def begin(self, event_id: EventId) -> asyncio.Future[None]:
        """Let a message be stopped that is to be said; give what is done when it is."""
        stop: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._stops[stop] = event_id
        return stop

    def end(self, stop: asyncio.Future[None]) -> None:
        """Take note that no more of it will be said."""
        del self._stops[stop]

    async def say(
        self,
        connection: Connection,
        chat: RemoteChat,
        message: Message,
        stop: asyncio.Future[None],
    ) -> Receipt:
        """Say the message, or what of it was written before ``stop`` was done. Returns when the
        network has taken it: see ``Connection.deliver``."""
        if stop.done():
            return Receipt()
        speaks_as = self._name_in_which(message, connection)
        while True:
            lines = self._lines(message, chat, connection, speaks_as)
            try:
                return await self._deliver(connection, chat, lines, stop)
            except RelayRefused as error:
                self._host.log.info("%s", error, extra={"event": "irc_relay_refused"})
                self._no_relaying.add(chat.id)
                speaks_as = ""

    def _lines(
        self, message: Message, chat: RemoteChat, connection: Connection, speaks_as: str
    ) -> list[Line]:
        called = self._called(message) if message.relayed and not speaks_as else ""
        lines = compose(
            message,
            chat.name,
            own=connection.own,
            limits=connection.isupport,
            settings=self._settings,
            name_of=self._name_of,
            speaks_as=speaks_as,
            called=called,
        )
        if message.reply_to:
            lines[0] = answering(lines[0], message.reply_to)
        return lines

    def _called(self, message: Message) -> str:
        """How the name is written by which we speak for somebody, who may be called by it."""
        name, network = relayed_name(message.sender), self._network
        network.relayed.spoke(message.chat, message.sender.user_id, name.replace(SIGN, ""))
        if not self._settings.quiet_names:
            return name
        return without_nicks(name, lambda word: network.find_person(word) is not None)

    def _name_in_which(self, message: Message, connection: Connection) -> str:
        """The name that the server puts before what we say for somebody; empty if it does not."""
        separators = connection.relay_separators
        wanted = message.relayed and self._settings.relaymsg
        if separators is None or not wanted or message.chat in self._no_relaying:
            return ""
        name = message.sender.name or message.sender.user_id
        return relay_nick(name, separators, connection.isupport)

    def _name_of(self, mention: Mention) -> str:
        if mention.remote is not None:
            # A link may show any name; who is called is who stands behind it.
            is_right = self._network.fold(mention.name) == mention.remote
            return mention.name if is_right else mention.remote
        known = self._network.nick_held_by(mention.user)
        return known or self._network.nicks(self._host.store).nick_of(mention.user) or mention.name

    async def react(
        self, connection: Connection, chat: RemoteChat, reaction: Reaction
    ) -> Receipt | None:
        """React by a tag. The relay does not for others: nobody would see for whom."""
        if reaction.relayed or not _can_react(connection) or not is_of_network(reaction.target):
            return self._cannot("reactions", self._settings.reactions)
        one = reacting(chat.name, reaction.target, reaction.key)
        receipt = await self._deliver(connection, chat, [one])
        await self._reactions.note(receipt.remote_ids[0], reaction)
        return receipt

    async def redact(
        self, connection: Connection, chat: RemoteChat, redaction: Redaction
    ) -> Receipt | None:
        """Take back what the server knows of a message, or one's own reaction by a tag."""
        can_unreact = _can_react(connection) and connection.isupport.allows_tag("draft/unreact")
        reaction = await self._find_reaction(redaction) if can_unreact else None
        if reaction is not None:
            receipt = await self._deliver(connection, chat, [unreacting(chat.name, *reaction)])
            await self._reactions.forget(redaction.targets[0])
            return receipt
        known = [one for one in redaction.targets if is_of_network(one)]
        if REDACTION not in connection.capabilities or not known:
            return self._cannot("deletions", self._settings.redactions)
        return await self._deliver(connection, chat, redacting(chat.name, known, redaction.reason))

    async def _find_reaction(self, redaction: Redaction) -> tuple[str, str] | None:
        """What is taken back, if it is a reaction of who takes it back: one line, of one id."""
        is_own = redaction.is_own and not redaction.relayed
        if not is_own or len(redaction.targets) != 1:
            return None
        return await self._reactions.find(redaction.targets[0])

    @staticmethod
    def _cannot(what: str, instead: str) -> None:
        if instead == "text":
            raise Unsupported(f"the server has no {what}, or does not know the message")

    async def _deliver(
        self,
        connection: Connection,
        chat: RemoteChat,
        lines: Sequence[Line],
        stop: asyncio.Future[None] | None = None,
    ) -> Receipt:
        delivered = await connection.deliver(chat.name, lines, self._host.now, stop)
        self._network.sent(delivered.remote_ids)
        if delivered.cut:
            self._host.log.warning(
                "%s passed on only the beginning of %d of %d lines",
                connection.server, delivered.cut, len(lines), extra={"event": "irc_line_cut"},
            )  # fmt: skip
        return Receipt(remote_ids=self._ids(delivered), sent_at=delivered.sent_at)

    def _ids(self, delivered: Delivered) -> tuple[RemoteMessageId, ...]:
        """Give the network's ids of the lines, or one of ours for a message without any."""
        if not any(delivered.remote_ids):
            return (RemoteMessageId(self._network.new_message_id()),)
        return tuple(
            RemoteMessageId(one or self._network.new_message_id()) for one in delivered.remote_ids
        )


def _can_react(connection: Connection) -> bool:
    return TAGS in connection.capabilities and connection.isupport.allows_reactions
