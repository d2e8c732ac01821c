"""One login's client: the relay listens and speaks, a puppet only speaks."""

import asyncio
from collections.abc import Callable, Collection, Coroutine, Sequence
from contextlib import AsyncExitStack, suppress
from functools import partial

from bridge.networks.irc.channels import bans
from bridge.networks.irc.channels.channels import Channels
from bridge.networks.irc.channels.formerly import former_bans
from bridge.networks.irc.channels.governing import invite, rank_lines, remove, set_topic
from bridge.networks.irc.channels.memberships import Memberships, Way
from bridge.networks.irc.client.listener import Listener
from bridge.networks.irc.client.nickkeeper import NickKeeper
from bridge.networks.irc.client.ownmodes import modes_of_connect
from bridge.networks.irc.client.presence import REST, Presence
from bridge.networks.irc.client.renames import Renames
from bridge.networks.irc.connections.connection import GOODBYE_SECONDS, Connection
from bridge.networks.irc.connections.dial import connect
from bridge.networks.irc.connections.inquiry import Inquiries
from bridge.networks.irc.messages.ears import Ears
from bridge.networks.irc.messages.inbox import Deed, Inbox
from bridge.networks.irc.messages.typist import Typist
from bridge.networks.irc.messages.voice import Voice
from bridge.networks.irc.network.history import Heard, Marks, lane_of
from bridge.networks.irc.network.network import Network
from bridge.networks.irc.private.desk import Desk
from bridge.networks.irc.private.private import Doorman
from bridge.networks.irc.protocol.acts import TAGS
from bridge.networks.irc.protocol.endings import DismissedError
from bridge.networks.irc.wire import Line, line
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
from bridge.sdk.secret import Secret

DRAIN_SECONDS = 2.0
"""How long what was read already may take to be stored, when we are stopped; also what is left
to write at a connection's end."""
STORE_AGAIN_SECONDS = 1.0


class IrcClient(Presence):
    """A connection to IRC for one login. The relay's is the instance's only listener."""

    def __init__(self, login: Login, host: Host, network: Network) -> None:
        super().__init__(login, host, network)
        self._desk: Desk | None = None
        self._memberships = Memberships(
            host, self._settings.rejoin_seconds, self._complain, network.renamed,
            returns=not self._is_puppet,
        )  # fmt: skip
        self._doorman: Doorman | None = None
        self._marks = None if self._is_puppet else Marks(host.store)
        self._ears: Ears | None = None
        self._typist: Typist | None = None
        self._voice = Voice(network, host)

    async def run(self) -> None:
        """Stay connected until cancelled. A puppet waits for its first message before."""
        while True:
            if not self._needed.is_set():
                self.link.starting()
                self._host.report(LoginState.STARTING, "It connects with the next message.")
                await self._needed.wait()
            try:
                await self._connect()
            except DismissedError:
                if not self._needed.is_set():
                    self._memberships.forget_all()

    async def _connect(self) -> None:
        self.link.starting()
        self._is_dismissed = False
        self._voice.begin_anew()
        self._goodbye = REST
        failure: ModuleError | None = ModuleNotReady("The connection to IRC was stopped.")
        if self._is_puppet:
            self._network.crowd.came(self._login.id, self._dismiss)
        try:
            await self._stay()
        except DismissedError:
            failure = None
            raise
        except ModuleError as error:
            failure = error
            self._heed(error)
            if isinstance(error, LoginRequired) or not self._needed.is_set():
                self._network.crowd.left(self._login.id)
            raise
        except asyncio.CancelledError:
            self._network.crowd.left(self._login.id)
            raise
        finally:
            self._ears = self._typist = self._desk = self._doorman = None
            self._network.release(self._login.id)
            self.link.down(failure)

    async def _stay(self) -> None:
        """Connect, and do all that is to be done until the connection ends."""
        try:
            async with AsyncExitStack() as stack:
                await self._live(await self._open(stack))
        except DeliveryError as error:  # The database is away, say.
            raise ModuleNotReady(str(error)) from error

    async def _open(self, stack: AsyncExitStack) -> Connection:
        # A method of its own: what only this needs must not stay in memory with the connection.
        async with self._turn():  # Only then: what is chosen while we wait for it counts.
            way, identity = await self._way(stack), await self.naming.identity()
            return await connect(
                stack, self._settings, identity, self._network.rotation, way, self.now()
            )

    async def send(self, message: Message) -> Receipt:
        """Say the message in its channel, joined first if need be: see ``Connection.deliver``."""
        with self._spoken(message):
            stop = self._voice.begin(message.event_id)
            try:
                connection, chat = await self._enter(message.chat)
                if not connection.isupport.is_channel(chat.name):
                    self.guard_secret(chat.name, message.body)
                if self._typist is not None:
                    self._typist.spoke(chat.name)
                return await self._voice.say(connection, chat, message, stop)
            finally:
                self._voice.end(stop)

    def stop_sending(self, event_id: EventId) -> bool:
        """Write no more lines of a message."""
        return self._voice.stop(event_id)

    async def _enter(self, chat_id: RemoteChatId) -> tuple[Connection, RemoteChat]:
        partner = self._partners.find(chat_id)
        chat = self._network.chat(chat_id, partner.nick if partner is not None else "")
        return await self._come_in(chat), chat

    async def send_reaction(self, reaction: Reaction) -> Receipt | None:
        """React by a tag, where the server has them and knows the message."""
        with self._spoken(reaction):
            connection, chat = await self._enter(reaction.chat)
            return await self._voice.react(connection, chat, reaction)

    async def send_redaction(self, redaction: Redaction) -> Receipt | None:
        """Take a message back, where the server has a way to and knows the message."""
        with self._spoken(redaction):
            connection, chat = await self._enter(redaction.chat)
            return await self._voice.redact(connection, chat, redaction)

    async def send_typing(self, typing: Typing) -> None:
        """Show that the owner writes, in a channel that this connection is in or to a person."""
        chat = self._memberships.find(typing.chat)
        name = chat.name if chat is not None else typing.chat
        if self._typist is not None and (chat is not None or self._network.is_stranger(name)):
            (self._typist.begin if typing.is_typing else self._typist.cease)(name)

    async def join(self, chat: RemoteChat, *, returns: bool = False) -> None:
        """Be in the channel from now on, over reconnects too; the relay also after a kick.

        ``returns``: whoever wants it does not ask again if it is refused for now."""
        self._memberships.check_name(chat)
        self._network.note_chat(chat)
        self._want()
        with self._memberships.way_into(chat) as way:
            _, channels = await self.link.get(self._settings.connect_seconds * 2)
            way.check()
            if self._ears is not None:
                self._ears.roster.follow(chat)
            await (way.return_now if returns else way.join)(channels)

    async def join_with_key(self, chat: RemoteChat, key: Secret) -> None:
        """The same with a key, which is kept for all of us when it let us in."""
        self._network.check_key(key)
        with self._network.keys.offering(chat.id, key):
            await self.join(chat)
        await self._network.keys.keep(chat.id, key)

    def check_in(self, chat: RemoteChat) -> None:
        """Raise ``TemporaryFailure`` if we are not in the channel now."""
        self._memberships.check_in(chat, self.link.channels)

    async def leave(self, chat: RemoteChat, reason: str) -> None:
        """Leave the channel and do not come back."""
        known = self._memberships.leave(chat)
        if self._ears is not None:
            self._ears.forget(known)
        if self.link.channels is not None:
            self.link.channels.part(known.name, reason)
        self._rest_if_alone(self._memberships.wanted)
        if self._marks is not None:
            self._network.forget_chat(chat.id)
            # First: what is said while it is not bridged must not be fetched later.
            await self._marks.forget(chat.id)
            await self._network.renamed.load(self._host.store)  # It may never have connected.
            await self._network.banned.load(self._host.store, self._host.now)
            await self._network.write(chat.id)

    def seen(self, chat: RemoteChatId) -> Collection[UserId] | None:
        """The Matrix users whose connections are seen in the channel and still there."""
        listed = self._ears.roster.ours_in(chat) if self._ears is not None else None
        name = self._network.chat(chat).name
        return None if listed is None else self._network.seen_in(name, listed)

    def list_again(self, chat: RemoteChat) -> None:
        """Have the next list of the channel's names compared with the room."""
        if self._ears is not None:
            self._ears.roster.list_again(chat)

    async def ask(self, request: ConsentRequest) -> Sequence[RemoteUser]:
        """Ask the channel's operators who are there. Raises a ``DeliveryError``."""
        await self.link.get(self._settings.connect_seconds * 2)
        if self._desk is None:
            raise TemporaryFailure("The relay is not connected.", retry_after=STORE_AGAIN_SECONDS)
        return await self._desk.ask(request)

    async def set_topic(self, chat: RemoteChat, topic: str) -> None:
        """Set the topic. Raises a ``DeliveryError``."""
        connection = await self._come_in(chat, Way.check_act)
        await set_topic(self._questions, chat, topic, self._network, connection.isupport)

    async def set_rank(self, chat: RemoteChat, person: RemoteUserId | UserId, rank: Rank) -> None:
        """Give somebody a rank, or take it. Raises a ``DeliveryError``."""
        connection = await self._come_in(chat, Way.check_act)
        await self._do(rank_lines(chat, person, rank, self._network, connection.isupport))

    async def remove(
        self, chat: RemoteChat, person: RemoteUserId | UserId, how: Removal, reason: str
    ) -> None:
        """Kick or ban somebody, or let them in again. Raises a ``DeliveryError``."""
        await self._come_in(chat, Way.check_act)
        await remove(self._questions, chat, person, how, reason, self._network)

    async def invite(self, chat: RemoteChat, person: RemoteUserId) -> bool:
        """Invite somebody; False if they are there already. Raises a ``DeliveryError``."""
        await self._come_in(chat, Way.check_act)
        return await invite(self._questions, chat, person, self._network)

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

    async def _come_in(
        self, chat: RemoteChat, check: Callable[[Way], None] = Way.check_rest
    ) -> Connection:
        link = self.link
        if link.connection and link.channels and link.channels.is_in(chat.name):
            self._memberships.note(chat)
            return link.connection  # As for nearly all that is said.
        self._memberships.check_name(chat)
        with self._memberships.way_into(chat) as way:
            connection, channels = await self.link.get(self._settings.connect_seconds * 2)
            if not connection.isupport.is_channel(chat.name):
                return self._approach(connection, chat.name)
            await channels.enter(chat.name, partial(check, way))
            way.arrive()
        return connection

    def _approach(self, connection: Connection, nick: str) -> Connection:
        """Prepare to say something to a person. Raises ``PermanentFailure`` if it is us."""
        self._network.refuse_ours(nick)
        if self._doorman is not None:
            self._doorman.said_to(nick)
        return connection

    async def _do(self, lines: Sequence[Line]) -> None:
        if lines:
            await self._questions.ask(*lines, wanted=())

    @property
    def _questions(self) -> Inquiries:
        if self.link.inquiries is None:
            raise TemporaryFailure("There is no connection.", retry_after=STORE_AGAIN_SECONDS)
        return self.link.inquiries

    # --- while connected ---------------------------------------------------------------------

    async def _live(self, connection: Connection) -> None:
        if self._is_puppet:
            connection.speak_only()
        await self._settle_in(connection)
        own_nick = await self.naming.nick(connection.isupport)
        self._nick_keeper = nick_keeper = NickKeeper(connection, own_nick, self._complain)
        inquiries = Inquiries(connection, self._settings.join_seconds)
        channels = Channels(
            connection, self._settings.join_seconds,
            former_bans(connection, inquiries, self.naming.former_usernames, self._network),
            partial(self._network.keys.find_named, self._network.chat), self.way_to_account,
        )  # fmt: skip
        if not self._is_puppet:
            self._network.relay = inquiries
        self._network.note_channels(self._login.id, channels.is_in)
        if self._ears is not None:
            self._desk = Desk(
                connection, self._network, self._host, self._ears.roster,
                inquiries, self._memberships.invited,
            )  # fmt: skip
        whispers = self._whispers(connection)
        self._doorman = doorman = Doorman(
            connection, self._network, self._host, owner=self._login.owner, desk=self._desk,
            whispers=whispers, missed=self._missed_by(connection),
        )  # fmt: skip
        inbox = Inbox(self._take_in, lane_of)
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(inbox.work())
                # First: what is to be set comes before what is said.
                others = [tasks.create_task(self._settle(connection, channels, inbox))]
                self.link.up(connection, channels, inquiries)
                if self._is_puppet and TAGS in connection.capabilities:
                    self._typist = Typist.on(connection)
                    others.append(tasks.create_task(self._typist.run()))
                if not self._is_puppet:
                    others.append(tasks.create_task(self._serve(inbox, inquiries)))
                if whispers is not None and whispers.lookout.is_possible:
                    others.append(tasks.create_task(whispers.lookout.serve(
                        connection.say, lambda one: inbox.put(*doorman.remark(one))
                    )))  # fmt: skip
                if doorman.missed is not None:
                    others.append(tasks.create_task(doorman.missed.serve(inbox.put)))
                self._host.report(LoginState.CONNECTED)
                ended = await self._end_of(connection, others, Listener(
                    login=self._login.id, host=self._host, network=self._network,
                    connection=connection, memberships=self._memberships, channels=channels,
                    keeper=nick_keeper, inquiries=inquiries, doorman=doorman,
                    late=self._late_sign_in(connection), renames=Renames(connection, channels),
                    ears=self._ears, inbox=inbox,
                ).listen())  # fmt: skip
                inbox.add(*doorman.end())
                inbox.close()
        except asyncio.CancelledError:
            await self._drain(inbox, doorman)
            raise
        except ExceptionGroup as group:
            raise group.exceptions[0] from group
        await self._write_rest()
        raise ended

    async def _end_of(
        self,
        connection: Connection,
        others: Sequence[asyncio.Task[None]],
        listening: Coroutine[None, None, None],
    ) -> ModuleError:
        """Listen until the connection ends or is dismissed, and the others with it; return why."""
        ended: ModuleError = DismissedError("The connection ends for now.")
        try:
            async with asyncio.timeout(None) as patience:
                self._begin_to_listen(partial(self._quit, connection, patience))
                await listening
        except ModuleError as error:
            if not self._is_dismissed:
                self._lose(error)  # At once: anyone who waits for an answer hears why.
                ended = error
        except TimeoutError:
            if not patience.expired():
                raise
        finally:
            self._end_to_listen()
            for task in others:
                task.cancel()
        if self._is_dismissed:
            # Storing what was read may take long: nobody should think that we still listen.
            await connection.close(self._goodbye)
        return ended

    def _quit(self, connection: Connection, patience: asyncio.Timeout) -> None:
        """Have the server end the connection; all before that is heard, for a while."""
        connection.ask()
        connection.write(line("QUIT", self._goodbye))
        patience.reschedule(asyncio.get_running_loop().time() + GOODBYE_SECONDS)

    async def _serve(self, inbox: Inbox[Heard | Deed], inquiries: Inquiries) -> None:
        """Do what only the relay does, until cancelled."""
        if self._desk is None or self._ears is None or self._marks is None:
            return
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._marks.keep_writing())
            tasks.create_task(self._desk.work())
            tasks.create_task(self._ears.end_splits(inbox.put))
            tasks.create_task(self._ears.release_late(inbox.put))
            tasks.create_task(self._ears.keep_asking(inquiries))

    async def _settle_in(self, connection: Connection) -> None:
        limits = connection.isupport = self._network.learn(connection.isupport)
        self._network.hold(self._login.id, connection.own)
        self._network.note_server(self._login.id, connection.means, connection.capabilities)
        await self._network.renamed.load(self._host.store)
        if self._is_puppet and (modes := modes_of_connect(self.keepsakes, self._settings)):
            # Before anything may change the nick, by which they are set.
            connection.write(line("MODE", connection.own.nick, modes))
        if self._marks is not None:
            if limits.bot_mode:
                connection.write(line("MODE", connection.own.nick, f"+{limits.bot_mode}"))
            marks = await self._marks.load()
            await self._network.load(self._host.store, self._host.now)
            self._ears = Ears(connection, self._network, marks, self._host.now)
            for chat in self._memberships.chats:
                self._ears.roster.follow(chat)

    async def _take_in(self, heard: Heard | Deed) -> None:
        if not isinstance(heard, Heard):
            await heard()
            return
        if heard.event is not None:
            if self._doorman is not None:
                await self._doorman.optouts.follow(heard.event)
            await self._receive(heard.event)
        if heard.voids_mark and self._marks is not None:
            self._marks.void(heard.chat)
        # What was heard before a channel was left is no mark of it when it is come into again.
        ears = self._ears
        if heard.mark is not None and (self._is_puppet or (ears and ears.has_mark(heard.chat))):
            (self._marks or self._alone).note(heard.chat, heard.mark)

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

    async def _drain(self, inbox: Inbox[Heard | Deed], doorman: Doorman) -> None:
        inbox.add(*doorman.end())
        inbox.close()
        try:
            async with asyncio.timeout(DRAIN_SECONDS):
                await inbox.work()
                await self._write_rest()
        except TimeoutError:
            self._host.log.warning(
                "What IRC sent last was not stored in time", extra={"event": "drain_timeout"}
            )

    async def _write_rest(self) -> None:
        with suppress(TimeoutError):  # Who waits for the next connection does not for a database.
            async with asyncio.timeout(DRAIN_SECONDS):
                with suppress(DeliveryError):  # What is not written is asked for once more.
                    await (self._marks or self._alone).write()
                if self._marks is not None:
                    with suppress(DeliveryError):  # The next one writes it, if there is one.
                        await self._network.write()

    # --- channels and nick -------------------------------------------------------------------

    async def _settle(
        self, connection: Connection, channels: Channels, inbox: Inbox[Heard | Deed]
    ) -> None:
        """Do what the owner chose for each connect, then be in the channels."""
        chosen = self.lines_of_connect(self._complain_of_autocommand)
        with suppress(TemporaryFailure):  # It ended again.
            for one in chosen:
                await connection.say(one)
        await self._memberships.keep(channels, lambda told: inbox.put(Heard(told, told.chat)))

    def _complain_of_autocommand(self, error: PermanentFailure) -> None:
        self._complain(PermanentFailure(f"In your autocommand this is not done: {error}"))
