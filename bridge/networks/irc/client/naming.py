"""What one login is called on the network."""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from ipaddress import IPv6Address
from itertools import chain

from bridge.networks.irc.names.addresses import address_of
from bridge.networks.irc.names.nicks import (
    SHORTEST_LIMIT,
    Nicks,
    candidates,
    is_nick,
)
from bridge.networks.irc.network.keepsakes import (
    ACCOUNT,
    CERTIFICATE,
    NICK,
    PASSWORD,
    SERVER_PASSWORD,
    Keepsakes,
)
from bridge.networks.irc.network.network import Network
from bridge.networks.irc.protocol.exchange import Exchange
from bridge.networks.irc.protocol.handshake import Gateway, Identity
from bridge.networks.irc.protocol.isupport import Isupport
from bridge.networks.irc.settings import IrcSettings
from bridge.sdk.errors import PermanentFailure
from bridge.sdk.ids import UserId
from bridge.sdk.login import Login
from bridge.sdk.module import Store
from bridge.sdk.secret import Secret


class Naming:
    """The relay has the nick of the settings, a puppet one after its owner."""

    def __init__(self, login: Login, keepsakes: Keepsakes, store: Store, network: Network) -> None:
        self._login = login
        self._keepsakes = keepsakes
        self._network = network
        self._nicks: Nicks = network.nicks(store)
        self.usernames = network.usernames(store)

    async def nick(self, limits: Isupport) -> str:
        """Return the nick that is this login's own."""
        owner = self._login.owner
        if owner is None:
            return self._network.settings.nick[: limits.nick_length]
        chosen = (self._chosen() or "")[: limits.nick_length]
        if chosen:
            with suppress(PermanentFailure):  # It is another's.
                await self._nicks.reserve(owner, chosen, limits)
                return chosen
        return await self._nicks.assign(owner, self._login.name, limits)

    async def choose_nick(self, nick: str, limits: Isupport) -> None:
        """Have the nick as this login's own. Raises ``PermanentFailure`` if it is another's."""
        if self._login.owner is not None:
            await self._nicks.choose(self._login.owner, nick, limits)
        await self._keepsakes.keep(NICK, nick)

    async def check_free_nick(self, nick: str, limits: Isupport) -> None:
        """Raise ``PermanentFailure`` if the nick is kept for another Matrix user, or the relay."""
        await self._nicks.load()
        if self._nicks.is_anothers(nick, self._login.owner, limits):
            raise PermanentFailure(f"{nick} is kept for somebody else here")

    async def username(self) -> str:
        """Return the user name (ident) of this login's connections."""
        owner = self._login.owner
        if owner is None:
            return self._network.settings.username
        return await self.usernames.assign(owner, self._network.isupport or Isupport())

    async def change_username(self, name: str) -> str:
        """Take a user name from the next connect on; for an empty one, what the Matrix id gives.

        Return it. Raises ``PermanentFailure`` if somebody else has it, or it is changed too often.
        """
        owner = self._login.owner
        if owner is None:
            raise PermanentFailure("the relay's user name stands in the settings")
        return await self.usernames.change(owner, name, self._network.isupport or Isupport())

    @property
    def former_usernames(self) -> Sequence[str]:
        """The user names that this login's owner had before."""
        owner = self._login.owner
        return () if owner is None else self.usernames.former(owner)

    async def identity(self) -> Identity:
        """Return who signs in."""
        limits = self._network.isupport
        first: list[str] = []
        if limits is not None:
            base, length = await self.nick(limits), limits.nick_length
        else:
            # The first connection: the server tells its limits only after it let us in.
            base, length = await self._guess(), SHORTEST_LIMIT
            owner = self._login.owner
            if owner is None or self._chosen() or await self._nicks.find(owner):
                first.append(base)
        owner, settings = self._login.owner, self._network.settings
        kept = self._keepsakes
        await self.usernames.load()  # The relay, too, knows its own by them.
        username = await self.username()
        await self._nicks.load()
        others = (nick for nick in self._alike(base, length) if nick not in first)
        return Identity(
            nicks=filter(self._is_free, chain(first, others)),
            short_nicks=filter(self._is_free, self._alike(base, SHORTEST_LIMIT)),
            username=username,
            realname=realname_of(settings, owner),
            password=kept.get(SERVER_PASSWORD) or settings.password,
            account=self._account,
            account_password=self._password,
            certificate=self._has_certificate,
            nickserv=settings.nickserv,
            gateway=gateway_of(settings, owner),
            personal=owner is not None,
        )

    def exchange(self) -> Exchange:
        """Return the ways to sign in to this login's account; none may be open."""
        return Exchange(self._account, self._password, certificate=self._has_certificate)

    @property
    def _account(self) -> str | None:
        if self._login.owner is None:
            return self._network.settings.sasl_account
        return self._keepsakes.read(ACCOUNT) or None

    @property
    def _password(self) -> Secret | None:
        if self._login.owner is None:
            return self._network.settings.sasl_password
        return self._keepsakes.get(PASSWORD)

    def _alike(self, base: str, length: int) -> Iterator[str]:
        is_relay = self._login.owner is None
        return candidates(base, length) if is_relay else self._nicks.candidates(base, length)

    def _is_free(self, nick: str) -> bool:
        """Whether no other user owns it: no stand-in may be somebody's."""
        limits = self._network.isupport or Isupport()
        return not self._nicks.is_anothers(nick, self._login.owner, limits)

    @property
    def _has_certificate(self) -> bool:
        if self._login.owner is None:
            return self._network.settings.certificate_file is not None
        return bool(self._keepsakes.read(CERTIFICATE))

    @property
    def source(self) -> IPv6Address | None:
        """The address that this login connects from, if users have their own."""
        return source_of(self._network.settings, self._login.owner)

    @property
    def address(self) -> IPv6Address | None:
        """The address by which servers know this login, if users have their own."""
        return known_address_of(self._network.settings, self._login.owner)

    def _chosen(self) -> str | None:
        """The nick that the login's owner asked for, else one like the account linked."""
        found = (self._keepsakes.read(name) for name in (NICK, ACCOUNT))
        return next(filter(is_nick, found), None)

    async def _guess(self) -> str:
        owner = self._login.owner
        if owner is None:
            return self._network.settings.nick
        if chosen := self._chosen():
            return chosen
        return await self._nicks.find(owner) or self._nicks.named_after(owner, self._login.name)


def realname_of(settings: IrcSettings, owner: UserId | None) -> str:
    """What servers show as the real name of somebody's connection, or the relay's.

    Servers cut it, some after 50 bytes: who it is comes first.
    """
    if owner is None or not settings.show_matrix_ids:
        return settings.describe(owner)
    rest = f"; contact: {settings.contact}" if settings.contact else ""
    return f"{owner} (Trestle, a bridge to Matrix{rest})"


def known_address_of(settings: IrcSettings, owner: UserId | None) -> IPv6Address | None:
    """The address by which servers know somebody, if users have their own."""
    prefix = settings.ipv6_prefix
    return None if prefix is None else address_of(prefix, owner)


def source_of(settings: IrcSettings, owner: UserId | None) -> IPv6Address | None:
    """The address that somebody's connection is made from, if users have their own."""
    return None if settings.webirc is not None else known_address_of(settings, owner)


def gateway_of(settings: IrcSettings, owner: UserId | None) -> Gateway | None:
    """What a server that trusts us is told of somebody, if it is to be told."""
    address = known_address_of(settings, owner)
    if settings.webirc is None or address is None:
        return None
    return Gateway(
        password=settings.webirc.password, name=settings.webirc.gateway, address=address
    )
