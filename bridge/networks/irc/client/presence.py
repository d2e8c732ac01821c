"""Whether one login has a connection, wants one, and how commands get hold of it."""

import asyncio
import math
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from datetime import datetime
from pathlib import Path
from time import monotonic

from bridge.networks.irc.channels.channels import Channels
from bridge.networks.irc.client import certfp
from bridge.networks.irc.client.link import Link
from bridge.networks.irc.client.naming import Naming
from bridge.networks.irc.client.nickkeeper import NickKeeper
from bridge.networks.irc.client.tries import Said, Tries
from bridge.networks.irc.client.typed import read_autocommands
from bridge.networks.irc.connections.connection import Connection
from bridge.networks.irc.connections.dial import Way
from bridge.networks.irc.connections.flag import Flag
from bridge.networks.irc.connections.gate import Urgency
from bridge.networks.irc.connections.ident import listening
from bridge.networks.irc.connections.inquiry import Inquiries
from bridge.networks.irc.network.history import Marks
from bridge.networks.irc.network.keepsakes import (
    AUTOCOMMAND,
    AWAY,
    CERTIFICATE,
    SERVER_PASSWORD,
    Keepsakes,
)
from bridge.networks.irc.network.network import Network
from bridge.networks.irc.network.services import may_be_service, refuse_secret
from bridge.networks.irc.private.missed import KEEP, NEEDS, STORE_PREFIX, Missed
from bridge.networks.irc.private.partners import Partners
from bridge.networks.irc.private.whispers import Whispers
from bridge.networks.irc.protocol import replies
from bridge.networks.irc.protocol.endings import BannedError, Cause
from bridge.networks.irc.protocol.latesignin import LateSignIn
from bridge.networks.irc.settings import IrcSettings
from bridge.networks.irc.settingvalues import read_listen
from bridge.networks.irc.wire import Line, Source, line
from bridge.sdk.commands import as_typed
from bridge.sdk.errors import DeliveryError, ModuleError, PermanentFailure, TemporaryFailure
from bridge.sdk.events import RemoteChat
from bridge.sdk.login import Login, LoginKind, LoginState
from bridge.sdk.module import Host
from bridge.sdk.rich import Rich
from bridge.sdk.text import to_plain

REST = "Silent for long; the next message brings me back"
"""What a connection that nobody needs for now says at its end."""

ALONE = "In no channel; the next message brings me back"
"""The same, of one that has left the last of its channels."""

DISCONNECTED = "Disconnected; the next message brings me back"
"""The same, of one that its owner ends."""

WISH_SECONDS = 60.0
"""For so long after a connection ended as its owner wished, that is not done again: servers shut
out an address from which too many come and go, and others share it."""

QUESTION_SECONDS = 30.0
"""Between two questions to other people's programs: each of them has a program write."""


class Presence:
    """What a client knows of its own connection, connected or not."""

    def __init__(self, login: Login, host: Host, network: Network) -> None:
        self._login = login
        self._host = host
        self._network = network
        self._settings = network.settings
        network.know(login.id, login.owner)
        self.keepsakes = Keepsakes(login, host)
        if not self._is_puppet:
            network.keys.open(self.keepsakes)
        self.naming = Naming(login, self.keepsakes, host.store, network)
        self.link = Link()
        self._needed = Flag()
        if login.kind is not LoginKind.AUTOMATIC:
            self._needed.set()
        self._tries = Tries()
        self._kill: ModuleError | None = None
        """By which an operator ended the connection last."""
        self._speaking = 0
        self._last_spoken = 0.0
        self._is_dismissed = False
        """The connection is to end, until the next message or to be made anew."""
        self._idle: asyncio.TimerHandle | None = None
        self._leave: Callable[[], None] | None = None
        """Has the server end the connection that is listened to."""
        self._goodbye = REST
        self._wished = -math.inf
        """When the owner had the connection end last."""
        self._questioned = -math.inf
        """When the owner asked somebody's program something last."""
        self._nick_keeper: NickKeeper | None = None
        self._partners = Partners(monotonic)
        self._alone = Marks(
            host.store, f"{STORE_PREFIX}{login.id}:", subject=login.owner, keep_for=KEEP
        )
        """Up to where all is heard that is said to this login alone."""

    @property
    def _is_puppet(self) -> bool:
        return self._login.kind is not LoginKind.RELAY

    @property
    def is_linked(self) -> bool:
        """Whether the owner signed in by hand: refused, it is not tried again by itself."""
        return self._login.kind is LoginKind.PERSON

    @property
    def may_link(self) -> bool:
        """Whether the owner may sign in by hand."""
        return self._settings.takes_logins

    @property
    def way_to_account(self) -> str:
        """What can be done where the network wants an account, in a sentence without its end."""
        if not self._is_puppet:
            return replies.RELAYS_ACCOUNT
        return replies.OWN_ACCOUNT if self.may_link else replies.NO_ACCOUNTS

    @property
    def _urgency(self) -> Urgency:
        if not self._is_puppet:
            return Urgency.RELAY
        return Urgency.SPEAKING if self._speaking else Urgency.RETURNING

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        """Wait for the turn to connect, which the block does.

        Raises ``LoginRequired`` where the network lets nobody in from this login's address; the
        relay tries all the same: it is the one that finds out when that is over.
        """
        network, address = self._network, self.naming.address
        if self._is_puppet:  # Who is held back takes nobody's turn.
            network.doors.check(address)
        async with network.gate.passage(self._urgency):
            if self._is_puppet:
                network.doors.check(address)
            yield
            network.doors.enter(self._login.id, address)

    def _heed(self, error: ModuleError) -> None:
        """Do what the end of this connection asks of all."""
        self._fall_silent(error)
        self._network.heed(error)
        if not isinstance(error, BannedError):
            return
        if self._network.doors.refuse(self._login.id, self.naming.address, error):
            self._host.log.error(
                "The network bans the address of our connections, or seems to: until one is let "
                "in, or for an hour, no other person's is tried from there. Its operators can "
                "lift the ban.", extra={"event": "irc_address_banned"},
            )  # fmt: skip

    def _fall_silent(self, error: ModuleError) -> None:
        """After an operator's kill, end what is on its way and wait for the next message."""
        is_kill = self._is_puppet and getattr(error, "cause", None) is Cause.KILLED
        if is_kill and error is not self._kill:  # One kill ends nothing that began after it.
            self._kill = error
            self._needed.clear()
            self._tries.end(str(error))

    def _lose(self, error: ModuleError) -> None:
        """Tell whoever waits for the connection that it has just ended."""
        self._fall_silent(error)
        self.link.down(error)
        self._host.report(LoginState.RECONNECTING, str(error))

    def _want(self) -> None:
        """Have the connection made. Raises ``PermanentFailure`` between an operator's kill and
        the next message."""
        if self._kill is not None and not self._needed.is_set():
            raise PermanentFailure(str(self._kill))
        self._needed.set()

    async def _way(self, stack: AsyncExitStack) -> Way:
        listen = self._settings.ident_listen
        ident = None
        if listen is not None:
            ident = await stack.enter_async_context(listening(read_listen(listen)))
        return Way(
            flood=self._network.flood,
            source=self.naming.source,
            ident=ident,
            certificate=await self._certificate(stack),
            kept_at=self._host.instance if self._is_puppet else "",
        )

    async def _certificate(self, stack: AsyncExitStack) -> Path | None:
        path, own = self._settings.certificate_file, self.keepsakes.read(CERTIFICATE)
        if self._is_puppet:
            return stack.enter_context(certfp.in_memory(own.encode())) if own else None
        if path is None:
            return None
        name, now = self._settings.nick, self._host.now()
        known_by, is_new = await asyncio.to_thread(certfp.ensure, path, name, now)
        if is_new:
            self._host.log.warning(
                "A certificate was made in %s. For its account, NickServ must be told: "
                "CERT ADD %s", path, known_by, extra={"event": "irc_certificate_made"},
            )  # fmt: skip
        return path

    def _late_sign_in(self, connection: Connection) -> LateSignIn:
        return LateSignIn(
            connection.server, connection.offers, self.naming.exchange, self._complain
        )

    def _complain(self, error: DeliveryError) -> None:
        self._host.log.warning("%s", error, extra={"event": "irc_refused"})
        self._host.report(LoginState.CONNECTED, str(error))

    def as_typed(self, command: str) -> str:
        """How its owner types a command for this network, right wherever they read it."""
        return as_typed(f"{self._host.instance} {command}")

    def guard_secret(self, person: str, said: Rich) -> None:
        """Raise ``PermanentFailure`` if it would tell services, or who has their name, what looks
        like a password."""
        if self._may_be_service(person):
            refuse_secret(to_plain(said), self._host.instance)

    def guard_people(self, person: str) -> None:
        """Raise ``PermanentFailure`` if nobody but services is to be spoken to alone."""
        if not (self._settings.private_messages or self._may_be_service(person)):
            raise PermanentFailure(
                "this bridge lets people be written to in their channels alone, and services "
                "(NickServ, say) by msg"
            )

    def lines_of_connect(self, refuse: Callable[[PermanentFailure], None]) -> Sequence[Line]:
        """What the owner chose to have written on each connect, beside the modes. ``refuse`` is
        told what of it may not be."""
        read = self.keepsakes.read
        away = read(AWAY)
        return [
            *self.read_autocommands(read(AUTOCOMMAND), refuse),
            *([line("AWAY", away)] if away else []),
        ]

    def read_autocommands(
        self, typed: str, refuse: Callable[[PermanentFailure], None] | None = None
    ) -> Sequence[Line]:
        """What is done on each connect. Raises ``PermanentFailure`` for what may not be; or tells
        ``refuse``, and gives the rest."""
        refuse = refuse or _raise
        lines: list[Line] = []
        try:
            wanted = read_autocommands(typed, self._settings, refuse)
        except PermanentFailure as error:
            refuse(error)
            return []
        for one in wanted:
            try:
                if one.command == "PRIVMSG":
                    self.guard_people(one.params[0])
                lines.append(one)
            except PermanentFailure as error:
                refuse(error)
        return lines

    def _may_be_service(self, person: str) -> bool:
        nick, _, server = person.partition("@")
        return may_be_service(Source(nick, host=server), self._settings.nickserv or "")

    def _whispers(self, connection: Connection) -> Whispers | None:
        if not (self._is_puppet and self._settings.private_messages):
            return None
        return Whispers(connection, self._network, self._host.now, self._partners)

    def _missed_by(self, connection: Connection) -> Missed | None:
        """What may ask for what a person's connection has missed, where the server can tell."""
        if self._whispers(connection) is None or not connection.capabilities >= NEEDS:
            return None
        missed = Missed(connection, self._network, self._alone, self._partners, self._host.now)
        if self.keepsakes.get(SERVER_PASSWORD) is not None:
            missed.begin()  # A server, or a bouncer, with people of its own.
        return missed

    def watch_chats(self, chats: Sequence[RemoteChat]) -> None:
        """Know the login's direct chats: in them it is told who comes and goes. The relay's are
        the channels, in which people may speak before it is there."""
        if self._is_puppet:
            self._partners.have_chats({one.id: one.name for one in chats})
        else:
            for one in chats:
                self._network.note_chat(one)

    def _spoken(self, said: Said | None = None) -> "_Speaking":
        """Keep the connection, or have it made, while the block says something.

        Raises ``PermanentFailure`` if an operator's kill ended the saying of it.
        """
        return _Speaking(self._begin_to_speak, self._end_speaking, said)

    def _begin_to_speak(self, said: Said | None) -> None:
        if said is not None:
            self._tries.begin(said)
        self._speaking += 1
        self._needed.set()
        if self._is_puppet:
            self._network.crowd.spoke(self._login.id, self._dismiss)

    def _end_speaking(self, said: Said | None, error: BaseException | None) -> None:
        self._speaking -= 1
        self._last_spoken = asyncio.get_running_loop().time()
        if said is not None:
            self._tries.finish(said, error)

    def _dismiss(self) -> bool:
        """End the connection until the next message, unless something is on its way."""
        if self._speaking:
            return False
        self._network.crowd.left(self._login.id)
        self._needed.clear()
        self._kill = None
        self._part()
        return True

    def _rest_if_alone(self, channels: Sequence[RemoteChat]) -> None:
        """End a connection that was made for somebody who is in none of its channels any more
        and talks to nobody alone: it tells whoever asks who they are."""
        is_alone = not (channels or self._partners.chats or self._speaking)
        is_needed = self._needed.is_set()  # Else there is none, say after an operator's kill.
        if self._login.kind is LoginKind.AUTOMATIC and is_alone and is_needed:
            self._goodbye = ALONE
            self._dismiss()

    def _part(self) -> None:
        """Have the connection end. One that is still being made ends as soon as it is."""
        self.link.starting()
        if self._leave is not None and not self._is_dismissed:
            self._leave()
        self._is_dismissed = True

    @asynccontextmanager
    async def at_hand(self) -> AsyncIterator[tuple[Connection, Channels, Inquiries]]:
        """Have the connection while something is done with it, made if need be.

        Raises a ``DeliveryError`` with why there is none.
        """
        with self._spoken():
            connection, channels = await self.link.get(self._settings.connect_seconds * 2)
            if self.link.inquiries is None:
                raise TemporaryFailure("The connection to IRC has just ended.")
            yield connection, channels, self.link.inquiries

    def _begin_to_listen(self, leave: Callable[[], None]) -> None:
        """Have the connection ended by ``leave`` when it is dismissed, and if nobody speaks."""
        self._leave = leave
        self._last_spoken = asyncio.get_running_loop().time()
        if self._is_dismissed:
            leave()
        elif self._is_puppet and self._settings.idle_seconds:
            self._dismiss_if_idle()

    def _end_to_listen(self) -> None:
        self._leave = None
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None

    def _dismiss_if_idle(self) -> None:
        loop = asyncio.get_running_loop()
        left = self._last_spoken + self._settings.idle_seconds - loop.time()
        if not self._is_dismissed and (left > 0 or not self._dismiss()):
            # One who is just speaking is looked at again when that is over.
            self._idle = loop.call_later(max(left, 1.0), self._dismiss_if_idle)

    def reconnect(self, goodbye: str) -> None:
        """Have the connection, if there is one, made anew with what was chosen meanwhile."""
        if self.link.connection is not None:
            self._goodbye = goodbye
            self._part()

    def renew(self) -> bool:
        """Have the connection made anew, as its owner wishes; False if there is none.

        Raises ``PermanentFailure`` too soon after another such wish. Once it is up, call
        ``note_wish``.
        """
        if self.link.connection is None:
            return False
        self._check_wish()
        self.reconnect("Reconnects")
        return True

    def disconnect(self) -> bool:
        """End the connection until its owner says something; False if there is none and none is
        being made.

        Raises ``TemporaryFailure`` while something is being said by it, else as ``renew`` does."""
        if not self._needed.is_set() or self.link.refusal is not None:
            return False
        if self._speaking:
            raise TemporaryFailure("something of yours is on its way.")
        self._check_wish()
        self.note_wish()
        self._goodbye = DISCONNECTED
        return self._dismiss()

    def _check_wish(self) -> None:
        if monotonic() < self._wished + WISH_SECONDS:
            raise PermanentFailure("you end your connection once a minute at most")

    def pace_question(self) -> None:
        """Take note that the owner asks somebody's program something.

        Raises ``PermanentFailure`` too soon after the last such question."""
        now = asyncio.get_running_loop().time()
        if now < self._questioned + QUESTION_SECONDS:
            raise PermanentFailure(
                f"you ask people's programs once in {QUESTION_SECONDS:g} seconds at most"
            )
        self._questioned = now

    def note_wish(self) -> None:
        """Take note that the connection ended, or was made anew, as its owner wished."""
        self._wished = monotonic()

    def change_username(self, before: str, now: str) -> None:
        """Have the connection made anew with another user name. Those who run channels, and who
        runs the bridge, can see which it was."""
        self._host.log.info(
            "A user name is %s now, and was %s",
            now,
            before,
            extra={"event": "irc_username_changed"},
        )
        self.reconnect(f"Comes back with the user name {now} instead of {before}")

    @contextmanager
    def changing_nick(self, nick: str) -> Iterator[None]:
        """Have the nick as our own if the block succeeds; meanwhile ours is not asked back."""
        keeper = self._nick_keeper
        former = keeper.own if keeper is not None else ""
        own = former
        try:
            if keeper is not None:
                # What we leave is free then: it would be taken back at once.
                keeper.want("")
            yield
            own = nick
        finally:
            if keeper is not None:
                keeper.want(own)

    @property
    def settings(self) -> IrcSettings:
        """The instance's settings."""
        return self._settings

    @property
    def network(self) -> Network:
        """What is known of the network and of all of us there."""
        return self._network

    def now(self) -> datetime:
        """The time in UTC."""
        return self._host.now()


class _Speaking:
    """A block that says something. With every message: a generator would take several times as
    long."""

    __slots__ = ("_begin", "_end", "_said")

    def __init__(
        self,
        begin: Callable[[Said | None], None],
        end: Callable[[Said | None, BaseException | None], None],
        said: Said | None,
    ) -> None:
        self._begin = begin
        self._end = end
        self._said = said

    def __enter__(self) -> None:
        self._begin(self._said)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: object
    ) -> None:
        self._end(self._said, error)


def _raise(error: PermanentFailure) -> None:
    raise error
