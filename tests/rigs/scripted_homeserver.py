"""A homeserver that answers as a test tells it to, and writes down what it was asked.

For what a real one cannot be made to say: 429 at the wrong moment, redirects, each failure of a
ping, a transaction put twice at once. Everything else runs against the real Synapse, and
``tests/conformance/test_scripted_homeserver.py`` compares the two.
"""

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any
from urllib.parse import unquote

import aiohttp
import orjson
from aiohttp import web
from aiohttp.web_request import BaseRequest

from bridge.demo.matrix_user import PATIENCE
from bridge.model import SystemClock
from bridge.settings.records import Settings

SERVER = "test.example"


@dataclass(frozen=True, slots=True)
class Asked:
    """One request of ours."""

    method: str
    path: str
    """As it came, percent-encoded."""
    parts: tuple[str, ...]
    """What follows the version in the path, decoded."""
    query: dict[str, str]
    content: dict[str, Any]
    token: str
    at: float

    @property
    def user(self) -> str:
        """Whom we acted as."""
        return self.query.get("user_id", "")


@dataclass(frozen=True, slots=True)
class Said:
    """An event that we put into a room."""

    room: str
    user: str
    content: dict[str, Any]
    path: str
    at: int
    """Its ``origin_server_ts``: when, in milliseconds since 1970, or when we say that it was."""
    event_id: str

    @property
    def text(self) -> str:
        """Its body."""
        return str(self.content.get("body"))


@dataclass(frozen=True, slots=True)
class Answer:
    """What it answers."""

    status: int = 200
    content: dict[str, Any] | list[Any] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)


OK = Answer()
Rule = Callable[[Asked], Answer | None]
Hold = Callable[[Asked], asyncio.Event | None]


def _membership(user: str) -> dict[str, Any]:
    return {"type": "m.room.member", "state_key": user, "content": {"membership": "join"}}


def refuse(status: int, errcode: str, **more: Any) -> Answer:
    """An error answer."""
    return Answer(status, {"errcode": errcode, "error": "as the test says", **more})


class ScriptedHomeserver:
    """Has every room and every user that it is asked for; ``rules`` come before all that.

    ``hold`` gives what a request waits for: it is done, but not answered before.
    """

    def __init__(self) -> None:
        self.url = ""
        self.rules: list[Rule] = []
        self.hold: Hold = lambda asked: None
        self.asked: list[Asked] = []
        self.said: list[Said] = []
        self.users: set[str] = set()
        self.names: dict[str, str] = {}
        self.rooms: dict[str, set[str]] = {}
        self.aliases: dict[str, str] = {}
        self.public: set[str] = set()
        """The rooms that were made for everybody."""
        self._events: dict[str, str] = {}
        self._numbers = itertools.count(1)
        self._changed = asyncio.Condition()
        self._session: aiohttp.ClientSession

    # --- the homeserver's own requests ---

    async def put(
        self, settings: Settings, events: Iterable[Any], name: str = "", **more: Any
    ) -> int:
        """Put a transaction to Trestle; give the status. Without a name the next number is it."""
        body = {"events": list(events), **more}
        async with self.request(settings, "PUT", self._transaction(name), body) as response:
            await response.read()
            return response.status

    def _transaction(self, name: str) -> str:
        return f"/_matrix/app/v1/transactions/{name or next(self._numbers)}"

    def request(
        self, settings: Settings, method: str, path: str, body: Any = None
    ) -> "aiohttp.client._RequestContextManager":
        """Ask Trestle something, with the right token. A body may be a stream of bytes."""
        appservice = settings.appservice
        return self._session.request(
            method,
            f"http://{appservice.listen}{path}",
            headers={"Authorization": f"Bearer {appservice.hs_tokens[0].reveal()}"},
            data=_bytes_of(body),
        )

    # --- what it was asked ---

    def of(self, method: str, *start: str) -> list[Asked]:
        """The requests whose path begins so."""
        return [a for a in self.asked if a.method == method and a.parts[: len(start)] == start]

    def texts(self, room: str) -> list[str]:
        """What we said in a room, in order."""
        return [said.text for said in self.said if said.room == room]

    async def wait_until(self, condition: Callable[[], bool], limit: float = PATIENCE) -> None:
        """Return when the condition holds; it is looked at after every request.

        Raises ``AssertionError`` with what was asked last.
        """
        try:
            async with asyncio.timeout(limit), self._changed:
                await self._changed.wait_for(condition)
        except TimeoutError as error:
            last = [(a.method, a.path) for a in self.asked[-8:]]
            raise AssertionError(f"it did not come to that; asked last: {last}") from error

    async def wait_until_greeted(self) -> None:
        """Return when Trestle has its bots in place and has asked for a ping."""
        await self.wait_until(lambda: self.pings > 0)

    @property
    def pings(self) -> int:
        """How often it was asked for a ping."""
        return sum(asked.parts[-1:] == ("ping",) for asked in self.asked)

    # --- answering ---

    async def _serve(self, request: BaseRequest) -> web.StreamResponse:
        raw, is_json = await request.read(), request.content_type == "application/json"
        path = request.raw_path.partition("?")[0]
        asked = Asked(
            method=request.method,
            path=path,
            parts=tuple(unquote(part) for part in path.split("/")[4:]),
            query=dict(request.query),
            content=orjson.loads(raw) if raw and is_json else {},
            token=request.headers.get("Authorization", ""),
            at=asyncio.get_running_loop().time(),
        )
        answer = next((a for rule in self.rules if (a := rule(asked)) is not None), None)
        answer = answer or self.do(asked)
        async with self._changed:
            self.asked.append(asked)
            self._changed.notify_all()
        if (event := self.hold(asked)) is not None:
            await event.wait()
        return web.json_response(answer.content, status=answer.status, headers=answer.headers)

    def do(self, asked: Asked) -> Answer:
        """Do what is asked, as a homeserver that is well does; give its answer."""
        match asked.method, asked.parts:
            case "GET", ("account", "whoami"):
                return Answer(content=dict(asked.query))
            case "POST", ("register",):
                return self._register(asked.content["username"])
            case "PUT", ("profile", user, "displayname"):
                self.names[user] = asked.content["displayname"]
            case "GET", ("profile", user, "displayname"):
                name = self.names.get(user)
                return (
                    refuse(404, "M_NOT_FOUND")
                    if name is None
                    else Answer(content={"displayname": name})
                )
            case "GET", ("joined_rooms",):
                rooms = [room for room, members in self.rooms.items() if asked.user in members]
                return Answer(content={"joined_rooms": rooms})
            case "POST", ("createRoom",):
                return self._create(asked)
            case _, ("rooms", room, *rest):
                return self._room(asked, room, rest)
            case _, ("directory", "room", alias):
                return self._alias(asked, alias)
            case "POST", ("appservice", _, "ping"):
                return Answer(content={"duration_ms": 1})
        return OK

    def _register(self, localpart: str) -> Answer:
        user = f"@{localpart}:{SERVER}"
        if user in self.users:
            return refuse(400, "M_USER_IN_USE")
        self.users.add(user)
        return Answer(content={"user_id": user})

    def _create(self, asked: Asked) -> Answer:
        alias = asked.content.get("room_alias_name")
        if alias and f"#{alias}:{SERVER}" in self.aliases:
            return refuse(400, "M_ROOM_IN_USE")
        room = f"!made{next(self._numbers)}:{SERVER}"
        self.rooms[room] = {asked.user}
        if alias:
            self.aliases[f"#{alias}:{SERVER}"] = room
        if asked.content.get("preset") == "public_chat":
            self.public.add(room)
        return Answer(content={"room_id": room})

    def _room(self, asked: Asked, room: str, rest: list[str]) -> Answer:
        members = self.rooms.setdefault(room, set())
        match asked.method, rest:
            case "POST", ["join"]:
                members.add(asked.user)
            case "POST", ["leave"]:
                members.discard(asked.user)
            case "PUT", ["send", _, _]:
                if not asked.query.get("ts", "0").isdecimal():
                    return refuse(400, "M_INVALID_PARAM")
                return self._send(asked, room)
            case "PUT", ["state" | "redact", *_]:
                return Answer(content={"event_id": f"$state{next(self._numbers)}"})
            case "GET", ["messages"]:
                return Answer(content={"chunk": self._chunk(room)})
            case "GET", ["joined_members"]:
                return Answer(content={"joined": {user: {} for user in members}})
            case "GET", ["state", *which]:
                return self._state(asked, room, which)
            case "GET", ["aliases"]:
                names = [alias for alias, leads_to in self.aliases.items() if leads_to == room]
                return Answer(content={"aliases": names})
        return OK

    def _state(self, asked: Asked, room: str, which: list[str]) -> Answer:
        match which:
            case []:
                return Answer(content=[_membership(user) for user in self.rooms[room]])
            case ["m.room.join_rules", ""] if room in self.public:
                return Answer(content={"join_rule": "public"})
            case ["m.room.member", user] if user in self.rooms[room]:
                # As if they had been there from the first.
                member = _membership(user) | {"origin_server_ts": 0}
                is_whole = asked.query.get("format") == "event"
                return Answer(content=member if is_whole else member["content"])
        return refuse(404, "M_NOT_FOUND")

    def take(self, asked: Asked) -> None:
        """Put the event into the room, whatever is answered."""
        self._send(asked, asked.parts[1])

    def forget_transactions(self) -> None:
        """Know no transaction id any more, as after a restore from a backup."""
        self._events.clear()

    def _send(self, asked: Asked, room: str) -> Answer:
        """Tell a repetition by the bytes of its path, as Synapse does."""
        if asked.path not in self._events:
            self._events[asked.path] = f"$said{next(self._numbers)}"
            now = int(SystemClock().now().timestamp() * 1000)
            at = int(asked.query.get("ts", now))
            self.said.append(
                Said(room, asked.user, asked.content, asked.path, at, self._events[asked.path])
            )
        return Answer(content={"event_id": self._events[asked.path]})

    def _chunk(self, room: str) -> list[dict[str, Any]]:
        """What our users said in the room, the newest first, on one page."""
        return [
            {"type": "m.room.message", "event_id": said.event_id, "room_id": room,
             "sender": said.user, "content": said.content, "origin_server_ts": said.at}
            for said in reversed(self.said) if said.room == room
        ]  # fmt: skip

    def _alias(self, asked: Asked, alias: str) -> Answer:
        if asked.method == "DELETE":  # Synapse lets us, also where there is none.
            self.aliases.pop(alias, None)
            return OK
        if asked.method == "PUT":
            if alias in self.aliases:
                return refuse(409, "M_UNKNOWN")
            self.aliases[alias] = asked.content["room_id"]
            return OK
        if alias not in self.aliases:
            return refuse(404, "M_NOT_FOUND")
        return Answer(content={"room_id": self.aliases[alias], "servers": [SERVER]})


def _bytes_of(body: Any) -> Any:
    if body is None or isinstance(body, AsyncIterator):
        return body
    return BytesIO(orjson.dumps(body))


@asynccontextmanager
async def scripted_homeserver() -> AsyncIterator[ScriptedHomeserver]:
    """Run one until the block ends."""
    homeserver = ScriptedHomeserver()
    runner = web.ServerRunner(web.Server(homeserver._serve), shutdown_timeout=1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        homeserver.url = "http://{}:{}".format(*runner.addresses[0][:2])
        async with aiohttp.ClientSession() as session:
            homeserver._session = session
            yield homeserver
    finally:
        await runner.cleanup()
