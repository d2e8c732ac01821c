"""Whether one login has a connection, wants one, and how commands get hold of it."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import datetime

from bridge.networks.irc.channels import Channels
from bridge.networks.irc.connection import Connection
from bridge.networks.irc.gate import Urgency
from bridge.networks.irc.inquiry import Inquiries
from bridge.networks.irc.keepsakes import Keepsakes
from bridge.networks.irc.link import Link
from bridge.networks.irc.naming import Naming
from bridge.networks.irc.network import Network
from bridge.networks.irc.nickkeeper import NickKeeper
from bridge.networks.irc.settings import IrcSettings
from bridge.networks.irc.wire import Source
from bridge.sdk.errors import TemporaryFailure
from bridge.sdk.login import Login, LoginKind
from bridge.sdk.module import Host
from bridge.sdk.rich import Mention

REST = "Silent for long; the next message brings me back"
"""What a connection says at its end that nobody needs for now."""


class Presence:
    """What a client knows of its own connection, connected or not."""

    def __init__(self, login: Login, host: Host, network: Network) -> None:
        self._login = login
        self._host = host
        self._network = network
        self._settings = network.settings
        network.know(login.id, login.owner)
        self.keepsakes = Keepsakes(login, host)
        self.naming = Naming(login, self.keepsakes, host.store, network)
        self.link = self._link = Link()
        self._needed = asyncio.Event()
        if login.kind is not LoginKind.AUTOMATIC:
            self._needed.set()
        self._speaking = 0
        self._last_spoken = 0.0
        self._dismissal = asyncio.Event()
        self._goodbye = REST
        self._nick_keeper: NickKeeper | None = None

    @property
    def _is_puppet(self) -> bool:
        return self._login.kind is not LoginKind.RELAY

    @property
    def _urgency(self) -> Urgency:
        if not self._is_puppet:
            return Urgency.RELAY
        return Urgency.SPEAKING if self._speaking else Urgency.RETURNING

    @contextmanager
    def _spoken(self) -> Iterator[None]:
        """Keep the connection, or have it made, while something is being said."""
        self._speaking += 1
        self._needed.set()
        if self._is_puppet:
            self._network.crowd.spoke(self._login.id, self._dismiss)
        try:
            yield
        finally:
            self._speaking -= 1
            self._last_spoken = asyncio.get_running_loop().time()

    def _dismiss(self) -> bool:
        """End the connection until the next message, unless something is on its way."""
        if self._speaking:
            return False
        self._network.crowd.left(self._login.id)
        self._needed.clear()
        self._link.starting()
        self._dismissal.set()
        return True

    @asynccontextmanager
    async def at_hand(self) -> AsyncIterator[tuple[Connection, Channels, Inquiries]]:
        """Have the connection while something is done with it, made if need be.

        Raises a ``DeliveryError`` with why there is none.
        """
        with self._spoken():
            connection, channels = await self._link.get(self._settings.connect_seconds * 2)
            if self._link.inquiries is None:
                raise TemporaryFailure("The connection to IRC has just ended.")
            yield connection, channels, self._link.inquiries

    def reconnect(self, goodbye: str) -> None:
        """Have the connection, if there is one, made anew with what was chosen meanwhile."""
        if self._link.connection is not None:
            self._goodbye = goodbye
            self._link.starting()
            self._dismissal.set()

    @contextmanager
    def changing_nick(self, nick: str) -> Iterator[None]:
        """Have the nick as our own if the block succeeds; nobody asks for ours meanwhile."""
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

    def is_ours(self, source: Source) -> bool:
        """Whether somebody seen on the network is a client of this instance."""
        return self._network.is_ours(source)

    @property
    def settings(self) -> IrcSettings:
        """The instance's settings."""
        return self._settings

    def now(self) -> datetime:
        """The time in UTC."""
        return self._host.now()

    def _name_of(self, mention: Mention) -> str:
        return self._network.nicks(self._host.store).nick_of(mention.user) or mention.name
