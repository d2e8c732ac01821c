"""A person's program that uses the API."""

from collections.abc import Mapping
from typing import Any

import aiohttp

from bridge.app import App
from bridge.sdk.ids import UserId


class Program:
    """A person's program: JSON over HTTP."""

    def __init__(self, app: App, session: aiohttp.ClientSession, token: str) -> None:
        self._app = app
        self._session = session
        self._token = token

    async def ask(
        self, method: str, path: str, body: Mapping[str, Any] | None = None, status: int = 200
    ) -> dict[str, Any]:
        """Make a request that must end with that status."""
        async with self._session.request(
            method, f"http://{self._app.parts.web.address}/_trestle/v1{path}", json=body,
            headers={"Authorization": f"Bearer {self._token}"},
        ) as response:  # fmt: skip
            content: dict[str, Any] = await response.json()
            assert response.status == status, content
            if status != 200:
                assert content.keys() == {"errcode", "error"}
            return content


async def sign_in(
    app: App, session: aiohttp.ClientSession, person: str, purpose: str = "manager"
) -> Program:
    """Open a link of that person's."""
    link = await app.parts.web.make_link(UserId(person), purpose)
    assert link is not None
    program = Program(app, session, "")
    opened = await program.ask("POST", "/links/take", {"token": link.partition("#")[2]})
    return Program(app, session, str(opened["token"]))
