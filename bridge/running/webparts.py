"""The web with all that belongs to it: loaded only where the settings have one."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager

from bridge.core.portals.openchats import OpenChats
from bridge.matrix.downloads import Downloads
from bridge.matrix.medialinks import MediaLinks
from bridge.net.openid import OpenIdVerifier
from bridge.running.parts import Parts
from bridge.storage.tokens import Links, Tokens, UsedOpenIds
from bridge.web.media import MediaProxy
from bridge.web.provisioning import Provisioning
from bridge.web.server import WebServer


@asynccontextmanager
async def open_web(
    parts: Parts,
    tokens: Tokens,
    media_links: MediaLinks,
    is_deleted: Callable[[str], Awaitable[bool]],
) -> AsyncIterator[WebServer]:
    """Have the web made of the parts; it does not listen yet.

    ``is_deleted``: whether the message of such a mark is. Raises ``ConfigError`` when its URLs
    cannot be.
    """
    settings, database = parts.settings, parts.database
    homeserver = settings.homeserver
    async with AsyncExitStack() as stack:
        openid = await stack.enter_async_context(OpenIdVerifier(
            {homeserver.server_name: homeserver.url} | dict(settings.web.homeservers),
            UsedOpenIds(database, settings.state_dir).note, database.clock,
        ))  # fmt: skip
        downloads = await stack.enter_async_context(
            Downloads(homeserver.url, settings.appservice.as_token, parts.namespaces.bot)
        )
        provisioning = Provisioning(
            parts.logins, parts.portals, parts.plumbing, parts.permissions, parts.consents
        )
        yield WebServer(
            settings.web, tokens, Links(database), openid, provisioning,
            OpenChats(parts.portals, parts.intents, parts.instances),
            MediaProxy(media_links, downloads, is_deleted),
        )  # fmt: skip
