"""The public origin before a homeserver, with a link to one of its files."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import NamedTuple

from aiohttp import web

from bridge.demo.matrix_user import PATIENCE
from bridge.matrix.downloads import Downloads
from bridge.matrix.medialinks import Media, MediaLinks
from bridge.model import SystemClock
from bridge.sdk.ids import UserId
from bridge.sdk.secret import Secret
from bridge.web.media import MediaProxy
from bridge.web.server import _app

PUBLIC = "http://public.example"


class Origin(NamedTuple):
    """Where it listens, and the link's path."""

    path: str
    address: tuple[str, int]

    @property
    def url(self) -> str:
        """What opens the link."""
        host, port = self.address
        return f"http://{host}:{port}{self.path}"


@asynccontextmanager
async def open_origin(
    homeserver: str, file: Media, *, token: Secret, bot: UserId, name: str = "file.png",
    within: float = PATIENCE,
) -> AsyncIterator[Origin]:  # fmt: skip
    """Have it until the block ends."""
    links = MediaLinks(
        PUBLIC, lambda text: text.encode()[:16], SystemClock(), days=1, generation=1
    )
    path = links.make(file, name).removeprefix(PUBLIC)

    async def never(mark: str) -> bool:
        return False

    async with Downloads(homeserver, token, bot) as downloads:
        app = _app(PUBLIC)
        app.router.add_routes(MediaProxy(links, downloads, never, within=within).routes())
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            yield Origin(path, runner.addresses[0][:2])
        finally:
            await runner.cleanup()
