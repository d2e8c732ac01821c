"""The real receiver on a socket, with a neighbour that records what it is handed."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from io import BytesIO
from pathlib import Path
from typing import Any

import aiohttp
import pytest_asyncio
from yarl import URL

from bridge.matrix.receiver import Receiver
from bridge.model import Transaction
from bridge.sdk.errors import TemporaryFailure
from bridge.settings.records import DatabaseSettings, Settings
from bridge.telemetry import Telemetry
from tests.conformance.stage import Play, play
from tests.rigs.trestle import make_settings


@dataclass
class Recorder:
    """Takes transactions, or says that the database is away; knows one user and one alias."""

    taken: list[Transaction] = field(default_factory=list)
    away: bool = False
    fault: Exception | None = None
    """What is raised at every question."""

    async def accept(self, transaction: Transaction) -> None:
        if self.away:
            raise TemporaryFailure("the database is away")
        self._fail()
        self.taken.append(transaction)

    def _fail(self) -> None:
        if self.fault is not None:
            raise self.fault

    async def knows_user(self, user_id: str) -> bool:
        self._fail()
        return user_id in {"@_t_known:hs", "@_t_a/b:hs"}

    async def knows_alias(self, alias: str) -> bool:
        self._fail()
        return alias == "#_t_x:hs"

    def protocol(self, name: str) -> dict[str, Any] | None:
        return {"user_fields": ["nick"], "instances": []} if name == "irc" else None

    async def find_users(self, protocol: str, fields: Mapping[str, str]) -> list[dict[str, Any]]:
        self._fail()
        return [{"userid": "@_t_x:hs", "protocol": protocol, "fields": dict(fields)}]

    async def find_locations(
        self, protocol: str, fields: Mapping[str, str]
    ) -> list[dict[str, Any]]:
        return [{"alias": "#_t_x:hs", "protocol": protocol, "fields": dict(fields)}]

    async def read_user(self, user_id: str) -> list[dict[str, Any]]:
        self._fail()
        return [{"userid": user_id}] if user_id == "@_t_known:hs" else []

    async def read_location(self, alias: str) -> list[dict[str, Any]]:
        return [{"alias": alias}] if alias == "#_t_x:hs" else []


@dataclass
class Door:
    """The receiver and a client in front of it."""

    settings: Settings
    receiver: Receiver
    recorder: Recorder
    telemetry: Telemetry
    session: aiohttp.ClientSession

    @property
    def bearer(self) -> str:
        return f"Bearer {self.settings.appservice.hs_tokens[0].reveal()}"

    async def ask(
        self, method: str, path: str, body: Any = None, *, token: str | None = None, **more: Any
    ) -> tuple[int, Any]:
        """Send a request; give the status and the JSON. ``token`` replaces the right header."""
        headers = {**more.pop("headers", {})}
        authorization = self.bearer if token is None else token
        if authorization:
            headers["Authorization"] = authorization
        is_raw = isinstance(body, bytes | BytesIO | AsyncIterator)
        data = {"data": body} if is_raw else {"json": body}
        url = f"http://{self.receiver.address}{path}"
        async with self.session.request(
            method, URL(url, encoded=True), headers=headers,
            **({} if body is None else data), **more,
        ) as response:  # fmt: skip
            return response.status, await response.json()

    async def put(self, body: Any, name: str = "1", **more: Any) -> tuple[int, Any]:
        """Put a transaction."""
        return await self.ask("PUT", f"/_matrix/app/v1/transactions/{name}", body, **more)


@asynccontextmanager
async def open_door(
    state_dir: Path, *, body_limit: float = 60, idle_limit: float = 300, **changes: Any
) -> AsyncIterator[Door]:
    """Have a receiver listen until the block ends; ``changes`` are of its settings."""
    settings = make_settings(state_dir)
    settings = replace(settings, appservice=replace(settings.appservice, **changes))
    recorder, telemetry = Recorder(), Telemetry()
    receiver = Receiver(
        settings.appservice, recorder, recorder, telemetry,
        body_limit=body_limit, idle_limit=idle_limit,
    )  # fmt: skip
    await receiver.start()
    try:
        async with aiohttp.ClientSession() as session:
            yield Door(settings, receiver, recorder, telemetry, session)
    finally:
        await receiver.stop()


@pytest_asyncio.fixture
async def door(tmp_path: Path) -> AsyncIterator[Door]:
    async with open_door(tmp_path) as opened:
        yield opened


def event(number: int = 1, **changes: Any) -> dict[str, Any]:
    """A message event."""
    return {
        "event_id": f"$e{number}", "room_id": "!r:hs", "sender": "@a:hs",
        "type": "m.room.message", "content": {"msgtype": "m.text", "body": "x"},
        "origin_server_ts": 1, **changes,
    }  # fmt: skip


@pytest_asyncio.fixture
async def stage(database_settings: DatabaseSettings, folder: Path) -> AsyncIterator[Play]:
    """A whole Trestle with the dice bot, on a real Postgres, before a scripted homeserver."""
    async with play(database_settings, folder) as started:
        yield started
