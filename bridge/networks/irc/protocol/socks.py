"""What a SOCKS 5 proxy is asked (RFC 1928), by a user name if it wants one (RFC 1929). Pure."""

from collections.abc import Generator
from ipaddress import IPv4Address, ip_address

from bridge.sdk.secret import Secret

Talk = Generator[tuple[bytes, int], bytes, None]
"""Yields what to write and how many bytes to read after it, and is sent these; no byte more is
read than the proxy's own. Raises ``ProxyError``."""

LONGEST = 255
"""Bytes of a host's name, a user name or a password."""

_VERSION, _CONNECT = 5, 1
_OPEN, _BY_PASSWORD = 0, 2
_IPV4, _NAME, _IPV6 = 1, 3, 4
_REFUSALS = {
    1: "it failed",
    2: "its rules do not allow it",
    3: "that network cannot be reached",
    4: "that host cannot be reached",
    5: "the connection was refused",
    6: "it took too long",
    7: "it makes no connections",
    8: "it knows no such addresses",
}


class ProxyError(OSError):
    """A proxy does not connect us; the text says why."""


def ask(host: str, port: int, sign_in: tuple[str, Secret] | None) -> Talk:
    """Have the proxy connect to a host. A name is looked up by the proxy, and by nobody here.

    ``sign_in``: user name and password. Raises ``UnicodeError`` for what can be no name.
    """
    place = _place(host) + port.to_bytes(2, "big")
    ways = bytes([_OPEN, _BY_PASSWORD] if sign_in else [_OPEN])
    version, way = yield bytes([_VERSION, len(ways)]) + ways, 2
    if version != _VERSION:
        raise ProxyError("it is no SOCKS 5 proxy")
    if way == _BY_PASSWORD and sign_in is not None:
        user, password = sign_in
        _, is_refused = yield b"\x01" + _text(user) + _text(password.reveal()), 2
        if is_refused:
            raise ProxyError("it does not take this user name and password")
    elif way != _OPEN:
        raise ProxyError(
            "it lets nobody in so" if sign_in else "it wants a user name and a password"
        )
    version, refusal, _, kind = yield bytes([_VERSION, _CONNECT, 0]) + place, 4
    if refusal:
        raise ProxyError(_REFUSALS.get(refusal, f"it refuses, by the number {refusal}"))
    if version != _VERSION or kind not in {_IPV4, _NAME, _IPV6}:
        raise ProxyError("it is no SOCKS 5 proxy")
    # From where it has connected, which nobody needs.
    rest = 16 if kind == _IPV6 else 4
    if kind == _NAME:
        (rest,) = yield b"", 1
    yield b"", rest + 2


def _place(host: str) -> bytes:
    try:
        address = ip_address(host)
    except ValueError:
        return bytes([_NAME]) + _text(host.encode("idna").decode())
    return bytes([_IPV4 if isinstance(address, IPv4Address) else _IPV6]) + address.packed


def _text(text: str) -> bytes:
    raw = text.encode()
    if len(raw) > LONGEST:
        raise UnicodeError(f"it has over {LONGEST} bytes")
    return bytes([len(raw)]) + raw
