"""``/_trestle/v1``: who is signed in, and how one comes to be.

The only proof is ``Authorization: Bearer``: no cookie, no token in an address. A browser that
says that a page of another origin asks is refused. ``docs/reference/api.yaml`` describes it.
"""

import uuid
from collections.abc import Callable, Collection
from datetime import timedelta

from aiohttp import web

from bridge.net.openid import OpenIdTooOften, OpenIdVerifier
from bridge.sdk.secret import Secret
from bridge.storage.tokens import Links, TokenRow, Tokens
from bridge.web.errors import ApiError, Handler
from bridge.web.requests import MANAGER, PREFIX, bearer_of, json_of, object_of

_MOST_ASKING = 32
"""So many questions to homeservers may be open: anybody can make us ask one."""

_LINK_IDLE, _LINK_LIFE = timedelta(hours=1), timedelta(hours=12)
"""A one-time link may be opened in anybody's browser, so this ends sooner."""


OnSession = Callable[[TokenRow], None]
"""Told of each session that begins."""


class Api:
    """The handlers."""

    def __init__(self, origin: str, tokens: Tokens, links: Links, openid: OpenIdVerifier) -> None:
        self._origin = origin
        self._tokens = tokens
        self._links = links
        self._openid = openid
        self.on_session: OnSession = lambda session: None
        self._asking = 0

    def routes(self) -> list[web.RouteDef]:
        """What is served, all below :data:`PREFIX`."""
        return [
            web.post(f"{PREFIX}/links/take", self._take_link),
            web.post(f"{PREFIX}/register", self._register),
            web.get(f"{PREFIX}/account", self._account),
            web.post(f"{PREFIX}/logout", self._log_out),
            web.get(f"{PREFIX}/tokens", self._list_tokens),
            web.delete(f"{PREFIX}/tokens", self._revoke_all),
            web.delete(f"{PREFIX}/tokens/{{id}}", self._revoke),
        ]

    @web.middleware
    async def own_pages_only(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Refuse what pages of other origins ask. Programs name none."""
        if any(one != self._origin for one in request.headers.getall("Origin", [])):
            raise ApiError(403, "M_FORBIDDEN", "Only pages of this origin may ask.")
        return await handler(request)

    async def signed_in(
        self, request: web.Request, scopes: Collection[str] | None = (MANAGER,)
    ) -> TokenRow:
        """Who asks. Raises :class:`ApiError` unless a token good for one of the scopes is shown.

        ``scopes`` None: any token will do.
        """
        row = await self._tokens.find(bearer_of(request), scopes)
        if row is None:
            raise ApiError(401, "M_UNKNOWN_TOKEN", "You are not signed in, or not for this.")
        return row

    async def _take_link(self, request: web.Request) -> web.Response:
        body = await object_of(request)
        token = body.get("token")
        found = await self._links.take(token) if isinstance(token, str) else None
        if found is None:
            raise ApiError(
                403, "M_FORBIDDEN",
                "This link was opened before, or its ten minutes are over. Ask the bot for a new "
                "one.",
            )  # fmt: skip
        issued = await self._tokens.issue(
            found.subject, found.purpose, idle=_LINK_IDLE, life=_LINK_LIFE
        )
        return await self._begin(issued)

    async def _begin(self, issued: Secret) -> web.Response:
        """Give out a token that was just made, and have its owner told."""
        row = await self._tokens.find(issued.reveal(), None)
        if row is None:
            raise ApiError(401, "M_UNKNOWN_TOKEN", "This session was ended at once.")
        self.on_session(row)
        return json_of({"token": issued.reveal(), "user_id": row.subject, "scope": row.scope})

    async def _register(self, request: web.Request) -> web.Response:
        shown = await object_of(request)
        if self._asking >= _MOST_ASKING:
            raise ApiError(429, "M_LIMIT_EXCEEDED", "Too many sign in at once; try again soon.")
        self._asking += 1
        try:
            user = await self._openid.verify(shown)
        except OpenIdTooOften as error:
            raise ApiError(429, "M_LIMIT_EXCEEDED", str(error)) from error
        finally:
            self._asking -= 1
        return await self._begin(await self._tokens.issue(user, MANAGER))

    async def _account(self, request: web.Request) -> web.Response:
        row = await self.signed_in(request, None)
        return json_of({"user_id": row.subject, "scope": row.scope})

    async def _log_out(self, request: web.Request) -> web.Response:
        await self.signed_in(request, None)
        await self._tokens.log_out(bearer_of(request))
        return json_of({})

    async def _list_tokens(self, request: web.Request) -> web.Response:
        own = await self.signed_in(request)
        rows = await self._tokens.tokens_of(own.subject)
        return json_of({"tokens": [
            {
                "id": str(row.id), "scope": row.scope, "this": row.id == own.id,
                "made_at": row.made_at, "used_at": row.used_at, "until": row.until,
            }
            for row in rows
        ]})  # fmt: skip

    async def _revoke_all(self, request: web.Request) -> web.Response:
        own = await self.signed_in(request)
        return json_of({"ended": await self._tokens.revoke_all(own.subject)})

    async def _revoke(self, request: web.Request) -> web.Response:
        own = await self.signed_in(request)
        try:
            wanted = uuid.UUID(request.match_info["id"])
        except ValueError as error:
            raise ApiError(404, "M_NOT_FOUND", "There is no such token of yours.") from error
        if not await self._tokens.revoke(own.subject, wanted):
            raise ApiError(404, "M_NOT_FOUND", "There is no such token of yours.")
        return json_of({})
