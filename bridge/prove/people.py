"""The people of a proof: they go on talking through every outage."""

import asyncio
import html
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Any, Self
from urllib.parse import quote

import aiohttp

from bridge.demo.irc_user import plain
from bridge.demo.matrix_user import MatrixUser
from bridge.prove.script import Utterance
from bridge.sdk.errors import TrestleError

_AGAIN_SECONDS = 0.1
_ACTION = "\x01ACTION "


class Speaker:
    """Somebody in Matrix who says a thing until the homeserver has taken it, as clients do."""

    def __init__(self, user: MatrixUser, name: str) -> None:
        self._user = user
        self._name = name
        self._count = 0

    @property
    def id(self) -> str:
        """The Matrix id."""
        return self._user.id

    async def say(self, room: str, said: Utterance) -> str:
        """Say it; give the event's id. The same transaction id each time: it is there once.

        Raises ``TrestleError`` if the homeserver refuses it.
        """
        self._count += 1
        content: dict[str, Any] = {
            "msgtype": "m.emote" if said.emote else "m.text",
            "body": said.text,
        }
        if said.bold:
            content |= {
                "format": "org.matrix.custom.html",
                "formatted_body": f"<b>{html.escape(said.text)}</b>",
            }
        path = f"v3/rooms/{quote(room)}/send/m.room.message/{self._name}-{self._count}"
        return str((await self.call("PUT", path, content))["event_id"])

    async def call(self, method: str, path: str, body: Any = None, **query: str) -> dict[str, Any]:
        """Ask until it is answered. Raises ``TrestleError`` for a refusal."""
        while True:
            try:
                status, reply = await self._user.try_call(method, path, body, **query)
            except (aiohttp.ClientError, OSError, json.JSONDecodeError):
                status, reply = 503, {}
            if status < 300:
                return reply
            if status < 500 and status != 429:
                raise TrestleError(f"the homeserver refused {self._name}: {status} {reply}")
            await asyncio.sleep(_AGAIN_SECONDS)

    async def history(self, room: str) -> list[dict[str, Any]]:
        """All events of a room, the oldest first."""
        found: list[dict[str, Any]] = []
        query = {"dir": "b", "limit": "500"}
        while True:
            page = await self.call("GET", f"v3/rooms/{quote(room)}/messages", **query)
            found += page["chunk"]
            if not page["chunk"] or "end" not in page:
                return found[::-1]
            query["from"] = page["end"]


@dataclass(frozen=True, slots=True)
class Heard:
    """Somebody's message in a channel."""

    nick: str
    text: str
    at: float


class IrcPerson:
    """Somebody on IRC, who remembers all that was said in the channels, and who is there."""

    def __init__(
        self, nick: str, port: int, *, neighbours: Sequence[str] = (), bridge_nick: str = "trestle"
    ) -> None:
        self.nick = nick
        self.lines = 0
        """How much was said in the channels by others than the neighbours, who are on IRC too."""
        self._neighbours = frozenset(neighbours)
        self.heard: dict[str, list[Heard]] = {}
        self._port = port
        self._bridge_nick = bridge_nick
        self._bridges: dict[str, set[str]] = {}
        self._group = asyncio.TaskGroup()
        self._news = asyncio.Condition()
        self._welcome = False
        self._entered: set[str] = set()
        self._writer: asyncio.StreamWriter

    async def __aenter__(self) -> Self:
        reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)
        await self._group.__aenter__()
        self._listening = self._group.create_task(self._listen(reader))
        self._write(f"NICK {self.nick}", f"USER {self.nick} 0 * :{self.nick}")
        await self.wait_until(lambda: self._welcome)
        return self

    async def __aexit__(self, *error: object) -> None:
        self._listening.cancel()
        self._writer.close()
        await self._group.__aexit__(None, None, None)

    async def join(self, channels: Sequence[str]) -> None:
        """Go into the channels."""
        for channel in channels:
            self._write(f"JOIN {channel}")
        await self.wait_until(lambda: self._entered >= set(channels))

    async def say(self, channel: str, said: Utterance) -> None:
        """Say it once, as IRC does."""
        text = f"\x02{said.text}\x02" if said.bold else said.text
        self._write(f"PRIVMSG {channel} :{_ACTION}{text}\x01" if said.emote else
                    f"PRIVMSG {channel} :{text}")  # fmt: skip
        await self._writer.drain()

    def sees_bridge(self, channels: Sequence[str]) -> bool:
        """Whether the bridge's own connection is in all the channels."""
        return all(self._bridges.get(channel) for channel in channels)

    @property
    def sees_bridge_anywhere(self) -> bool:
        """Whether a connection of the bridge's own is in any channel."""
        return any(self._bridges.values())

    async def wait_until(self, condition: Callable[[], bool], limit: float = 60.0) -> None:
        """Return when the condition holds; it is looked at after every line read.

        Raises ``TimeoutError``.
        """
        async with asyncio.timeout(limit), self._news:
            await self._news.wait_for(condition)

    def _write(self, *lines: str) -> None:
        for one in lines:
            self._writer.write(one.encode() + b"\r\n")

    async def _listen(self, reader: asyncio.StreamReader) -> None:
        while raw := await reader.readline():
            text = raw.decode(errors="replace").rstrip("\r\n")
            if text.startswith("PING"):
                self._write("PONG" + text[4:])
                continue
            async with self._news:
                self._read(text)
                self._news.notify_all()

    def _read(self, line: str) -> None:
        source, _, rest = line.removeprefix(":").partition(" ")
        nick = source.partition("!")[0]
        command, _, rest = rest.partition(" ")
        first, _, more = rest.partition(" ")
        match command:
            case "001":
                self._welcome = True
            case "366":
                self._entered.add(more.partition(" ")[0])
            case "353":
                channel, _, names = more.lstrip("=*@ ").partition(" :")
                for name in names.split():
                    self._arrive(name.lstrip("@+"), channel)
            case "JOIN":
                self._arrive(nick, first.removeprefix(":"))
            case "PART" | "QUIT" | "KICK" | "NICK":
                self._move(command, nick, first.removeprefix(":"), more)
            case "PRIVMSG" if first.startswith("#"):
                spoken = plain(more.removeprefix(":").removeprefix(_ACTION).removesuffix("\x01"))
                self.lines += nick not in self._neighbours
                self.heard.setdefault(first, []).append(Heard(nick, spoken, monotonic()))

    def _arrive(self, nick: str, channel: str) -> None:
        if nick.startswith(self._bridge_nick):
            self._bridges.setdefault(channel, set()).add(nick)

    def _move(self, command: str, nick: str, first: str, more: str) -> None:
        gone = more.partition(" ")[0] if command == "KICK" else nick
        for channel, bridges in self._bridges.items():
            if gone not in bridges or (command in {"PART", "KICK"} and first != channel):
                continue
            bridges.discard(gone)
            if command == "NICK":
                self._arrive(first, channel)
