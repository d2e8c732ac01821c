"""Somebody who asks the listener for monitoring."""

import asyncio

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from bridge.demo.matrix_user import PATIENCE

Labels = frozenset[tuple[str, str]]


class Watcher:
    """Asks the listener."""

    def __init__(self, session: aiohttp.ClientSession, port: int) -> None:
        self._session = session
        self._url = f"http://127.0.0.1:{port}"

    async def ask(self, path: str, method: str = "GET") -> tuple[int, str]:
        """The status and the body."""
        async with self._session.request(method, self._url + path) as response:
            return response.status, await response.text()

    async def values(self) -> dict[tuple[str, Labels], float]:
        """Every value of ``/metrics`` by name and labels."""
        families = text_string_to_metric_families((await self.ask("/metrics"))[1])
        return {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in families
            for sample in family.samples
        }

    async def wait_for_value(self, name: str, value: float) -> None:
        """Ask until a metric without labels has the value."""
        async with asyncio.timeout(PATIENCE):
            while (await self.values())[name, frozenset()] != value:
                await asyncio.sleep(0.02)

    async def wait_for(self, path: str, status: int) -> str:
        """Ask until that is the status; give the body."""
        async with asyncio.timeout(PATIENCE):
            while True:
                now, body = await self.ask(path)
                if now == status:
                    return body
                await asyncio.sleep(0.02)
