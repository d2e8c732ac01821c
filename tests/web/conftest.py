"""A web server of ours beside a database, and a homeserver that vouches for Alice."""

import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest_asyncio

from bridge.model import SystemClock
from bridge.net.openid import OpenIdVerifier
from bridge.sdk.ids import UserId
from bridge.settings.records import Address, DatabaseSettings, WebSettings
from bridge.storage.audit import Audit
from bridge.storage.pool import Database
from bridge.storage.tokens import Links, Tokens, UsedOpenIds
from bridge.web.server import WebServer
from tests.net.server import always, plain, scripted
from tests.rigs.cluster import Cluster

MANAGER, PUBLIC = "https://manager.example", "https://public.example:8443"
ALICE, BEA = UserId("@alice:good.example"), UserId("@bea:good.example")


@dataclass
class Answer:
    """What a request got."""

    status: int
    content: Any
    """The JSON, else the text."""
    headers: Mapping[str, str]
    errcode: str = ""


@dataclass
class Site:
    """The running server, and a browser-less visitor."""

    server: WebServer
    database: Database
    session: aiohttp.ClientSession

    async def ask(
        self, method: str, path: str, *, token: str | None = None, public: bool = False,
        **options: Any,
    ) -> Answer:  # fmt: skip
        """Make a request as a program would."""
        headers = dict(options.pop("headers", {}))
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        address = self.server.public_address if public else self.server.address
        async with self.session.request(
            method, f"http://{address}{path}", headers=headers, allow_redirects=False, **options
        ) as response:
            is_json = response.content_type == "application/json"
            content: Any = await (response.json() if is_json else response.text())
            errcode = content.get("errcode", "") if is_json else ""
            return Answer(response.status, content, response.headers, errcode)

    async def sign_in(self, user: UserId = ALICE, purpose: str = "manager") -> str:
        """Open a one-time link of that user's; give the token."""
        link = await self.server.make_link(user, purpose)
        assert link is not None
        answer = await self.ask(
            "POST", "/_trestle/v1/links/take", json={"token": link.partition("#")[2]}
        )
        assert answer.status == 200, answer.content
        return str(answer.content["token"])


@asynccontextmanager
async def run_site(database: Database, folder: Path, homeserver_url: str) -> AsyncIterator[Site]:
    """Have it until the block ends."""
    settings = WebSettings(
        listen=Address("127.0.0.1", 0), manager_url=f"{MANAGER}/",
        public_listen=Address("127.0.0.1", 0), public_url=PUBLIC,
    )  # fmt: skip
    async with (
        OpenIdVerifier(
            {"good.example": homeserver_url}, UsedOpenIds(database, folder).note, SystemClock()
        ) as openid,
        aiohttp.ClientSession() as session,
    ):
        audit = Audit(database, folder)
        server = WebServer(settings, Tokens(database, audit), Links(database), openid)
        await server.start()
        try:
            yield Site(server, database, session)
        finally:
            await server.stop()


@asynccontextmanager
async def open_site(settings: DatabaseSettings, folder: Path) -> AsyncIterator[Site]:
    """A site with all that stands behind it."""
    vouched = plain(b'{"sub": "@alice:good.example"}', Content_Type="application/json")
    async with (
        Database.open(settings, folder, SystemClock()) as database,
        scripted(always(vouched)) as homeserver,
        run_site(database, folder, f"http://127.0.0.1:{homeserver.port}") as running,
    ):
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def shared_site(cluster: Cluster) -> AsyncIterator[Site]:
    """One for all tests of a file."""
    with tempfile.TemporaryDirectory() as folder:
        async with open_site(await cluster.fresh(), Path(folder)) as running:
            yield running


@pytest_asyncio.fixture
async def site(shared_site: Site) -> Site:
    """The site, with nobody signed in."""
    for table in ("token", "link", "openid_used"):
        await shared_site.database.core.execute(f"DELETE FROM {table}")  # noqa: S608
    return shared_site
