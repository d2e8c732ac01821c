"""Notices that the homeserver was restarted, even between two questions."""

import asyncio
import contextlib
from collections.abc import Callable

from yarl import URL

from bridge.matrix.connections import NO_HEADERS, Connections

_KEPT = 60.0
"""Seconds that a connection is kept beyond the next beat: that we are slow is no restart."""
_LIMIT = 20.0


class Pulse:
    """Holds one connection open and asks over it; when it has to be made anew, we are told.

    A proxy that closes connections now and then looks like a restart. That costs one look at
    each room, and no more often than :attr:`at_most_every`.
    """

    at_most_every = 300.0
    """Seconds between two reports of a connection that was made anew while all went well."""

    def __init__(self, url: str, on_restart: Callable[[], None], *, interval: float = 5.0) -> None:
        self._url = URL(url)
        self._target = f"{self._url.raw_path.rstrip('/')}/_matrix/client/versions"
        self._on_restart = on_restart
        self._interval = interval

    async def run(self) -> None:
        """Feel the pulse until cancelled."""
        loop = asyncio.get_running_loop()
        reported_at = loop.time()
        was_up = True  # The start has a look of its own.
        anew = False
        """A connection was made anew, which is not reported yet."""
        connections = Connections(self._url, idle_seconds=self._interval + _KEPT)
        try:
            while True:
                before = connections.made
                up = await self._beat(connections)
                anew |= 0 < before < connections.made
                patient = loop.time() - reported_at < self.at_most_every
                if up and (not was_up or (anew and not patient)):
                    reported_at, anew = loop.time(), False
                    self._on_restart()
                was_up = up
                await asyncio.sleep(self._interval)
        finally:
            await connections.close()

    async def _beat(self, connections: Connections) -> bool:
        with contextlib.suppress(TimeoutError, OSError):
            answer = await connections.ask("GET", self._target, NO_HEADERS, None, seconds=_LIMIT)
            return answer.status == 200
        return False
