"""One login's client: the relay listens and speaks, a puppet only speaks."""

import asyncio

from bridge.networks.irc import replies
from bridge.networks.irc.channels import Channels
from bridge.networks.irc.connection import Connection, connect
from bridge.networks.irc.inbox import Inbox
from bridge.networks.irc.link import Link
from bridge.networks.irc.members import Roster, Speakers
from bridge.networks.irc.naming import Naming
from bridge.networks.irc.network import Network
from bridge.networks.irc.private import Doorman
from bridge.networks.irc.speech import compose, read_text, read_time
from bridge.networks.irc.wire import Incoming, line
from bridge.sdk.errors import (
    DeliveryError,
    ModuleError,
    ModuleNotReady,
    PermanentFailure,
    TemporaryFailure,
)
from bridge.sdk.events import Message, Receipt, RemoteChat, RemoteEvent, RemoteMessage
from bridge.sdk.ids import RemoteChatId, RemoteMessageId
from bridge.sdk.login import Login, LoginKind, LoginState
from bridge.sdk.module import Host
from bridge.sdk.rich import Mention

REGAIN_SECONDS = 60.0
"""How often a client that goes by another nick asks for its own."""
LONGEST_REJOIN_SECONDS = 3600.0
DRAIN_SECONDS = 2.0
"""How long what was read already may take to be stored, when we are stopped."""
STORE_AGAIN_SECONDS = 1.0


class IrcClient:
    """A connection to IRC for one login. The relay's is the instance's only listener."""

    def __init__(self, login: Login, host: Host, network: Network) -> None:
        self._login = login
        self._host = host
        self._network = network
        self._settings = network.settings
        self._naming = Naming(login, host.store, network)
        self._link = Link()
        self._needed = asyncio.Event()
        if login.kind is not LoginKind.AUTOMATIC:
            self._needed.set()
        self._chats: dict[RemoteChatId, RemoteChat] = {}
        self._speakers = Speakers(host.store) if self._settings.members == "speakers" else None
        self._roster: Roster | None = None
        self._kicked: asyncio.Queue[RemoteChat] = asyncio.Queue()
        self._kicks: dict[RemoteChatId, int] = {}
        self._own_nick = ""
        self._next_regain = 0.0

    async def run(self) -> None:
        """Stay connected until cancelled. A puppet waits for its first message before."""
        if not self._needed.is_set():
            self._host.report(LoginState.STARTING, "It connects with the first message.")
            await self._needed.wait()
        self._link.starting()
        failure: ModuleError = ModuleNotReady("The connection to IRC was stopped.")
        try:
            async with connect(self._settings, await self._naming.identity()) as connection:
                await self._live(connection)
        except ModuleError as error:
            failure = error
            raise
        finally:
            self._roster = None
            self._network.release(self._login.id)
            self._link.down(failure)

    async def send(self, message: Message) -> Receipt:
        """Say the message in its channel, which is joined first if need be.

        Returns when the network has read it and refused nothing: see ``Connection.deliver``.
        """
        self._needed.set()
        connection, channels = await self._link.get(self._settings.connect_seconds * 2)
        chat = self._chats.get(message.chat) or RemoteChat(id=message.chat, name=message.chat)
        await channels.enter(chat.name)
        self._chats[chat.id] = chat
        lines = compose(
            message,
            chat.name,
            own=connection.own,
            limits=connection.isupport,
            settings=self._settings,
            name_of=self._name_of,
        )
        await connection.deliver(chat.name, lines)
        return Receipt(remote_ids=(RemoteMessageId(self._network.new_message_id()),))

    async def join(self, chat: RemoteChat) -> None:
        """Be in the channel from now on, over reconnects too."""
        self._needed.set()
        _, channels = await self._link.get(self._settings.connect_seconds * 2)
        if self._roster is not None:
            self._roster.follow(chat)
        try:
            await channels.enter(chat.name)
        except PermanentFailure:
            if self._roster is not None and chat.id not in self._chats:
                self._roster.forget(chat)
            raise
        self._chats[chat.id] = chat

    async def leave(self, chat: RemoteChat, reason: str) -> None:
        """Leave the channel and do not come back."""
        known = self._chats.pop(chat.id, chat)
        self._kicks.pop(chat.id, None)
        if self._roster is not None:
            self._roster.forget(known)
        if self._link.channels is not None:
            self._link.channels.part(known.name, reason)

    def _name_of(self, mention: Mention) -> str:
        return self._network.nicks(self._host.store).nick_of(mention.user) or mention.name

    # --- while connected ---------------------------------------------------------------------

    async def _live(self, connection: Connection) -> None:
        await self._settle_in(connection)
        channels = Channels(connection, self._settings.join_seconds)
        inbox = Inbox(self._receive)
        ended: ModuleError | None = None
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(inbox.work())
                self._link.up(connection, channels)
                keeper = tasks.create_task(self._keep_joined(channels))
                self._host.report(LoginState.CONNECTED)
                try:
                    await self._listen(connection, channels, inbox)
                except ModuleError as error:
                    ended = error
                    self._link.down(error)
                    self._host.report(LoginState.RECONNECTING, str(error))
                keeper.cancel()
                inbox.close()
        except asyncio.CancelledError:
            await self._drain(inbox)
            raise
        except ExceptionGroup as group:
            raise group.exceptions[0] from group
        if ended is not None:
            raise ended

    async def _settle_in(self, connection: Connection) -> None:
        limits = connection.isupport
        self._network.learn(limits)
        self._network.hold(self._login.id, connection.own)
        self._own_nick = await self._naming.nick(limits)
        if limits.fold(self._own_nick) != limits.fold(connection.own.nick):
            connection.write(line("NICK", self._own_nick))
        self._next_regain = asyncio.get_running_loop().time() + REGAIN_SECONDS
        if self._login.kind is LoginKind.RELAY:
            self._roster = Roster(connection, self._network.is_ours)
            for chat in self._chats.values():
                self._roster.follow(chat)

    async def _listen(
        self, connection: Connection, channels: Channels, inbox: Inbox[RemoteEvent]
    ) -> None:
        doorman = Doorman(connection, self._network)
        while True:
            message = await connection.read()
            self._network.hold(self._login.id, connection.own)
            channels.handle(message)
            if message.command == "KICK":
                self._on_kick(connection, message)
            self._regain(connection, message)
            doorman.handle(message)
            if self._roster is not None:
                for event in self._read_events(self._roster, message):
                    await inbox.put(event)

    def _read_events(self, roster: Roster, message: Incoming) -> list[RemoteEvent]:
        if message.command not in {"PRIVMSG", "NOTICE"}:
            return roster.handle(message)
        chat, source = roster.find_chat(message.param(0)), message.source
        if chat is None or source is None or not source.is_person:
            return []
        content = read_text(message)
        if content is None or not content[1].nodes or roster.is_one_of_us(chat.name, source):
            return []
        return [
            RemoteMessage(
                chat=chat.id,
                id=RemoteMessageId(message.tags.get("msgid") or self._network.new_message_id()),
                sender=roster.user(source.nick),
                kind=content[0],
                body=content[1],
                at=read_time(message) or self._host.now(),
            )
        ]

    async def _receive(self, event: RemoteEvent) -> None:
        wanted = event if self._speakers is None else await self._speakers.filter(event)
        while wanted is not None:
            try:
                await self._host.receive(wanted)
            except TemporaryFailure as error:
                # What follows must not overtake it.
                await asyncio.sleep(error.retry_after or STORE_AGAIN_SECONDS)
            except DeliveryError as error:
                self._host.log.warning(
                    "An event from IRC was refused: %s", error, extra={"event": "event_refused"}
                )
                return
            else:
                return

    async def _drain(self, inbox: Inbox[RemoteEvent]) -> None:
        inbox.close()
        try:
            async with asyncio.timeout(DRAIN_SECONDS):
                await inbox.work()
        except TimeoutError:
            self._host.log.warning(
                "What IRC sent last was not stored in time", extra={"event": "drain_timeout"}
            )

    # --- channels and nick -------------------------------------------------------------------

    async def _keep_joined(self, channels: Channels) -> None:
        async with asyncio.TaskGroup() as returns:
            for chat in list(self._chats.values()):
                returns.create_task(self._return(channels, chat, 0))
            while True:
                chat = await self._kicked.get()
                kicks = self._kicks[chat.id] = self._kicks.get(chat.id, 0) + 1
                pause = self._settings.rejoin_seconds * 2 ** min(kicks - 1, 20)
                returns.create_task(
                    self._return(channels, chat, min(pause, LONGEST_REJOIN_SECONDS))
                )

    async def _return(self, channels: Channels, chat: RemoteChat, pause: float) -> None:
        await asyncio.sleep(pause)
        if chat.id not in self._chats:
            return
        try:
            await channels.enter(chat.name)
        except PermanentFailure as error:
            if self._roster is None:
                del self._chats[chat.id]
            self._complain(error)
        except DeliveryError as error:
            self._host.log.info("%s", error, extra={"event": "rejoin_failed"})

    def _on_kick(self, connection: Connection, message: Incoming) -> None:
        fold = connection.isupport.fold
        if fold(message.param(1)) != fold(connection.own.nick):
            return
        kicked = [one for one in self._chats.values() if fold(one.name) == fold(message.param(0))]
        for chat in kicked:
            if self._roster is not None:
                self._kicked.put_nowait(chat)
            else:
                # A puppet comes back when its owner speaks again, not before.
                del self._chats[chat.id]

    def _regain(self, connection: Connection, message: Incoming) -> None:
        fold, own = connection.isupport.fold, self._own_nick
        if not own or fold(connection.own.nick) == fold(own):
            return
        if message.command in replies.NICK_REFUSED and fold(message.param(1)) == fold(own):
            self._own_nick = ""
            self._complain(
                PermanentFailure(
                    f"{connection.server} refuses the nick {own}; "
                    f"{connection.own.nick} is used instead."
                )
            )
            return
        source, now = message.source, asyncio.get_running_loop().time()
        is_free = (
            message.command in {"QUIT", "NICK"}
            and source is not None
            and fold(source.nick) == fold(own)
        )
        if is_free or now >= self._next_regain:
            self._next_regain = now + REGAIN_SECONDS
            connection.answer(line("NICK", own))

    def _complain(self, error: DeliveryError) -> None:
        self._host.log.warning("%s", error, extra={"event": "irc_refused"})
        self._host.report(LoginState.CONNECTED, str(error))
