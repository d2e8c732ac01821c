"""The homeserver's media, read in pieces by authenticated requests."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlencode

import aiohttp
from yarl import URL

from bridge.matrix.client import Reply, path, read_content, reason_of, refusal_of
from bridge.matrix.medialinks import Media
from bridge.sdk.errors import TemporaryFailure
from bridge.sdk.ids import UserId
from bridge.sdk.secret import Secret

_MOST = 64
"""Connections at once."""


class Downloads:
    """Reads as one of our bots. Use it as an async context manager."""

    def __init__(self, url: str, as_token: Secret, bot: UserId) -> None:
        self._url = url.rstrip("/")
        self._token = as_token
        self._bot = bot
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> "Downloads":
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=_MOST), trust_env=False
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session is not None:
            await self._session.close()

    @asynccontextmanager
    async def reading(
        self, media: Media, part: str | None = None
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Have the media open for the length of the block.

        ``part`` is asked for (a ``Range``, RFC 9110, 14.2): the answer is 206 or 416 where the
        homeserver heeds it, else all there is. Raises :class:`MatrixError` if the homeserver does
        not give it, ``TemporaryFailure`` if it is away.
        """
        if self._session is None:
            raise TemporaryFailure("the connection to the homeserver is closed")
        place = path("v1", "media", "download", media.server, media.id)
        url = URL(f"{self._url}{place}?{urlencode({'user_id': self._bot})}", encoded=True)
        headers = {"Authorization": f"Bearer {self._token.reveal()}"}
        if part is not None:
            headers["Range"] = part
        try:
            async with self._session.get(
                url, headers=headers, allow_redirects=False,
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=30),
            ) as response:  # fmt: skip
                if response.status >= 300 and not (part and response.status == 416):
                    content = read_content(response.status, await response.read())
                    content = content if isinstance(content, dict) else {}
                    raise refusal_of(Reply(response.status, content, None))
                yield response
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            cause = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
            raise TemporaryFailure(
                f"the homeserver cannot be reached: {reason_of(cause, url.host)}"
            ) from error
