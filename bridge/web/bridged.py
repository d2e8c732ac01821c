"""The public page: which chats are bridged, by which rules, and whom to turn to."""

from itertools import groupby

from aiohttp import web

from bridge.core.openchats import OpenChats
from bridge.settings import WebSettings
from bridge.web.pages import page

PATH = "/bridged"
"""Where it is, below ``web.public_url``."""


def read_more(settings: WebSettings) -> str:
    """Say where people read by which rules the bridge is run, and whom they turn to.

    That is the page, where there is one and it says so; else the words themselves, in a line.
    Empty if the settings have none.
    """
    if not settings.policy and not settings.contact:
        return ""
    if settings.public_url is not None:
        return f"The rules, and whom to turn to: {settings.public_url.rstrip('/')}{PATH}"
    policy = " ".join(settings.policy.split())
    contact = settings.contact and f"Whom to turn to: {settings.contact}"
    return " ".join(part for part in (policy, contact) if part)


class BridgedPage:
    """Shows what both sides show to everybody, and nothing of anybody."""

    def __init__(self, settings: WebSettings, chats: OpenChats) -> None:
        self._settings = settings
        self._chats = chats

    async def show(self, request: web.Request) -> web.StreamResponse:
        """Answer ``GET`` at :data:`PATH`."""
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
