"""The public page: which chats are bridged, by which rules, and whom to turn to."""

from itertools import groupby

from aiohttp import web

from bridge.core.portals.openchats import OpenChats
from bridge.settings.records import WebSettings
from bridge.web.pages import page


class BridgedPage:
    """Shows what both sides show to everybody, and nothing of anybody."""

    def __init__(self, settings: WebSettings, chats: OpenChats) -> None:
        self._settings = settings
        self._chats = chats

    async def show(self, request: web.Request) -> web.StreamResponse:
        """Answer ``GET`` at :data:`~bridge.web.places.BRIDGED`."""
        found = await self._chats.list()
        networks = [
            (instance, list(chats), self._chats.wishes(instance))
            for instance, chats in groupby(found, key=lambda one: one.instance)
        ]
        return await page("bridged.html", {
            "networks": networks,
            "policy": self._settings.policy.splitlines(),
            "contact": self._settings.contact,
        })  # fmt: skip
