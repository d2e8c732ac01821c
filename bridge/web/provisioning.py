"""``/_trestle/v1``: logins, portals and permissions, for the pages and for people's programs.

Everything is done as the person whose token is shown, with the rules that hold in chat. A token
of the scope ``login:libera`` is good for that network's logins only.

A token says who somebody is and no more: what they may do is asked at each request, by the level
that they have then for the network that is meant. Without one they see and end what is theirs.
"""

from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any

from aiohttp import web

from bridge.core.consent.consents import Consents, in_words
from bridge.core.host.instances import Instance, Session
from bridge.core.logins.logins import Logins
from bridge.core.logins.signin import SignIn
from bridge.core.permissions.permissions import Permissions
from bridge.core.portals.choices import CHOICES, MINE, change_all
from bridge.core.portals.plumbing import Plumbing
from bridge.core.portals.portals import Portals
from bridge.core.traffic.doorway import Doorway
from bridge.model import Permission
from bridge.sdk.errors import DeliveryError
from bridge.sdk.ids import InstanceId, RoomId, UserId
from bridge.sdk.login import Ask, Show, Step
from bridge.sdk.secret import Secret
from bridge.storage.tokens import TokenRow
from bridge.web.errors import ApiError
from bridge.web.requests import MANAGER, PREFIX, json_of, object_of

SignedIn = Callable[..., Awaitable[TokenRow]]

_LONGEST_WAIT = 25.0
"""Seconds that an answer may be held back until there is another step."""


class Provisioning:
    """The handlers."""

    def __init__(
        self,
        logins: Logins,
        portals: Portals,
        plumbing: Plumbing,
        permissions: Permissions,
        consents: Consents,
    ) -> None:
        self._logins = logins
        self._portals = portals
        self._plumbing = plumbing
        self._permissions = permissions
        self._consents = consents
        self.signed_in: SignedIn

    def routes(self) -> list[web.RouteDef]:
        """What is served."""
        return [
            web.get(f"{PREFIX}/networks", self._list_networks),
            web.get(f"{PREFIX}/logins", self._list_logins),
            web.delete(f"{PREFIX}/logins/{{id}}", self._log_out),
            web.post(f"{PREFIX}/logins/{{id}}/prefer", self._prefer),
            web.post(f"{PREFIX}/sign-ins", self._begin),
            web.get(f"{PREFIX}/sign-ins/{{id}}", self._look),
            web.post(f"{PREFIX}/sign-ins/{{id}}", self._submit),
            web.delete(f"{PREFIX}/sign-ins/{{id}}", self._give_up),
            web.get(f"{PREFIX}/portals", self._list_portals),
            web.post(f"{PREFIX}/portals", self._bridge),
            web.patch(f"{PREFIX}/portals/{{id}}", self._change),
            web.delete(f"{PREFIX}/portals/{{id}}", self._unbridge),
            web.get(f"{PREFIX}/permissions", self._show_permissions),
        ]

    # --- logins ---

    async def _person(self, request: web.Request) -> tuple[UserId, Sequence[Instance]]:
        """Who asks, and the networks for which the token that is shown is good."""
        row = await self.signed_in(request, None)
        there = self._logins.networks(row.subject)
        if row.scope != MANAGER:
            there = [one for one in there if row.scope == f"login:{one.name}"]
            if not there:
                raise ApiError(403, "M_FORBIDDEN", "Your token is not for that.")
        return row.subject, there

    async def _list_networks(self, request: web.Request) -> web.Response:
        _, there = await self._person(request)
        return json_of({"networks": [
            {
                "id": one.name, "name": one.connector.info.name,
                "flows": [{"id": flow.id, "title": flow.title}
                          for flow in one.connector.login_flows()],
            }
            for one in there
        ]})  # fmt: skip

    async def _list_logins(self, request: web.Request) -> web.Response:
        _, own = await self._own_logins(request)
        return json_of({"logins": [_login(session) for session in own]})

    async def _own_logins(self, request: web.Request) -> tuple[UserId, Sequence[Session]]:
        """Who asks, and the logins for which the token is good; also those that are off because
        the settings do not let their owner use them any more."""
        row = await self.signed_in(request, None)
        return row.subject, [
            session for session in self._logins.of(row.subject)
            if row.scope in (MANAGER, f"login:{session.row.instance}")
        ]  # fmt: skip

    async def _own_login(self, request: web.Request) -> tuple[UserId, Session]:
        owner, own = await self._own_logins(request)
        for session in own:
            if str(session.row.id) == request.match_info["id"]:
                return owner, session
        raise ApiError(404, "M_NOT_FOUND", "There is no such login of yours.")

    async def _log_out(self, request: web.Request) -> web.Response:
        owner, session = await self._own_login(request)
        return json_of({"remark": await self._logins.log_out(owner, session)})

    async def _prefer(self, request: web.Request) -> web.Response:
        owner, session = await self._own_login(request)
        if not self._permissions.allows(owner, Permission.USER, session.row.instance):
            raise ApiError(403, "M_FORBIDDEN", _NO_LEVEL)
        await self._logins.prefer(owner, session)
        return json_of({})

    # --- signing in ---

    async def _begin(self, request: web.Request) -> web.Response:
        owner, there = await self._person(request)
        body = await object_of(request)
        instance = next((one for one in there if one.name == body.get("network")), None)
        if instance is None:
            raise ApiError(404, "M_NOT_FOUND", "There is no such network for you to sign in to.")
        flow = self._logins.find_flow(instance, _text(body, "flow", ""))
        return json_of(_sign_in(await self._logins.begin(owner, instance, flow)))

    async def _own_sign_in(self, request: web.Request) -> SignIn:
        owner, there = await self._person(request)
        found = self._logins.find(owner, request.match_info["id"])
        if found is None or found.instance not in there:
            raise ApiError(404, "M_NOT_FOUND", "That sign-in is over; begin again.")
        return found

    async def _look(self, request: web.Request) -> web.Response:
        """Give the step; with ``after``, hold the answer back until there is a later one."""
        found = await self._own_sign_in(request)
        after = request.query.get("after", "")
        if after.isascii() and after.isdecimal() and len(after) < 10:
            await found.wait_until_changed(int(after), _LONGEST_WAIT)
        return json_of(_sign_in(found))

    async def _submit(self, request: web.Request) -> web.Response:
        found = await self._own_sign_in(request)
        answers = (await object_of(request)).get("answers")
        if not isinstance(answers, dict) or not all(
            isinstance(value, str) for value in answers.values()
        ):
            raise ApiError(400, "M_BAD_JSON", "`answers` must be an object of texts.")
        await found.submit(answers)
        return json_of(_sign_in(found))

    async def _give_up(self, request: web.Request) -> web.Response:
        self._logins.drop(await self._own_sign_in(request))
        return json_of({})

    # --- portals ---

    async def _list_portals(self, request: web.Request) -> web.Response:
        """Those that the person made; for an admin all but other people's direct chats."""
        who = (await self.signed_in(request)).subject
        seen = [door for door in self._portals.all if self._sees(who, door)]
        return json_of({"portals": [self._portal(door) for door in seen]})

    def _sees(self, who: UserId, door: Doorway) -> bool:
        portal, allows = door.portal, self._permissions.allows
        if portal.created_by == who and allows(who, Permission.USER, portal.instance):
            return True
        # Whom somebody talks to is theirs alone, whatever level another has.
        return portal.receiver is None and allows(who, Permission.ADMIN)

    async def _bridge(self, request: web.Request) -> web.Response:
        who = (await self.signed_in(request)).subject
        body = await object_of(request)
        room, network = RoomId(_text(body, "room")), _text(body, "network")
        await self._need_power(who, room, InstanceId(network))
        instance = self._plumbing.find_instance(network)
        key = _text(body, "key", "")
        found = await self._consents.bridge(
            instance, _text(body, "chat"), room, who, Secret(key) if key else None
        )
        if isinstance(found, Doorway):
            await self._plumbing.announce(found)
            return json_of(self._portal(found))
        return json_of({"asked": in_words(found), "until": found[0].until.isoformat()}, 202)

    async def _own_portal(self, request: web.Request) -> tuple[UserId, Doorway]:
        """The portal, for somebody who has the power in its room."""
        who = (await self.signed_in(request)).subject
        for door in self._portals.all:
            if str(door.portal.id) == request.match_info["id"]:
                await self._need_power(who, door.portal.room, door.portal.instance)
                return who, door
        # Whoever may not see a portal is told the same as if there was none.
        raise ApiError(403, "M_FORBIDDEN", _NO_POWER)

    async def _change(self, request: web.Request) -> web.Response:
        who, door = await self._own_portal(request)
        body = await object_of(request)
        wish = self._plumbing.wish(door, who)
        paused = body.pop("paused", door.portal.paused)
        if not isinstance(paused, bool) or any(not isinstance(v, str) for v in body.values()):
            raise ApiError(400, "M_BAD_JSON", "`paused` is true or false, the others are texts.")
        # A loan ends when its owner leaves, so it must not begin while they are outside.
        is_lent = body.get("relay") == MINE
        if is_lent and not await self._portals.is_member(who, door.portal.room):
            raise ApiError(403, "M_FORBIDDEN", "Your login speaks only in rooms that you are in.")
        change_all(body, wish)
        if paused != door.portal.paused:
            await self._portals.set_paused(door, paused, who)
            if not paused:
                # Why it is not there yet is in the answer's ``reason``.
                with suppress(DeliveryError):
                    await self._plumbing.come_back(door)
        if body:
            await self._portals.choose(door, wish, body)
        return json_of(self._portal(door))

    async def _unbridge(self, request: web.Request) -> web.Response:
        who, door = await self._own_portal(request)
        await self._plumbing.unbridge(door, who)
        return json_of({})

    async def _need_power(self, who: UserId, room: RoomId, network: InstanceId) -> None:
        """Refuse who lacks the level for the network or the power in the room."""
        allowed = self._permissions.allows(who, Permission.USER, network)
        if not (allowed and await self._portals.has_power(who, room)):
            raise ApiError(403, "M_FORBIDDEN", _NO_POWER)

    def _portal(self, door: Doorway) -> dict[str, Any]:
        portal = door.portal
        instance = self._plumbing.instances.get(portal.instance)
        state, reason = instance.state if instance else ("stopped", "not switched on")
        return {
            "id": str(portal.id), "network": portal.instance, "chat": portal.chat,
            "name": portal.chat_name, "room": portal.room, "paused": portal.paused,
            **{key: choice.show(portal) for key, choice in CHOICES.items()},
            "created_by": portal.created_by, "state": state,
            "reason": (instance.trouble.get(portal.chat, "") if instance else "") or reason,
        }  # fmt: skip

    # --- permissions ---

    async def _show_permissions(self, request: web.Request) -> web.Response:
        """The person's own levels; an admin may ask for somebody else's."""
        who = (await self.signed_in(request)).subject
        asked = UserId(request.query.get("user", who))
        if asked != who and not self._permissions.allows(who, Permission.ADMIN):
            raise ApiError(403, "M_FORBIDDEN", "Only admins may ask for others.")
        return json_of({
            "user_id": asked,
            "level": _level(self._permissions.of(asked)),
            "networks": {
                name: _level(self._permissions.of(asked, name))
                for name in sorted(self._plumbing.instances)
            },
        })  # fmt: skip


_NO_POWER = (
    "You need to be in that room with the power to change its settings, and the bot must be there."
)
_NO_LEVEL = "The settings of this bridge do not let you do that."


def _level(level: Permission) -> str:
    return level.name.lower()


def _login(session: Session) -> dict[str, Any]:
    row, supervisor = session.row, session.supervisor
    return {
        "id": str(row.id), "network": row.instance, "name": row.name,
        "preferred": row.preferred, "state": supervisor.state, "reason": supervisor.account,
    }  # fmt: skip


def _sign_in(found: SignIn) -> dict[str, Any]:
    """A sign-in as programs see it: what to do now, or what came of it."""
    return {
        "id": found.id, "network": found.instance.name, "number": found.number,
        "step": None if found.step is None else _step(found.step), "trouble": found.trouble,
        "login": None if found.login is None else str(found.login.id),
    }  # fmt: skip


def _step(step: Step) -> dict[str, Any]:
    shown: dict[str, Any] = {"type": type(step).__name__.lower(), "text": step.text}
    if isinstance(step, Ask):
        shown["fields"] = [
            {"name": one.name, "label": one.label, "secret": one.secret,
             "required": one.required}
            for one in step.fields
        ]  # fmt: skip
    elif isinstance(step, Show):
        shown |= {"link": step.link, "code": step.code}
    return shown


def _text(body: dict[str, Any], name: str, default: str | None = None) -> str:
    value = body.get(name, default)
    if not isinstance(value, str):
        raise ApiError(400, "M_BAD_JSON", f"`{name}` must be a text.")
    return value
