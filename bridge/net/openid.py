"""The OpenID verifier: asks a homeserver whose token it is, and believes nothing else.

(Matrix server-server API, "OpenID": ``GET /_matrix/federation/v1/openid/userinfo``.) Only the
homeservers of the settings are asked, each at the URL that the settings give: what the token's
bearer says of addresses leads nowhere. A homeserver vouches for its own users only. A token is
accepted once, because anybody to whom it was shown before could show it too.

How long a token is really good for only its homeserver knows: the answer does not say it, and
``expires_in`` is what the bearer says. An hour is what homeservers give (Synapse always, Dendrite
and others by default). That one was used is remembered for much longer, so that a token from a
homeserver that gives more is not accepted twice either, within :data:`REMEMBERED`.
"""

import asyncio
import hashlib
import re
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime, timedelta
from time import monotonic

import aiohttp
import orjson
from yarl import URL

from bridge.model import Clock
from bridge.sdk.errors import PermanentFailure, TemporaryFailure
from bridge.sdk.ids import UserId

LONGEST_LIFE = timedelta(hours=1)
"""How long a token may say that it is good for."""

REMEMBERED = timedelta(days=30)
"""So long it is remembered that a token was used."""

_MOST_EACH, _SPAN = 60, 3600.0
"""So many tokens of one person are accepted in that time: each is remembered."""

Once = Callable[[bytes, datetime], Awaitable[bool]]
"""Notes a token's hash until that moment, durably; False if it was noted before."""

_PATH = "/_matrix/federation/v1/openid/userinfo"
_LONGEST_ANSWER = 16 * 1024
_LONGEST_TOKEN = 1024
_LONGEST_ID = 255
_TOKEN = re.compile(r"[!-~]+")
_SUB = re.compile(r"@(?P<localpart>[!-9;-~]+):(?P<server>.+)", re.DOTALL)
"""Appendix 4.2: historical localparts too are printable ASCII without a colon."""

_REFUSED = "nobody vouches for this token: it is not real, or its time is over"


class OpenIdRefused(PermanentFailure):
    """Nobody vouches that those who ask are who they say: answer 401."""


class OpenIdTooOften(PermanentFailure):
    """Whoever asks has signed in very often just now: answer 429."""


class OpenIdVerifier:
    """Tells whose an OpenID token is.

    ``homeservers``: server name to base URL. ``once`` keeps what was used. A homeserver has
    ``within`` seconds for its whole answer. Use it as an async context manager.
    """

    def __init__(
        self, homeservers: Mapping[str, str], once: Once, clock: Clock, *, within: float = 10.0,
        elapsed: Callable[[], float] = monotonic,
    ) -> None:  # fmt: skip
        self._homeservers = {name: url.rstrip("/") for name, url in homeservers.items()}
        self._once = once
        self._clock = clock
        self._within = within
        self._session: aiohttp.ClientSession | None = None
        self._accepted: Counter[UserId] = Counter()
        self._elapsed = elapsed
        self._counted_since = elapsed()

    async def __aenter__(self) -> "OpenIdVerifier":
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=8),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"Accept-Encoding": "identity"},
            auto_decompress=False,
            trust_env=False,
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session is not None:
            await self._session.close()

    async def verify(self, credentials: object) -> UserId:
        """Give the user whose token it is.

        ``credentials`` is what a client shows: the object that its homeserver answered to
        ``/openid/request_token``, parsed. Raises :class:`OpenIdRefused`,
        :class:`OpenIdTooOften` (the token is still good then), and ``TemporaryFailure`` when the
        homeserver is away.
        """
        token, server = self._read(credentials)
        user = _user_in(await self._ask(server, token), server)
        digest = hashlib.sha256(f"{server} {token}".encode()).digest()
        self._refuse_too_many(user)
        self._accepted[user] += 1  # Now: others of the same person may be under way.
        is_first = False
        try:
            is_first = await self._once(digest, self._clock.now() + REMEMBERED)
        finally:
            self._accepted[user] -= not is_first
        if not is_first:
            raise OpenIdRefused("this token was used before; ask for another one")
        return user

    # --- inside ---

    def _refuse_too_many(self, user: UserId) -> None:
        now = self._elapsed()
        if now - self._counted_since >= _SPAN:
            self._accepted.clear()
            self._counted_since = now
        if self._accepted[user] >= _MOST_EACH:
            raise OpenIdTooOften("You signed in very often; try again in an hour.")

    def _read(self, credentials: object) -> tuple[str, str]:
        """The token and the server name of what a client shows."""
        if not isinstance(credentials, dict):
            raise OpenIdRefused("an OpenID object must be shown")
        token = credentials.get("access_token")
        if (
            not isinstance(token, str)
            or len(token) > _LONGEST_TOKEN
            or not _TOKEN.fullmatch(token)
        ):
            raise OpenIdRefused("its access_token is no token")
        if credentials.get("token_type") != "Bearer":
            raise OpenIdRefused("its token_type is not Bearer")
        seconds = credentials.get("expires_in")
        if isinstance(seconds, bool) or not isinstance(seconds, int):
            raise OpenIdRefused("its expires_in is no number of seconds")
        if not 0 < seconds <= LONGEST_LIFE.total_seconds():
            raise OpenIdRefused("its expires_in is over, or longer than an hour")
        server = credentials.get("matrix_server_name")
        if not isinstance(server, str) or server not in self._homeservers:
            raise OpenIdRefused("people of that homeserver are not known here")
        return token, server

    async def _ask(self, server: str, token: str) -> object:
        """The homeserver's answer, parsed."""
        if self._session is None:
            raise TemporaryFailure("the connection to the homeserver is closed")
        place = URL(self._homeservers[server] + _PATH).with_query({"access_token": token})
        try:
            async with (
                asyncio.timeout(self._within),
                self._session.get(place, allow_redirects=False) as response,
            ):
                status = response.status
                raw = await response.content.read(_LONGEST_ANSWER + 1)
                while len(raw) <= _LONGEST_ANSWER and (more := await response.content.read(4096)):
                    raw += more
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise TemporaryFailure(f"the homeserver of {server} does not answer") from error
        if status >= 500 or status == 429:
            raise TemporaryFailure(f"the homeserver of {server} cannot answer now")
        if status == 404:
            raise TemporaryFailure(
                f"the homeserver of {server} has no OpenID at the URL in the settings; its "
                "listener needs the resource `openid` or `federation`"
            )
        if status != 200 or len(raw) > _LONGEST_ANSWER:
            raise OpenIdRefused(_REFUSED)
        try:
            return orjson.loads(raw)
        except orjson.JSONDecodeError as error:
            raise OpenIdRefused(_REFUSED) from error


def _user_in(answer: object, server: str) -> UserId:
    """The user that the answer names, if that server may speak for it."""
    user = answer.get("sub") if isinstance(answer, dict) else None
    match = _SUB.fullmatch(user) if isinstance(user, str) else None
    if match is None or match["server"] != server or len(match[0]) > _LONGEST_ID:
        raise OpenIdRefused("the homeserver vouches for somebody who is not its own user")
    return UserId(match[0])
