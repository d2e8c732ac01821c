"""A homeserver that costs next to nothing, so that what is measured is the bridge."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from time import perf_counter
from typing import Any, NamedTuple, cast
from urllib.parse import parse_qsl, unquote

import orjson

from tests.rigs.scripted_homeserver import OK, SERVER, Answer, Asked, ScriptedHomeserver, refuse

ADMIN = f"@admin:{SERVER}"
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_TOKEN = re.compile(rb"\r\nauthorization: *([^\r]*)", re.IGNORECASE)


class Heard(NamedTuple):
    """A line of text that came into a room."""

    room: str
    text: str
    at: float
    """By the clock that all processes share."""


@dataclass(frozen=True, slots=True)
class _Request:
    method: str
    target: str
    token: str
    body: bytes


class BenchHomeserver(ScriptedHomeserver):
    """Answers over a connection of its own making; keeps of messages only the texts and times.

    ``account_data`` maps (room, type), or (type,) outside rooms, to the content; whose it is does
    not count. ``bot`` is who a token without a user stands for.
    """

    def __init__(self, bot: str) -> None:
        super().__init__()
        self.bot = bot
        self.heard: list[Heard] = []
        self.account_data: dict[tuple[str, ...], Any] = {}
        self._known: dict[str, bytes] = {}
        self._arrived = asyncio.Event()

    def answer(self, request: _Request) -> tuple[int, bytes]:
        """Give status and body for one request."""
        path, _, query = request.target.partition("?")
        if request.method == "PUT" and "/send/m.room.message/" in path:
            return 200, self._take_message(path, request.body)
        asked = Asked(
            request.method, path, tuple(map(unquote, path.split("/")[4:])), dict(parse_qsl(query)),
            orjson.loads(request.body) if request.body else {}, request.token, perf_counter(),
        )  # fmt: skip
        answer = self.do(asked)
        self._arrived.set()
        return answer.status, orjson.dumps(answer.content)

    def _take_message(self, path: str, body: bytes) -> bytes:
        known = self._known.get(path)
        if known is None:
            at, room = perf_counter(), unquote(path.split("/")[5])
            # One event may hold several lines: what a person said in a tenth of a second, say.
            lines = orjson.loads(body)["body"].split("\n")
            self.heard += [Heard(room, line, at) for line in lines]
            known = self._known[path] = b'{"event_id":"$said%d"}' % len(self._known)
            self._arrived.set()
        return known

    async def wait_until_heard(self, count: int, limit: float) -> None:
        """Return when so many lines have come."""
        async with asyncio.timeout(limit):
            while len(self.heard) < count:
                self._arrived.clear()
                await self._arrived.wait()

    def do(self, asked: Asked) -> Answer:
        """Add to the usual what heisenbridge asks for."""
        match asked.method, asked.parts:
            case "GET", ("account", "whoami"):
                return Answer(content={"user_id": self.bot, **asked.query})
            case method, ("user", _, *place, "account_data", kind):
                return self._account_data(method, (*place[1:], kind), asked.content)
            case "GET", ("rooms", room, "members"):
                return Answer(content={"chunk": [_member(room, one) for one in self.rooms[room]]})
            case "GET", ("rooms", _, "state", "m.room.power_levels", *_):
                users = dict.fromkeys((self.bot, ADMIN), 100)
                return Answer(content={"users": users, "events_default": 0})
            case "GET", ("rooms", _, "state", "m.room.join_rules", *_):
                return Answer(content={"join_rule": "invite"})
            case "GET", ("users", _, "admin"):
                return refuse(403, "M_FORBIDDEN")
            case "POST", ("join", room):
                self.rooms.setdefault(room, set()).add(asked.user or self.bot)
                return Answer(content={"room_id": room})
        return super().do(asked)

    def _account_data(self, method: str, key: tuple[str, ...], content: Any) -> Answer:
        if method == "PUT":
            self.account_data[key] = content
            return OK
        if key not in self.account_data:
            return refuse(404, "M_NOT_FOUND")
        return Answer(content=self.account_data[key])


def _member(room: str, user: str) -> dict[str, Any]:
    return {
        "type": "m.room.member", "room_id": room, "sender": user, "state_key": user,
        "event_id": f"$member{room}{user}", "origin_server_ts": 1,
        "content": {"membership": "join", "displayname": user[1:].partition(":")[0]},
    }  # fmt: skip


class _Connection(asyncio.Protocol):
    """Just enough HTTP/1.1: keep-alive, ``Content-Length``, no chunks."""

    def __init__(self, homeserver: BenchHomeserver) -> None:
        self._homeserver = homeserver
        self._rest = b""
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._rest += data
        while (end := self._rest.find(b"\r\n\r\n")) >= 0:
            head = self._rest[:end]
            length = _LENGTH.search(head)
            whole = end + 4 + (int(length[1]) if length else 0)
            if len(self._rest) < whole:
                return
            body, self._rest = self._rest[end + 4 : whole], self._rest[whole:]
            method, target, _ = head.partition(b"\r\n")[0].decode().split(" ")
            token = _TOKEN.search(head)
            said = token[1].decode() if token else ""
            status, answer = self._homeserver.answer(_Request(method, target, said, body))
            self._transport.write(
                b"HTTP/1.1 %d .\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s"
                % (status, len(answer), answer)
            )


@asynccontextmanager
async def bench_homeserver(bot: str) -> AsyncIterator[BenchHomeserver]:
    """Run one until the block ends."""
    homeserver = BenchHomeserver(bot)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Connection(homeserver), "127.0.0.1", 0)
    homeserver.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield homeserver
    finally:
        server.close()
