"""A person at a Matrix client: what the demo's conversation and the tests need of one."""

import asyncio
import itertools
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import quote

import aiohttp

from bridge.sdk.errors import ConfigError

Event = dict[str, Any]

PATIENCE = 120.0
"""Seconds: what a homeserver lost when Trestle had just started is found after a minute."""
_ALL_EVENTS = '{"room": {"timeline": {"limit": 1000}}}'


class MatrixUser:
    """Registered on a homeserver that lets anybody register; reads by ``/sync``."""

    def __init__(self, session: aiohttp.ClientSession, url: str, name: str) -> None:
        self._session = session
        self._url = url
        self._name = name
        self._token = ""
        self._since = ""
        self._transactions = itertools.count()
        self.id = ""
        self.events: list[Event] = []
        """All events seen so far, each with its ``room_id``."""
        self.invitations: dict[str, list[Event]] = {}

    async def register(self, password: str = "demo") -> "MatrixUser":  # noqa: S107
        """Make the account, or sign in to it."""
        body = {"username": self._name, "password": password, "auth": {"type": "m.login.dummy"}}
        status, reply = await self.try_call("POST", "v3/register", body)
        if status == 400 and reply.get("errcode") == "M_USER_IN_USE":
            identifier = {"type": "m.id.user", "user": self._name}
            reply = await self.call("POST", "v3/login", {
                "type": "m.login.password", "identifier": identifier, "password": password,
            })  # fmt: skip
        elif status != 200:
            raise ConfigError(f"{self._name} cannot be registered: {reply}")
        self._token, self.id = reply["access_token"], reply["user_id"]
        return self

    async def try_call(
        self, method: str, path: str, body: Any = None, **query: str
    ) -> tuple[int, dict[str, Any]]:
        """Send a request of the client API; give the status and the JSON."""
        headers = {"Authorization": f"Bearer {self._token}"} if self._token else {}
        async with self._session.request(
            method, f"{self._url}/_matrix/client/{path}",
            json=body if body is not None or method == "GET" else {},
            headers=headers, params=query,
        ) as response:  # fmt: skip
            return response.status, await response.json()

    async def call(self, method: str, path: str, body: Any = None, **query: str) -> dict[str, Any]:
        """Send a request that must succeed."""
        status, reply = await self.try_call(method, path, body, **query)
        if status >= 300:
            raise ConfigError(f"{method} {path} as {self._name}: {status} {reply}")
        return reply

    async def create_room(self, **content: Any) -> str:
        """Make a room; give its id."""
        return str((await self.call("POST", "v3/createRoom", content))["room_id"])

    async def invite(self, room: str, user: str) -> None:
        """Invite somebody."""
        await self.call("POST", f"v3/rooms/{quote(room)}/invite", {"user_id": user})

    async def join(self, room: str) -> None:
        """Join by id or alias."""
        await self.call("POST", f"v3/join/{quote(room)}")

    async def leave(self, room: str) -> None:
        """Leave the room."""
        await self.call("POST", f"v3/rooms/{quote(room)}/leave")

    async def send(self, room: str, content: dict[str, Any], kind: str = "m.room.message") -> str:
        """Send an event; give its id."""
        number = next(self._transactions)
        path = f"v3/rooms/{quote(room)}/send/{kind}/m{id(self)}.{number}"
        return str((await self.call("PUT", path, content))["event_id"])

    async def say(self, room: str, text: str, html: str = "", msgtype: str = "m.text") -> str:
        """Send a text; give the event's id."""
        content: dict[str, Any] = {"msgtype": msgtype, "body": text}
        if html:
            content |= {"format": "org.matrix.custom.html", "formatted_body": html}
        return await self.send(room, content)

    async def set_state(
        self, room: str, kind: str, content: dict[str, Any], key: str = ""
    ) -> None:
        """Set a state event."""
        await self.call("PUT", f"v3/rooms/{quote(room)}/state/{kind}/{quote(key)}", content)

    async def members(self, room: str) -> dict[str, Any]:
        """Who is joined, with profiles."""
        reply = await self.call("GET", f"v3/rooms/{quote(room)}/joined_members")
        return dict(reply["joined"])

    async def messages(self, room: str, limit: int = 1000) -> list[Event]:
        """The room's events as the homeserver holds them, oldest first."""
        found: list[Event] = []
        query = {"dir": "b", "limit": "500"}
        while len(found) < limit:
            reply = await self.call("GET", f"v3/rooms/{quote(room)}/messages", **query)
            found += reply["chunk"]
            if not reply["chunk"] or "end" not in reply:
                break
            query["from"] = reply["end"]
        return found[::-1]

    async def sync(self, wait: float = 1.0) -> None:
        """Read what is new, waiting up to ``wait`` seconds for something."""
        query = {"timeout": str(int(wait * 1000)), "filter": _ALL_EVENTS}
        if self._since:
            query["since"] = self._since
        reply = await self.call("GET", "v3/sync", **query)
        self._since = reply["next_batch"]
        rooms = reply.get("rooms", {})
        for room, data in rooms.get("join", {}).items():
            self.invitations.pop(room, None)
            for event in data.get("timeline", {}).get("events", []):
                self.events.append({**event, "room_id": room})
        for room, data in rooms.get("invite", {}).items():
            self.invitations[room] = data.get("invite_state", {}).get("events", [])

    async def wait_until(self, condition: Callable[[], bool], limit: float = PATIENCE) -> None:
        """Read until the condition holds. Raises ``TimeoutError``."""
        async with asyncio.timeout(limit):
            while not condition():
                await self.sync()

    async def wait_until_joined(self, room: str, user: str) -> None:
        """Read until the user is in the room. Raises ``TimeoutError``."""
        await self.wait_until(
            lambda: any(
                event["type"] == "m.room.member"
                and event["room_id"] == room
                and event["state_key"] == user
                and event["content"].get("membership") == "join"
                for event in self.events
            )
        )

    def heard(self, room: str, sender: str | None = None) -> Sequence[Event]:
        """The messages seen in the room, from anybody or from one."""
        return [
            event for event in self.events
            if event["room_id"] == room and event["type"] == "m.room.message"
            and (sender is None or event["sender"] == sender)
        ]  # fmt: skip

    async def wait_for_text(self, room: str, text: str, limit: float = PATIENCE) -> Event:
        """Read until a message holding the text is there; give it."""

        def matching() -> list[Event]:
            return [e for e in self.heard(room) if text in str(e["content"].get("body"))]

        try:
            await self.wait_until(lambda: bool(matching()), limit)
        except TimeoutError as error:
            said = [str(e["content"].get("body")) for e in self.heard(room)][-10:]
            raise TimeoutError(f"{text!r} was not said in {limit:.0f} s; last: {said}") from error
        return matching()[0]
