"""Notices that the homeserver was restarted, even between two questions."""

import asyncio
import contextlib
from collections.abc import Callable

import aiohttp

_KEPT = 60.0
"""Seconds that a connection is kept beyond the next beat: that we are slow is no restart."""


class Pulse:
    """Holds one connection open and asks over it; when it has to be made anew, we are told.

    A proxy that closes connections now and then looks like a restart. That costs one look at
    each room, and no more often than :attr:`at_most_every`.
    """

    at_most_every = 300.0
    """Seconds between two reports of a connection that was made anew while all went well."""

    def __init__(self, url: str, on_restart: Callable[[], None], *, interval: float = 5.0) -> None:
        self._url = f"{url.rstrip('/')}/_matrix/client/versions"
        self._on_restart = on_restart
        self._interval = interval
        self._connections = 0

    async def run(self) -> None:
        """Feel the pulse until cancelled."""
        trace = aiohttp.TraceConfig()
        trace.on_connection_create_end.append(self._count)
        loop = asyncio.get_running_loop()
        reported_at = loop.time()
        was_up = True  # The start has a look of its own.
        anew = False
        """A connection was made anew, which is not reported yet."""
        async with aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=1, keepalive_timeout=self._interval + _KEPT),
            timeout=aiohttp.ClientTimeout(total=20), trace_configs=[trace], trust_env=False,
        ) as session:  # fmt: skip
            while True:
                before = self._connections
                up = await self._beat(session)
                anew |= 0 < before < self._connections
                patient = loop.time() - reported_at < self.at_most_every
                if up and (not was_up or (anew and not patient)):
                    reported_at, anew = loop.time(), False
                    self._on_restart()
                was_up = up
                await asyncio.sleep(self._interval)

    async def _beat(self, session: aiohttp.ClientSession) -> bool:
        with contextlib.suppress(aiohttp.ClientError, TimeoutError, OSError):
            async with session.get(self._url, allow_redirects=False) as response:
                await response.read()
                return response.status == 200
        return False

    async def _count(self, *_: object) -> None:
        self._connections += 1
