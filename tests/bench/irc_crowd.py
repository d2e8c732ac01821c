"""People on IRC by the hundred: bare connections that speak, and one that hears all."""

import asyncio
from collections.abc import Callable, Sequence
from time import perf_counter
from typing import cast

from tests.bench.homeserver import Heard

WAIT_SECONDS = 300.0


class Person(asyncio.Protocol):
    """One connection; one that listens knows what was said in its channels, and when it came."""

    def __init__(self, nick: str, *, listens: bool = False) -> None:
        self.nick = nick
        self.heard: list[Heard] = []
        self.channels: set[str] = set()
        self.came: set[str] = set()
        """Who came into its channels."""
        self.users = 0
        """How many are on the server, as it said last."""
        self._listens = listens
        self._rest = b""
        self._changed = asyncio.Event()
        self._is_in = False
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self.say(f"NICK {self.nick}", f"USER {self.nick} 0 * :{self.nick}")

    def say(self, *lines: str) -> None:
        """Write lines at once."""
        self._transport.write("".join(f"{one}\r\n" for one in lines).encode())

    def data_received(self, data: bytes) -> None:
        now = perf_counter()
        *lines, self._rest = (self._rest + data).split(b"\r\n")
        for line in lines:
            if b" PRIVMSG #" in line[:200]:
                if self._listens:
                    words, _, text = line.decode()[1:].partition(" :")
                    self.heard.append(Heard(words.split()[2], text, now))
            elif line.startswith(b"PING "):
                self._transport.write(line.replace(b"PING", b"PONG", 1) + b"\r\n")
            else:
                self._follow(line.decode())
        self._changed.set()

    def _follow(self, line: str) -> None:
        match line.split():
            case [_, "001", *_]:
                self._is_in = True
            case [_, "251", _, ":There", "are", users, *_]:
                self.users = int(users)
            case [_, "366", _, channel, *_]:
                self.channels.add(channel)
            case [source, "JOIN", _] if self._listens:
                self.came.add(source[1:].partition("!")[0])

    async def enter(self, channels: Sequence[str]) -> None:
        """Be on the server and in the channels."""
        await self.wait_until(lambda: self._is_in)
        for at in range(0, len(channels), 10):
            self.say(f"JOIN {','.join(channels[at : at + 10])}")
        await self.wait_until(lambda: self.channels.issuperset(channels))

    async def wait_until(self, condition: Callable[[], bool]) -> None:
        """Return when the condition holds; it is looked at whenever something comes."""
        async with asyncio.timeout(WAIT_SECONDS):
            while not condition():
                self._changed.clear()
                await self._changed.wait()

    async def wait_until_heard(self, number: int) -> None:
        """Return when so many lines were heard."""
        await self.wait_until(lambda: len(self.heard) >= number)

    async def wait_until_users(self, number: int) -> None:
        """Return when so many are on the server; it is asked five times a second."""
        async with asyncio.timeout(WAIT_SECONDS):
            while self.users < number:
                self.say("LUSERS")
                await asyncio.sleep(0.2)


async def person(
    port: int, nick: str, channels: Sequence[str], *, listens: bool = False
) -> Person:
    """Connect one and have it in the channels."""
    loop = asyncio.get_running_loop()
    _, made = await loop.create_connection(
        lambda: Person(nick, listens=listens), "127.0.0.1", port
    )
    await made.enter(channels)
    return made
