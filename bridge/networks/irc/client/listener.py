"""What one connection reads, line by line, to all who follow it."""

from dataclasses import dataclass, field
from functools import partial

from bridge.networks.irc.channels.channels import Channels
from bridge.networks.irc.channels.locks import Locks
from bridge.networks.irc.channels.memberships import Memberships
from bridge.networks.irc.client.nickkeeper import NickKeeper
from bridge.networks.irc.client.renames import Renames
from bridge.networks.irc.connections.connection import Connection
from bridge.networks.irc.connections.inquiry import Inquiries
from bridge.networks.irc.messages.ears import Ears
from bridge.networks.irc.messages.inbox import Deed, Inbox
from bridge.networks.irc.network.history import Heard
from bridge.networks.irc.network.network import Network
from bridge.networks.irc.network.people import account_id
from bridge.networks.irc.private.private import Doorman
from bridge.networks.irc.protocol import replies
from bridge.networks.irc.protocol.latesignin import SPOKEN, LateSignIn
from bridge.networks.irc.wire import Incoming
from bridge.sdk.errors import DeliveryError
from bridge.sdk.events import RemoteShutOut
from bridge.sdk.ids import LoginId, RemoteChatId
from bridge.sdk.module import Host

Inward = Inbox[Heard | Deed]


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
    late: LateSignIn
    inquiries: Inquiries
    doorman: Doorman
    ears: Ears | None
    inbox: Inward
    renames: Renames
    _locks: Locks | None = field(init=False, default=None)
    """Of a person's connection."""
    _told: bool = False
    """That a line was passed over is logged once: whoever makes us do it can do it for ever."""

    def __post_init__(self) -> None:
        if self.ears is None:
            find_key = partial(self.network.keys.find_named, self.network.chat, is_kept=True)
            self._locks = Locks(self.connection, self.channels.is_in, find_key)

    async def listen(self) -> None:
        """Read until the connection ends, and raise why.

        A line of which nothing can be made ends nothing: it may be anybody's.
        """
        connection = self.connection
        late = self.late.begin(
            is_signed_in=connection.is_signed_in, is_refused=connection.is_refused
        )
        for one in late:
            connection.write(one)
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
            return  # Those who heed it have heard it from the connection.
        if not is_speech:
            self.network.hold(self.login, connection.own)
            self.network.note_server(self.login, connection.means, connection.capabilities)
        if message.command == replies.ISUPPORT:
            self.network.learn(connection.isupport)
        elif message.command in SPOKEN and not message.is_replayed:
            for one in self.late.follow(message, is_own=connection.is_own):
                connection.write(one)
        is_overheard = False
        if not message.is_replayed:
            if not is_speech:
                message = await self._follow_name(message)
                is_put_out = self._is_put_out(message)
                self.channels.handle(message)
                self._come_in(message)
                if self._locks is not None:
                    self._locks.handle(message)
                if is_put_out:
                    self.memberships.put_out_of(message.param(0), connection.isupport.fold)
            self.keeper.handle(message)
            is_overheard = self.inquiries.handle(message)
        if not is_overheard and (told := self.doorman.handle(message)):
            await self.inbox.put(*told)
        if self.ears is not None and (heard := self.ears.hear(message)):
            await self.inbox.put(*heard)

    async def _follow_name(self, message: Incoming) -> Incoming:
        """Learn whether a channel is called otherwise now; return the line as all others are to
        follow it.

        Nobody agreed that what is said under the new name is carried, so we leave it.
        """
        renaming, fold = self.renames.see(message), self.connection.isupport.fold
        if renaming is None:
            return message
        chat = self.memberships.renamed(
            renaming.old, renaming.new, fold, is_whole=renaming.is_whole
        )
        if renaming.is_whole and chat is not None and self.ears is not None:
            told = RemoteShutOut(chat=chat.id, reason=self.memberships.name_trouble(chat))
            await self.inbox.put(Heard(told, chat.id))
        if message.command != "RENAME":
            return message
        self.channels.leave_unasked(message.param(1))
        # To all others it is what a server says that cannot tell it.
        return Incoming("PART", (renaming.old, message.param(2)), self.connection.own)

    def _come_in(self, message: Incoming) -> None:
        """A channel into which we come, as we wished, has the name that it is bridged by."""
        name, is_join = message.param(0), message.command == "JOIN"
        if is_join and self.connection.is_own(message.source) and self.channels.is_in(name):
            chat = RemoteChatId(self.connection.isupport.fold(name))
            self.network.renamed.forget(chat)

    def _is_put_out(self, message: Incoming) -> bool:
        """Whether we are kicked, or made to leave a channel (``SAPART``, ``REMOVE``): one that we
        leave ourselves we are out of as soon as that is written."""
        if message.command == "PART" and self.connection.is_own(message.source):
            return self.channels.is_in(message.param(0))
        return message.command == "KICK" and self.connection.is_own(message.named(1))

    def _pass_over(self, message: Incoming, why: DeliveryError) -> None:
        if not self._told:
            self._told = True
            self.host.log.warning(
                "A line (%s) from %s was passed over: %s Others like it are not logged.",
                message.command[:20], self.connection.server, why,
                extra={"event": "irc_line_passed_over"},
            )  # fmt: skip
