"""What one connection reads, line by line, to all who follow it."""

from dataclasses import dataclass
from functools import partial

from bridge.networks.irc.channels.channels import Channels
from bridge.networks.irc.channels.memberships import Memberships
from bridge.networks.irc.client.nickkeeper import NickKeeper
from bridge.networks.irc.connections.connection import Connection
from bridge.networks.irc.connections.inquiry import Inquiries
from bridge.networks.irc.messages.ears import Ears
from bridge.networks.irc.messages.inbox import Deed, Inbox
from bridge.networks.irc.network.history import Heard
from bridge.networks.irc.network.network import Network
from bridge.networks.irc.network.people import account_id
from bridge.networks.irc.private.private import Doorman
from bridge.networks.irc.protocol import replies
from bridge.networks.irc.wire import Incoming
from bridge.sdk.errors import DeliveryError
from bridge.sdk.ids import LoginId
from bridge.sdk.module import Host

Inward = Inbox[Heard | Deed]
_RENAMED = "Channel renamed"
"""So begins why we leave a channel, by what Ergo says to those without draft/channel-rename: who
came back by the old name would make an empty one."""


@dataclass(slots=True, kw_only=True)
class Listener:
    """Hands each line to those whom it may concern."""

    login: LoginId
    host: Host
    network: Network
    connection: Connection
    memberships: Memberships
    channels: Channels
    keeper: NickKeeper
    inquiries: Inquiries
    doorman: Doorman
    ears: Ears | None
    inbox: Inward
    _told: bool = False
    """That a line was passed over is logged once: whoever makes us do it can do it for ever."""

    async def listen(self) -> None:
        """Read until the connection ends, and raise why.

        A line of which nothing can be made ends nothing: it may be anybody's.
        """
        connection = self.connection
        while True:
            while connection.accounts:
                account = account_id(connection.isupport.fold(connection.accounts.pop(0)))
                await self.inbox.put(partial(self.host.identify, account))
                self.doorman.signed_in()
            message = await connection.read()
            if connection.unanswered is not None:
                self._pass_over(message, connection.unanswered)
                connection.unanswered = None
            try:
                await self._follow(message)
            except DeliveryError as error:
                self._pass_over(message, error)

    async def _follow(self, message: Incoming) -> None:
        connection, is_speech = self.connection, message.command in replies.SPEAKING
        if message.command == "PONG" and self.ears is None:
            self.inquiries.handle(message)  # One comes for each message; nobody else heeds it.
            return
        if not is_speech:
            self.network.hold(self.login, connection.own)
            self.network.note_server(self.login, connection.means, connection.capabilities)
        if message.command == replies.ISUPPORT:
            self.network.learn(connection.isupport)
        is_overheard = False
        if not message.is_replayed:
            is_put_out = self._is_put_out(message)
            if not is_speech:
                self.channels.handle(message)
            if is_put_out:
                self.memberships.put_out_of(message.param(0), connection.isupport.fold)
            self.keeper.handle(message)
            is_overheard = self.inquiries.handle(message)
        if not is_overheard:
            await self.inbox.put(*self.doorman.handle(message))
        if self.ears is not None and (heard := self.ears.hear(message)):
            await self.inbox.put(*heard)

    def _is_put_out(self, message: Incoming) -> bool:
        """Whether we are kicked, or made to leave a channel (``SAPART``, ``REMOVE``): one that we
        leave ourselves we are out of as soon as that is written."""
        if message.command == "PART" and self.connection.is_own(message.source):
            is_renamed = message.param(1).startswith(_RENAMED)
            return self.channels.is_in(message.param(0)) and not is_renamed
        return message.command == "KICK" and self.connection.is_own(message.named(1))

    def _pass_over(self, message: Incoming, why: DeliveryError) -> None:
        if not self._told:
            self._told = True
            self.host.log.warning(
                "A line (%s) from %s was passed over: %s Others like it are not logged.",
                message.command[:20], self.connection.server, why,
                extra={"event": "irc_line_passed_over"},
            )  # fmt: skip
