"""How one login is called on the network."""

from collections.abc import Callable, Iterator
from ipaddress import IPv6Address
from itertools import chain

from bridge.networks.irc.addresses import address_of
from bridge.networks.irc.handshake import Gateway, Identity
from bridge.networks.irc.isupport import Isupport
from bridge.networks.irc.network import Network
from bridge.networks.irc.nicks import (
    SHORTEST_LIMIT,
    Nicks,
    base_of,
    candidates,
    is_nick,
    username_of,
)
from bridge.networks.irc.settings import IrcSettings
from bridge.sdk.login import Login
from bridge.sdk.module import Store


class Naming:
    """The relay has the nick of the settings, a puppet one after its owner."""

    def __init__(self, login: Login, store: Store, network: Network) -> None:
        self._login = login
        self._network = network
        self._nicks: Nicks = network.nicks(store)

    async def nick(self, limits: Isupport) -> str:
        """Return the nick that is this login's own."""
        owner = self._login.owner
        if owner is None:
            return self._network.settings.nick[: limits.nick_length]
        chosen = (self._chosen() or "")[: limits.nick_length]
        if chosen and limits.fold(chosen) not in await self._nicks.others(owner, limits):
            return chosen
        return await self._nicks.assign(owner, self._login.name, limits)

    async def identity(self) -> Callable[[], Identity]:
        """Return who signs in, made anew for each server that is tried."""
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
        secrets = self._login.secrets
        account = secrets["account"].reveal() if "account" in secrets else None
        others = await self._nicks.others(owner, limits or Isupport())

        def make() -> Identity:
            return Identity(
                nicks=_without(others, self._network.fold, chain(first, candidates(base, length))),
                username=settings.username if owner is None else username_of(owner),
                realname=_realname(settings, owner),
                password=secrets.get("server_password", settings.password),
                account=settings.sasl_account if owner is None else account,
                account_password=settings.sasl_password
                if owner is None
                else secrets.get("password"),
                certificate=owner is None and settings.certificate_file is not None,
                nickserv=settings.nickserv,
                gateway=self._gateway(),
                personal=owner is not None,
            )

        return make

    @property
    def source(self) -> IPv6Address | None:
        """The address that this login connects from, if users have their own."""
        settings = self._network.settings
        if settings.ipv6_prefix is None or settings.webirc is not None:
            return None
        return address_of(settings.ipv6_prefix, self._login.owner)

    def _gateway(self) -> Gateway | None:
        settings = self._network.settings
        if settings.webirc is None or settings.ipv6_prefix is None:
            return None
        return Gateway(
            password=settings.webirc.password,
            name=settings.webirc.gateway,
            address=address_of(settings.ipv6_prefix, self._login.owner),
        )

    def _chosen(self) -> str | None:
        """The nick of an account that its owner linked: as asked for, else like the account."""
        for name in ("nick", "account"):
            secret = self._login.secrets.get(name)
            if secret is not None and is_nick(secret.reveal()):
                return secret.reveal()
        return None

    async def _guess(self) -> str:
        owner = self._login.owner
        if owner is None:
            return self._network.settings.nick
        if chosen := self._chosen():
            return chosen
        return await self._nicks.find(owner) or base_of(owner, self._login.name)


def _realname(settings: IrcSettings, owner: str | None) -> str:
    """Servers cut it, some after 50 bytes: who it is comes first."""
    if owner is None or not settings.show_matrix_ids:
        return settings.describe(owner)
    rest = f"; contact: {settings.contact}" if settings.contact else ""
    return f"{owner} (Trestle, a bridge to Matrix{rest})"


def _without(
    others: frozenset[str], fold: Callable[[str], str], nicks: Iterator[str]
) -> Iterator[str]:
    seen = set(others)
    for nick in nicks:
        if fold(nick) not in seen:
            seen.add(fold(nick))
            yield nick
