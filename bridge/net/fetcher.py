"""The guarded fetcher: the only way to an address that a user named.

Nothing that is shipped fetches one so far; whatever comes to do so goes through here.

A feed, a webhook's target, an avatar's address: whoever names it chooses where we connect to, and
our own network must not be among the choices. Each connection is checked where it is made, on the
address itself (``bridge.net.reach``); a check before the look-up could be led past by a name that
changes its mind, and a resolver of our own is not asked about numbers. Redirects are followed by
us, three at most, each checked like the first. Time, bytes and the ratio of inflation are bounded.
"""

import asyncio
import ipaddress
import socket
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import aiohttp
from aiohttp.abc import AbstractResolver
from yarl import URL

from bridge import __version__
from bridge.net.reach import Reach
from bridge.sdk.errors import PermanentFailure, TemporaryFailure
from bridge.sdk.secret import Secret

MOST_REDIRECTS = 3
MOST_RATIO = 100
"""How many bytes may come of one when an answer is inflated ..."""

_RATIO_FROM = 256 * 1024
"""... once it is this long: a short text may repeat itself."""

_CHUNK = 64 * 1024
_PIECE = 256 * 1024
_LONGEST_URL = 4096
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_SHOWN = frozenset(
    {"content-type", "etag", "last-modified", "cache-control", "expires", "retry-after"}
)
_PRIVATE = frozenset({"authorization", "cookie", "proxy-authorization"})
"""Headers that stay with the host that they were meant for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetched:
    """An answer."""

    url: str
    """Where it came from, after all redirects."""
    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    """The few that say something about the body; names in small letters."""
    body: bytes = field(default=b"", repr=False)
    """Empty unless the status is one of success."""


class _NotThere(OSError):
    """The address may not be connected to."""


class GuardedFetcher:
    """Fetches what a user named. Nothing is kept between two fetches: no connection, no cookie.

    ``resolver`` is asked instead of the system's; what it says is checked like the system's.
    """

    def __init__(self, reach: Reach, *, resolver: AbstractResolver | None = None) -> None:
        self._reach = reach
        self._resolver = resolver

    async def fetch(
        self,
        url: str,
        *,
        method: str = "GET",
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        bearer: Secret | None = None,
        most_bytes: int = 5_000_000,
        within: float = 20.0,
    ) -> Fetched:
        """Fetch it, in ``within`` seconds at most, all redirects together.

        ``most_bytes`` is the longest body, inflated. ``bearer`` and headers that identify us go
        to the first host only. Raises ``PermanentFailure`` for what must not or cannot be
        fetched, ``TemporaryFailure`` when nobody answers. Neither quotes the answer, and an inner
        address that is open, closed or silent gets one and the same sentence, at once.
        """
        place = _parse(url)
        sent = {name.lower(): value for name, value in (headers or {}).items()}
        if bearer is not None:
            sent["authorization"] = f"Bearer {bearer.reveal()}"
        try:
            async with asyncio.timeout(within):
                for _ in range(MOST_REDIRECTS + 1):
                    answer, then = await self._once(method, place, sent, body, most_bytes)
                    if then is None:
                        return answer
                    place = then
                    sent = {name: sent[name] for name in sent.keys() - _PRIVATE}
                    if answer.status == 303 or (answer.status < 303 and method == "POST"):
                        method, body = "GET", None
        except TimeoutError as error:
            raise TemporaryFailure(
                f"{place.host} did not answer whole within {within:g} seconds"
            ) from error
        raise PermanentFailure(f"{_parse(url).host} redirects more than {MOST_REDIRECTS} times")

    async def _once(
        self,
        method: str,
        place: URL,
        headers: Mapping[str, str],
        body: bytes | None,
        most_bytes: int,
    ) -> tuple[Fetched, URL | None]:
        """Make one request; with the answer, where it leads to if it is a redirect."""
        if not self._reach.port_is_open(place.port or 0):
            raise _refusal(place)
        refused: list[str] = []
        try:
            async with (
                self._session(place, refused) as session,
                session.request(
                    method, place, headers=headers, data=body, allow_redirects=False
                ) as response,
            ):
                then = _leads_to(response, place)
                content = b""
                if then is None and 200 <= response.status < 300:
                    content = await _read(response, most_bytes)
                return _answer(response, place, content), then
        except (aiohttp.ClientError, OSError, RuntimeError) as error:
            if isinstance(error, TimeoutError):
                raise
            if refused:
                raise _refusal(place) from error
            raise _translate(error, place) from error
        except ValueError as error:  # A header or address that aiohttp does not take.
            raise PermanentFailure(f"{place.host} cannot be asked like that") from error

    def _session(self, place: URL, refused: list[str]) -> aiohttp.ClientSession:
        def connect(found: aiohttp.AddrInfoType) -> socket.socket:
            family, kind, protocol, _, target = found
            address = ipaddress.ip_address(str(target[0]).partition("%")[0])
            if not self._reach.may_connect(_name(place), address, int(target[1])):
                refused.append(str(address))
                raise _NotThere("not an address for us")
            return socket.socket(family, kind, protocol)

        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                socket_factory=connect, resolver=self._resolver, use_dns_cache=False,
                force_close=True,
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"User-Agent": f"Trestle/{__version__}", "Accept-Encoding": "gzip"},
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=10),
            auto_decompress=False,
            trust_env=False,
        )  # fmt: skip


def _parse(url: str) -> URL:
    """Read an address as a user named it. Raises ``PermanentFailure`` if it is none."""
    if len(url) > _LONGEST_URL:
        raise PermanentFailure("the address is too long")
    # Readers of URLs disagree about all of these; so nobody needs to read them.
    if any(char <= " " or char in "\\\x7f" for char in url) or not url.isprintable():
        raise PermanentFailure("an address has no blanks and no backslashes")
    try:
        place = URL(url)
        authority = urlsplit(url).netloc
        port = place.port
    except ValueError as error:
        raise PermanentFailure("that is no address of the web") from error
    if place.scheme not in ("http", "https") or not place.host or port is None:
        raise PermanentFailure("that is no address of the web: it begins with https:// or http://")
    if "@" in authority:
        raise PermanentFailure("an address with a name or password in it is not fetched")
    return place.with_fragment(None)


def _leads_to(response: aiohttp.ClientResponse, place: URL) -> URL | None:
    target = response.headers.get("Location")
    if response.status not in _REDIRECTS or target is None:
        return None
    try:
        return _parse(str(place.join(URL(target))))
    except (ValueError, PermanentFailure) as error:
        raise PermanentFailure(
            f"{place.host} redirects to what is no address of the web"
        ) from error


def _answer(response: aiohttp.ClientResponse, place: URL, content: bytes) -> Fetched:
    return Fetched(
        url=str(place),
        status=response.status,
        headers={
            name.lower(): value
            for name, value in response.headers.items()
            if name.lower() in _SHOWN
        },
        body=content,
    )


async def _read(response: aiohttp.ClientResponse, most: int) -> bytes:
    """Read the body, inflated. Raises ``PermanentFailure`` when it is too long or no gzip."""
    host = response.url.host
    encoding = response.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding not in ("identity", "gzip", "x-gzip"):
        raise PermanentFailure(f"{host} answers in an encoding that nobody asked for")
    too_long = PermanentFailure(f"what {host} sends is longer than {most} bytes")
    if (response.content_length or 0) > most:
        raise too_long
    inflating = encoding != "identity"
    inflater = _Inflater(most)
    content = bytearray()
    async for chunk in response.content.iter_chunked(_CHUNK):
        try:
            content += inflater.inflate(chunk) if inflating else chunk
        except (zlib.error, OverflowError) as error:
            if isinstance(error, OverflowError):
                raise too_long from error
            raise PermanentFailure(f"what {host} sends is not the gzip it says") from error
        if len(content) > most:
            raise too_long
    if inflating and not inflater.is_whole:
        raise PermanentFailure(f"what {host} sends ends too early")
    return bytes(content)


class _Inflater:
    """Inflates gzip piece by piece, never more at once than may be kept."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._taken = self._given = 0
        self._member = zlib.decompressobj(31)

    @property
    def is_whole(self) -> bool:
        """Whether what was given so far is complete."""
        return self._member.eof or not self._taken

    def inflate(self, chunk: bytes) -> bytes:
        """Raise ``OverflowError`` when too much comes of it, ``zlib.error`` if it is no gzip."""
        self._taken += len(chunk)
        made = bytearray()
        while True:
            if self._member.eof and chunk:  # A file of several, one after the other.
                self._member = zlib.decompressobj(31)
            limit = min(_PIECE, self._most - self._given + 1)
            piece = self._member.decompress(chunk, limit)
            made += piece
            self._given += len(piece)
            if self._given > self._most or self._given > max(
                _RATIO_FROM, MOST_RATIO * self._taken
            ):
                raise OverflowError
            chunk = self._member.unused_data or self._member.unconsumed_tail
            if not chunk and (self._member.eof or len(piece) < limit):
                break
        return bytes(made)


def _name(place: URL) -> str:
    return (place.host or "").casefold().rstrip(".")


def _refusal(place: URL) -> PermanentFailure:
    return PermanentFailure(f"{place.host} is not a place that may be reached from here")


def _translate(error: Exception, place: URL) -> TemporaryFailure | PermanentFailure:
    host = place.host
    match error:
        case aiohttp.ClientConnectorDNSError():
            return TemporaryFailure(f"there is no host {host}, or nobody tells us where it is")
        case aiohttp.ClientSSLError() | aiohttp.ServerFingerprintMismatch():
            return TemporaryFailure(f"{host} has no certificate that is valid for it")
        case aiohttp.InvalidURL():
            return PermanentFailure("that is no address of the web")
        case _:
            return TemporaryFailure(f"{host} does not answer properly")
