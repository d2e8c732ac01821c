"""One login's client: the relay listens and speaks, a puppet only speaks."""

import asyncio
from collections.abc import Collection, Sequence
from contextlib import AsyncExitStack, suppress
from functools import partial

from bridge.networks.irc import bans, replies
from bridge.networks.irc.channels import Channels
from bridge.networks.irc.connection import Connection
from bridge.networks.irc.desk import Desk
from bridge.networks.irc.dial import connect
from bridge.networks.irc.ears import Ears
from bridge.networks.irc.endings import Cause
from bridge.networks.irc.formerly import former_bans
from bridge.networks.irc.governing import rank_lines, remove, topic_lines
from bridge.networks.irc.history import Heard, Marks
from bridge.networks.irc.inbox import Inbox
from bridge.networks.irc.inquiry import Inquiries
from bridge.networks.irc.keepsakes import AUTOCOMMAND, AWAY
from bridge.networks.irc.network import Network
from bridge.networks.irc.nickkeeper import NickKeeper
from bridge.networks.irc.presence import REST, Presence
from bridge.networks.irc.private import Doorman
from bridge.networks.irc.rollcall import RollCall
from bridge.networks.irc.typed import read_autocommands
from bridge.networks.irc.typist import Typist
from bridge.networks.irc.voice import Voice
from bridge.networks.irc.whispers import Whispered
from bridge.networks.irc.wire import Incoming, Line, Source, line
from bridge.sdk.errors import (
    DeliveryError,
    LoginRequired,
    ModuleError,
    ModuleNotReady,
    PermanentFailure,
    TemporaryFailure,
)
from bridge.sdk.events import (
    ConsentRequest,
    Message,
    Rank,
    Reaction,
    Receipt,
    Redaction,
    RemoteChat,
    RemoteEvent,
    RemoteMessage,
    RemoteUser,
    Removal,
    Typing,
)
from bridge.sdk.ids import EventId, RemoteChatId, RemoteUserId, UserId
from bridge.sdk.login import Login, LoginState
from bridge.sdk.module import Host

LONGEST_REJOIN_SECONDS = 3600.0
DRAIN_SECONDS = 2.0
"""How long what was read already may take to be stored, when we are stopped."""
STORE_AGAIN_SECONDS = 1.0


class DismissedError(ModuleError):
    """The connection is not needed until the next message, or is to be made anew."""


class IrcClient(Presence):
    """A connection to IRC for one login. The relay's is the instance's only listener."""

    def __init__(self, login: Login, host: Host, network: Network) -> None:
        super().__init__(login, host, network)
        self._desk: Desk | None = None
        self._chats: dict[RemoteChatId, RemoteChat] = {}
        self._doorman: Doorman | None = None
        self._marks = Marks(host.store)
        self._ears: Ears | None = None
        self._typist: Typist | None = None
        self._voice = Voice(network, host)
        self._kicked: asyncio.Queue[RemoteChat] = asyncio.Queue()
        self._kicks: dict[RemoteChatId, int] = {}

    async def run(self) -> None:
        """Stay connected until cancelled. A puppet waits for its first message before."""
        while True:
            if not self._needed.is_set():
                self._link.starting()
                self._host.report(LoginState.STARTING, "It connects with the next message.")
                await self._needed.wait()
            try:
                await self._connect()
            except DismissedError:
                if not self._needed.is_set():
                    self._chats.clear()

    async def _connect(self) -> None:
        self._link.starting()
        self._dismissal.clear()
        self._voice.begin_anew()
        self._goodbye = REST
        failure: ModuleError = ModuleNotReady("The connection to IRC was stopped.")
        dismissed = False
        if self._is_puppet:
            self._network.crowd.came(self._login.id, self._dismiss)
        try:
            async with AsyncExitStack() as stack:
                way = await self._way(stack)
                identity = await self.naming.identity()
                async with self._turn():
                    connection = await stack.enter_async_context(
                        connect(self._settings, identity, self._network.rotation, way)
                    )
                await self._live(connection)
        except DismissedError:
            dismissed = True
            raise
        except ModuleError as error:
            failure = error
            self._heed(error)
            if self._is_puppet and getattr(error, "cause", None) is Cause.KILLED:
                self._needed.clear()
            if isinstance(error, LoginRequired) or not self._needed.is_set():
                self._network.crowd.left(self._login.id)
            raise
        except asyncio.CancelledError:
            self._network.crowd.left(self._login.id)
            raise
        finally:
            self._ears = self._typist = self._desk = self._doorman = None
            self._network.release(self._login.id)
            self._link.starting() if dismissed else self._link.down(failure)

    async def send(self, message: Message) -> Receipt:
        """Say the message in its channel, which is joined first if need be.

        Returns when the network has taken it: see ``Connection.deliver``.
        """
        with self._spoken():
            connection, chat = await self._enter(message.chat)
            self.guard_secret(chat.name, message.body)
            if self._typist is not None:
                self._typist.spoke(chat.name)
            return await self._voice.say(connection, chat, message)

    def stop_sending(self, event_id: EventId) -> bool:
        """Write no more lines of a message."""
        return self._voice.stop(event_id)

    async def _enter(self, chat_id: RemoteChatId) -> tuple[Connection, RemoteChat]:
        chat = self._chats.get(chat_id) or RemoteChat(id=chat_id, name=chat_id)
        return await self._come_in(chat), chat

    async def send_reaction(self, reaction: Reaction) -> Receipt | None:
        """React by a tag, where the server has them and knows the message."""
        with self._spoken():
            connection, chat = await self._enter(reaction.chat)
            return await self._voice.react(connection, chat, reaction)

    async def send_redaction(self, redaction: Redaction) -> Receipt | None:
        """Take a message back, where the server has a way to and knows the message."""
        with self._spoken():
            connection, chat = await self._enter(redaction.chat)
            return await self._voice.redact(connection, chat, redaction)

    async def send_typing(self, typing: Typing) -> None:
        """Show that the owner writes, in a channel that this connection is in or to a person."""
        chat = self._chats.get(typing.chat)
        name = chat.name if chat is not None else typing.chat
        if self._typist is not None and (chat is not None or self._network.is_stranger(name)):
            (self._typist.begin if typing.is_typing else self._typist.cease)(name)

    async def join(self, chat: RemoteChat) -> None:
        """Be in the channel from now on, over reconnects too."""
        self._needed.set()
        _, channels = await self._link.get(self._settings.connect_seconds * 2)
        if self._ears is not None:
            self._ears.roster.follow(chat)
        try:
            await channels.enter(chat.name)
        except PermanentFailure:
            if self._ears is not None and chat.id not in self._chats:
                self._ears.roster.forget(chat)
            raise
        self._chats[chat.id] = chat

    async def leave(self, chat: RemoteChat, reason: str) -> None:
        """Leave the channel and do not come back."""
        known = self._chats.pop(chat.id, chat)
        self._kicks.pop(chat.id, None)
        if self._ears is not None:
            self._ears.roster.forget(known)
        if self._link.channels is not None:
            self._link.channels.part(known.name, reason)
        if not self._is_puppet:
            await self._marks.forget(chat.id)
            self._network.banned.forget_chat(chat.id)

    def seen(self, chat: RemoteChatId) -> Collection[UserId] | None:
        """The Matrix users whose connections are seen in the channel and still there."""
        listed = self._ears.roster.ours_in(chat) if self._ears is not None else None
        return None if listed is None else self._network.seen_in(chat, listed)

    def list_again(self, chat: RemoteChat) -> None:
        """Have the next list of the channel's names compared with the room."""
        if self._ears is not None:
            self._ears.roster.list_again(chat)

    async def ask(self, request: ConsentRequest) -> Sequence[RemoteUser]:
        """Ask the channel's operators who are there. Raises a ``DeliveryError``."""
        await self._link.get(self._settings.connect_seconds * 2)
        if self._desk is None:
            raise TemporaryFailure("The relay is not connected.", retry_after=STORE_AGAIN_SECONDS)
        return await self._desk.ask(request)

    async def set_topic(self, chat: RemoteChat, topic: str) -> None:
        """Set the topic. Raises a ``DeliveryError``."""
        connection = await self._come_in(chat)
        await self._do(topic_lines(chat, topic, connection.isupport))

    async def set_rank(self, chat: RemoteChat, person: RemoteUserId | UserId, rank: Rank) -> None:
        """Give somebody a rank, or take it. Raises a ``DeliveryError``."""
        connection = await self._come_in(chat)
        await self._do(rank_lines(chat, person, rank, self._network, connection.isupport))

    async def remove(
        self, chat: RemoteChat, person: RemoteUserId | UserId, how: Removal, reason: str
    ) -> None:
        """Kick or ban somebody, or let them in again. Raises a ``DeliveryError``."""
        await self._come_in(chat)
        await remove(self._questions, chat, person, how, reason, self._network)

    async def find_bans(self, chat: RemoteChat, patterns: Sequence[str]) -> Sequence[str]:
        """Those of the patterns of nicks that the channel bans. Raises a ``DeliveryError``."""
        await self._come_in(chat)
        return await bans.find(self._questions, chat, patterns)

    async def change_bans(self, chat: RemoteChat, add: Sequence[str], lift: Sequence[str]) -> None:
        """Ban some patterns of nicks and lift others. Raises a ``DeliveryError``."""
        connection = await self._come_in(chat)
        chosen = bans.choose(add, self._network.own_nicks, connection.isupport)
        for one in bans.lines(chat, chosen, lift, connection.isupport):
            await self._do([one])

    async def _come_in(self, chat: RemoteChat) -> Connection:
        connection, channels = await self._link.get(self._settings.connect_seconds * 2)
        if not connection.isupport.is_channel(chat.name):
            return self._approach(connection, chat.name)
        await channels.enter(chat.name)
        self._chats[chat.id] = chat
        return connection

    def _approach(self, connection: Connection, nick: str) -> Connection:
        """Be about to say something to a person. Raises ``PermanentFailure`` if it is us."""
        if self._network.is_ours(Source(nick)):
            owner = self._network.owner_of(nick, held_only=True)
            who = f"{nick} is {owner}'s own connection: write to them in Matrix"
            raise PermanentFailure(who if owner else f"{nick} is this bridge itself")
        if self._doorman is not None:
            self._doorman.said_to(nick)
        return connection

    async def _do(self, lines: Sequence[Line]) -> None:
        if lines:
            await self._questions.ask(*lines, wanted=())

    @property
    def _questions(self) -> Inquiries:
        if self._link.inquiries is None:
            raise TemporaryFailure("There is no connection.", retry_after=STORE_AGAIN_SECONDS)
        return self._link.inquiries

    # --- while connected ---------------------------------------------------------------------

    async def _live(self, connection: Connection) -> None:
        connection.listens = not self._is_puppet
        await self._settle_in(connection)
        own_nick = await self.naming.nick(connection.isupport)
        self._nick_keeper = nick_keeper = NickKeeper(connection, own_nick, self._complain)
        inquiries = Inquiries(connection, self._settings.join_seconds)
        channels = Channels(
            connection, self._settings.join_seconds,
            former_bans(connection, inquiries, self.naming.former_usernames, self._network),
        )  # fmt: skip
        if not self._is_puppet:
            self._network.relay = inquiries
        self._network.note_channels(self._login.id, channels.is_in)
        rollcall = RollCall(connection)
        if self._ears is not None:
            self._desk = Desk(connection, self._network, self._host, self._ears.roster, rollcall)
        whispers = self._whispers(connection)
        self._doorman = doorman = Doorman(
            connection, self._network, self._host, owner=self._login.owner, desk=self._desk,
            whispers=whispers,
        )  # fmt: skip
        inbox = Inbox(self._take_in, lambda heard: heard.chat)
        ended: ModuleError | None = None
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(inbox.work())
                self._link.up(connection, channels, inquiries)
                others = [tasks.create_task(self._settle(connection, channels))]
                if self._is_puppet and "message-tags" in connection.capabilities:
                    self._typist = Typist(connection.answer, asyncio.get_running_loop().time)
                    others.append(tasks.create_task(self._typist.run()))
                others.append(tasks.create_task(self._wait_for_dismissal(connection)))
                others.append(tasks.create_task(self._marks.keep_writing()))
                others.append(tasks.create_task(self._serve(inbox)))
                if whispers is not None:
                    put = partial(self._put_whispered, inbox)
                    others.append(tasks.create_task(whispers.lookout.serve(connection.say, put)))
                self._host.report(LoginState.CONNECTED)
                try:
                    await self._listen(
                        connection, channels, nick_keeper, inquiries, inbox, rollcall, doorman
                    )
                except ModuleError as error:
                    ended = error
                    self._link.down(error)
                    self._host.report(LoginState.RECONNECTING, str(error))
                for task in others:
                    task.cancel()
                rollcall.end()
                inbox.close()
        except asyncio.CancelledError:
            await self._drain(inbox)
            raise
        except ExceptionGroup as group:
            raise group.exceptions[0] from group
        with suppress(DeliveryError):  # What is not written is asked for once more.
            await self._marks.write()
        if ended is not None:
            raise ended

    async def _serve(self, inbox: Inbox[Heard]) -> None:
        if self._desk is None or self._ears is None:
            return
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._desk.work())
            tasks.create_task(self._ears.end_splits(inbox.put))
            tasks.create_task(self._ears.keep_asking())

    async def _wait_for_dismissal(self, connection: Connection) -> None:
        loop, idle = asyncio.get_running_loop(), self._settings.idle_seconds
        self._last_spoken = loop.time()
        while not self._dismissal.is_set():
            left = self._last_spoken + idle - loop.time() if idle and self._is_puppet else None
            if left is not None and left <= 0 and self._dismiss():
                break
            with suppress(TimeoutError):
                # One who is just speaking is looked at again when that is over.
                async with asyncio.timeout(None if left is None else max(left, 1.0)):
                    await self._dismissal.wait()
        connection.goodbye = self._goodbye
        raise DismissedError("The connection ends for now.")

    async def _settle_in(self, connection: Connection) -> None:
        limits = connection.isupport = self._network.learn(connection.isupport)
        self._network.hold(self._login.id, connection.own)
        self._network.note_server(self._login.id, connection.means, connection.capabilities)
        if not self._is_puppet:
            if limits.bot_mode:
                connection.write(line("MODE", connection.own.nick, f"+{limits.bot_mode}"))
            marks = await self._marks.load()
            await self._network.load(self._host.store)
            self._ears = Ears(connection, self._network, marks, self._host.now)
            for chat in self._chats.values():
                self._ears.roster.follow(chat)

    async def _listen(
        self,
        connection: Connection,
        channels: Channels,
        keeper: NickKeeper,
        inquiries: Inquiries,
        inbox: Inbox[Heard],
        rollcall: RollCall,
        doorman: Doorman,
    ) -> None:
        while True:
            message = await connection.read()
            overheard = False
            if message.command not in replies.SPEAKING:
                self._network.hold(self._login.id, connection.own)
                self._network.note_server(
                    self._login.id, connection.means, connection.capabilities
                )
            if message.command == replies.ISUPPORT:
                self._network.learn(connection.isupport)
            if not message.is_replayed:
                if message.command not in replies.SPEAKING:
                    channels.handle(message)
                    rollcall.handle(message)
                if message.command == "KICK":
                    self._on_kick(connection, message)
                keeper.handle(message)
                overheard = inquiries.handle(message)
                for event in () if overheard else await doorman.handle(message):
                    await self._put_whispered(inbox, event)
            for heard in self._ears.hear(message) if self._ears else ():
                await inbox.put(heard)

    @staticmethod
    async def _put_whispered(inbox: Inbox[Heard], event: Whispered) -> None:
        # One after another: who goes by another nick is not met as a stranger meanwhile.
        await inbox.put(Heard(event, RemoteChatId("")))

    async def _take_in(self, heard: Heard) -> None:
        if heard.event is not None:
            await self._receive(heard.event)
        if heard.mark is not None and heard.chat in self._chats:
            self._marks.note(heard.chat, heard.mark)

    async def _receive(self, event: RemoteEvent) -> None:
        while True:
            try:
                await self._host.receive(event)
            except TemporaryFailure as error:
                # What follows must not overtake it.
                await asyncio.sleep(error.retry_after or STORE_AGAIN_SECONDS)
            except DeliveryError as error:
                self._host.log.warning(
                    "An event from IRC was refused: %s", error, extra={"event": "event_refused"}
                )
                if isinstance(event, RemoteMessage) and event.direct and self._doorman:
                    self._doorman.refuse(event, str(error))
                return
            else:
                return

    async def _drain(self, inbox: Inbox[Heard]) -> None:
        inbox.close()
        try:
            async with asyncio.timeout(DRAIN_SECONDS):
                await inbox.work()
                with suppress(DeliveryError):
                    await self._marks.write()
        except TimeoutError:
            self._host.log.warning(
                "What IRC sent last was not stored in time", extra={"event": "drain_timeout"}
            )

    # --- channels and nick -------------------------------------------------------------------

    async def _settle(self, connection: Connection, channels: Channels) -> None:
        """Do what the owner chose for each connect, then be in the channels."""
        away, typed = self.keepsakes.read(AWAY), self.keepsakes.read(AUTOCOMMAND)
        with suppress(TemporaryFailure):  # It ended again.
            try:
                for one in read_autocommands(typed, allow_raw=self._settings.allow_raw):
                    await connection.say(one)
            except PermanentFailure as error:
                self._complain(PermanentFailure(f"Your autocommand is not done: {error}"))
            if away:
                await connection.say(line("AWAY", away))
        await self._keep_joined(channels)

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
            if self._is_puppet:
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
            if not self._is_puppet:
                self._kicked.put_nowait(chat)
            else:
                # A puppet comes back when its owner speaks again, not before.
                del self._chats[chat.id]

    def _complain(self, error: DeliveryError) -> None:
        self._host.log.warning("%s", error, extra={"event": "irc_refused"})
        self._host.report(LoginState.CONNECTED, str(error))
