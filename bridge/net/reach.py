"""Which addresses may be connected to when a user named the place.

The question is asked of the address that is about to be connected to, after every look-up and
redirect: what a name meant a moment before does not count.
"""

import ipaddress
import re
import socket
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from typing import TypeAlias

from bridge.sdk.errors import ConfigError
from bridge.settings.records import Address

IpAddress: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
_Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

WEB_PORTS = frozenset({80, 443})

DENIED: tuple[_Network, ...] = tuple(
    ipaddress.ip_network(text)
    for text in (
        # IPv4: this machine, private nets, carriers, link-local with the clouds' metadata, the
        # documentation's, benchmarks, 6to4 relays, multicast, reserved; the last is Azure's.
        "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16",
        "172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16",
        "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4",
        "168.63.129.16/32",
        # IPv6 that carries an IPv4 address: compatible, mapped, translated, NAT64 (well-known
        # and local), Teredo, 6to4.
        "::/96", "::ffff:0:0/96", "::ffff:0:0:0/96", "64:ff9b::/96", "64:ff9b:1::/48",
        "2001::/32", "2002::/16",
        # IPv6 for special use: discard, ORCHID, benchmarks, documentation, segment routing,
        # private, link-local, site-local, multicast.
        "100::/64", "2001:2::/48", "2001:10::/28", "2001:20::/28", "2001:db8::/32", "3fff::/20",
        "5f00::/16", "fc00::/7", "fe80::/10", "fec0::/10", "ff00::/8",
    )
)  # fmt: skip
"""Never reached, whatever the standard library calls global: it lets several of them pass."""

_NOBODYS = "192.0.2.1"
"""An address of the documentation's: no machine has it."""

_ALLOWED = re.compile(r"(\[[^\]]+\]|[^:\[\]]+)(?::(\d{1,5}))?")
_NAME = re.compile(r"[a-z0-9_]([a-z0-9._-]*[a-z0-9_])?")


@dataclass(frozen=True, slots=True)
class Allowed:
    """A host of the admin's own that people may name although it is inside."""

    name: str | None
    network: _Network | None
    port: int | None
    """None: the ports that are open for everybody."""

    @classmethod
    def parse(cls, text: str) -> "Allowed":
        """Read ``feeds.lan``, ``10.0.0.5:8080``, ``10.1.0.0/16`` or ``[fd00::5]:8080``.

        Raises ``ConfigError`` if it is none of these.
        """
        for network in _networks(text):
            return cls(None, network, None)
        match = _ALLOWED.fullmatch(text)
        if match is None or not 0 < int(match[2] or 1) < 65536:
            raise _no_host(text)
        port = int(match[2]) if match[2] else None
        for network in _networks(match[1].strip("[]")):
            return cls(None, network, port)
        name = match[1].casefold().rstrip(".")
        if not _NAME.fullmatch(name):
            raise _no_host(text)
        return cls(name, None, port)

    def covers(self, name: str, address: IpAddress) -> bool:
        """Whether it speaks of the address, found under that name."""
        if self.network is not None:
            return address in self.network
        return name == self.name


def _no_host(text: str) -> ConfigError:
    return ConfigError(
        f"{text!r} is no host, no host:port and no network like 10.1.0.0/16",
        path="fetching.allow",
    )


class Reach:
    """Says yes or no to a connection.

    ``ports`` are open for everybody; ``allow`` are hosts of the admin's own; ``own_listeners``
    gives the addresses at which we listen ourselves, which nobody reaches through us.
    """

    def __init__(
        self,
        *,
        ports: Iterable[int] = WEB_PORTS,
        allow: Iterable[str] = (),
        own_listeners: Callable[[], Iterable[Address]] = tuple,
    ) -> None:
        self._ports = frozenset(ports)
        self._allow = [Allowed.parse(text) for text in allow]
        self._own_listeners = own_listeners

    def port_is_open(self, port: int) -> bool:
        """Whether any host may be asked at that port. What it says is no secret."""
        return port in self._ports or any(port == allowed.port for allowed in self._allow)

    def may_connect(self, name: str, address: IpAddress, port: int) -> bool:
        """Whether the address, to which ``name`` (as in the URL) led, may be connected to."""
        if any(port == own.port for own in self._own_listeners()) and is_ours(address):
            return False
        for allowed in self._allow:
            open_ports = self._ports if allowed.port is None else (allowed.port,)
            if port in open_ports and allowed.covers(name, address):
                return True
        return port in self._ports and is_outside(address) and not is_ours(address)


def is_outside(address: IpAddress) -> bool:
    """Whether it is an address of the internet at large."""
    return address.is_global and not any(address in network for network in DENIED)


def is_ours(address: IpAddress) -> bool:
    """Whether this machine has the address: only then can a socket be bound to it.

    What listens on one of our public addresses may trust whoever comes from this machine.
    """
    return not _binds_to_anything() and _can_bind(address)


@cache
def _binds_to_anything() -> bool:
    # An admin may have set net.ipv4.ip_nonlocal_bind; then binding tells nothing.
    return _can_bind(ipaddress.ip_address(_NOBODYS))


def _can_bind(address: IpAddress) -> bool:
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((str(address), 0))
    except OSError:
        return False
    return True


def _networks(text: str) -> Iterable[_Network]:
    """The network that the text spells, if it spells one."""
    try:
        yield ipaddress.ip_network(text, strict=False)
    except ValueError:
        return
