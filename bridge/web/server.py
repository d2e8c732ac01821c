"""The two listeners: the manager's, at the root of an origin of its own, and the public one.

Element lets any page of the manager's origin act for the user, so that nothing that others made
is ever served there: media, and what anybody may open, have the other origin.
"""

import logging
from pathlib import Path

from aiohttp import web
from aiohttp.http import HttpProcessingError

from bridge.core.portals.openchats import OpenChats
from bridge.matrix.listener import cannot_listen
from bridge.net.openid import OpenIdVerifier
from bridge.sdk.errors import ConfigError
from bridge.sdk.ids import UserId
from bridge.settings.records import Address, WebSettings
from bridge.storage.tokens import Links, Tokens
from bridge.web.api import Api, OnSession
from bridge.web.bridged import BridgedPage
from bridge.web.errors import errors, note_begun
from bridge.web.headers import headers_for, origin_of
from bridge.web.media import MediaProxy
from bridge.web.pages import page
from bridge.web.places import BRIDGED
from bridge.web.provisioning import Provisioning

_HERE = Path(__file__).parent
_LONGEST_BODY = 64 * 1024

_library_log = logging.getLogger("aiohttp.server.trestle")


def _is_no_complaint(record: logging.LogRecord) -> bool:
    """Whether it is no complaint about what came in: strangers may send what is no HTTP."""
    return not (record.exc_info and isinstance(record.exc_info[1], HttpProcessingError))


_library_log.addFilter(_is_no_complaint)


class WebServer:
    """Serves while the settings give it URLs."""

    def __init__(
        self,
        settings: WebSettings,
        tokens: Tokens,
        links: Links,
        openid: OpenIdVerifier,
        provisioning: Provisioning | None = None,
        chats: OpenChats | None = None,
        media: MediaProxy | None = None,
    ) -> None:
        """Without ``provisioning`` there is no more than signing in, without ``media`` none.

        Raises ``ConfigError`` when the two URLs would share an origin, or lie below one.
        """
        self._settings = settings
        self._tokens = tokens
        self._links = links
        self._openid = openid
        self._provisioning = provisioning
        self._chats = chats
        self._media = media
        self._runners: list[web.AppRunner] = []
        self.on_session: OnSession = lambda session: None
        self.address: Address | None = None
        """Where the manager listens, once it does."""
        self.public_address: Address | None = None
        _check(settings)

    async def start(self) -> None:
        """Listen where the settings say. Raises ``ConfigError`` when an address is taken."""
        settings = self._settings
        if settings.manager_url is not None:
            self.address = await self._listen(
                self._manager(settings.manager_url), settings.listen, "web.listen"
            )
        if settings.public_url is not None:
            self.public_address = await self._listen(
                self._public(settings.public_url), settings.public_listen, "web.public_listen"
            )

    async def stop(self) -> None:
        """Stop listening."""
        runners, self._runners = self._runners, []
        for runner in runners:
            await runner.cleanup()

    async def make_link(self, user: UserId, purpose: str) -> str | None:
        """A one-time link for that user and purpose, to be sent to nobody else; None without web.

        What it carries stands behind the ``#``: no server, proxy or log sees it, and a program
        that looks at links in chats does not open it.
        """
        if self._settings.manager_url is None:
            return None
        token = await self._links.make(user, purpose)
        return f"{self._settings.manager_url.rstrip('/')}/link#{token.reveal()}"

    # --- inside ---

    def _manager(self, url: str) -> web.Application:
        api = Api(origin_of(url), self._tokens, self._links, self._openid)
        api.on_session = self.on_session
        app = _app(url, api)
        app.router.add_routes(api.routes())
        if self._provisioning is not None:
            self._provisioning.signed_in = api.signed_in
            app.router.add_routes(self._provisioning.routes())
        app.router.add_get("/link", _link_page)
        return app

    def _public(self, url: str) -> web.Application:
        app = _app(url)
        if self._chats is not None:
            app.router.add_get(BRIDGED, BridgedPage(self._settings, self._chats).show)
        if self._media is not None:
            app.router.add_routes(self._media.routes())
        return app

    async def _listen(self, app: web.Application, address: Address, path: str) -> Address:
        runner = web.AppRunner(
            app, access_log=None, logger=_library_log, handle_signals=False, shutdown_timeout=2
        )
        self._runners.append(runner)
        await runner.setup()
        try:
            await web.TCPSite(runner, *address).start()
        except OSError as error:
            await self.stop()
            raise cannot_listen(address, error, path) from error
        return Address(*runner.addresses[0][:2])


def _app(url: str, api: Api | None = None) -> web.Application:
    """An application whose every answer has our headers, and whose errors are ours."""
    guards = [errors] if api is None else [errors, api.own_pages_only]
    app = web.Application(middlewares=guards, client_max_size=_LONGEST_BODY)
    app.on_response_prepare.append(headers_for(url))
    app.on_response_prepare.append(note_begun)
    app.router.add_static("/static", _HERE / "static")
    return app


async def _link_page(request: web.Request) -> web.StreamResponse:
    """The same for everybody: who looks at it is told by its script's requests."""
    return await page("link.html", {})


def _check(settings: WebSettings) -> None:
    manager, public = settings.manager_url, settings.public_url
    if manager is None:
        return
    if manager.rstrip("/") != origin_of(manager):
        raise ConfigError(
            "must be the root of an origin: no path, and nothing else is served there",
            path="web.manager_url",
        )
    if public is not None and origin_of(public) == origin_of(manager):
        raise ConfigError(
            "must be another origin than web.manager_url: what others made is served there. "
            "The same host on another port will do",
            path="web.public_url",
        )
