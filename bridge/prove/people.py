"""The people of a proof: they go on talking through every outage."""

import asyncio
import html
import json
from collections.abc import Sequence
from typing import Any

import aiohttp

from bridge.demo.irc_user import IrcUser, plain
from bridge.demo.matrix_user import MatrixUser
from bridge.prove.script import Utterance
from bridge.sdk.errors import TrestleError

_AGAIN_SECONDS = 0.1
_ACTION = "\x01ACTION "
_BRIDGE_NICK = "trestle"


class Speaker(MatrixUser):
    """Somebody in Matrix who asks until the homeserver has answered, as clients do."""

    async def utter(self, room: str, said: Utterance) -> str:
        """Say it; give the event's id. Each try has the same transaction id, so it is there once.

        Raises ``TrestleError`` if the homeserver refuses it.
        """
        content: dict[str, Any] = {
            "msgtype": "m.emote" if said.emote else "m.text",
            "body": said.text,
        }
        if said.bold:
            content |= {
                "format": "org.matrix.custom.html",
                "formatted_body": f"<b>{html.escape(said.text)}</b>",
            }
        return await self.send(room, content)

    async def call(self, method: str, path: str, body: Any = None, **query: str) -> dict[str, Any]:
        """Ask until it is answered. Raises ``TrestleError`` for a refusal."""
        while True:
            try:
                status, reply = await self.try_call(method, path, body, **query)
            except (aiohttp.ClientError, OSError, json.JSONDecodeError):
                status, reply = 503, {}
            if status < 300:
                return reply
            if status < 500 and status != 429:
                raise TrestleError(f"the homeserver refused {self.id}: {status} {reply}")
            await asyncio.sleep(_AGAIN_SECONDS)


class IrcPerson(IrcUser):
    """Somebody on IRC, who remembers all that was said in the channels, and who is there."""

    def __init__(self, nick: str, port: int, *, neighbours: Sequence[str] = ()) -> None:
        super().__init__(nick, port)
        self.lines = 0
        """How much was said in the channels by others than the neighbours, who are on IRC too."""
        self.heard: dict[str, list[str]] = {}
        """What was said in each channel, by anybody."""
        self._neighbours = frozenset(neighbours)
        self._bridges: dict[str, set[str]] = {}

    async def utter(self, channel: str, said: Utterance) -> None:
        """Say it once, as IRC does."""
        text = f"\x02{said.text}\x02" if said.bold else said.text
        await self.say(channel, f"{_ACTION}{text}\x01" if said.emote else text)

    def sees_bridge(self, channels: Sequence[str]) -> bool:
        """Whether the bridge's own connection is in all the channels."""
        return all(self._bridges.get(channel) for channel in channels)

    @property
    def sees_bridge_anywhere(self) -> bool:
        """Whether a connection of the bridge's own is in any channel."""
        return any(self._bridges.values())

    def hear(self, line: str) -> None:
        """Take note of who comes and goes, and of what is said in channels."""
        super().hear(line)
        source, _, rest = line.removeprefix(":").partition(" ")
        nick = source.partition("!")[0]
        command, _, rest = rest.partition(" ")
        first, _, more = rest.partition(" ")
        match command:
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
                self.heard.setdefault(first, []).append(spoken)

    def _arrive(self, nick: str, channel: str) -> None:
        if nick.startswith(_BRIDGE_NICK):
            self._bridges.setdefault(channel, set()).add(nick)

    def _move(self, command: str, nick: str, first: str, more: str) -> None:
        gone = more.partition(" ")[0] if command == "KICK" else nick
        for channel, bridges in self._bridges.items():
            if gone not in bridges or (command in {"PART", "KICK"} and first != channel):
                continue
            bridges.discard(gone)
            if command == "NICK":
                self._arrive(first, channel)
