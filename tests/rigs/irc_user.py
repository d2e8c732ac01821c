"""A person on IRC, as bytes: shares no code with the bridge."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from bridge.demo.matrix_user import PATIENCE

USERNAME = "person"


class IrcUser:
    """Reads and writes raw lines; answers PING."""

    def __init__(
        self, nick: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.nick = nick
        self._reader = reader
        self._writer = writer
        self.heard: list[str] = []

    def say(self, *lines: str) -> None:
        """Write lines."""
        for one in lines:
            self._writer.write(f"{one}\r\n".encode())

    async def read(self) -> str:
        """Return the next line without its end."""
        while True:
            raw = await self._reader.readline()
            if not raw:
                raise ConnectionError(f"{self.nick} lost the connection: {self.heard[-5:]}")
            text = raw.decode().removesuffix("\r\n")
            if text.startswith("PING "):
                self.say(f"PONG {text.removeprefix('PING ')}")
                continue
            self.heard.append(text)
            return text

    async def expect(self, *parts: str) -> str:
        """Read until a line that holds all the parts, and return it."""
        try:
            async with asyncio.timeout(PATIENCE):
                while True:
                    text = await self.read()
                    if all(part in text for part in parts):
                        return text
        except TimeoutError as error:
            raise AssertionError(f"no line with {parts} in {self.heard[-20:]}") from error

    async def join(self, channel: str) -> None:
        """Go into a channel, and wait until we are in."""
        self.say(f"JOIN {channel}")
        await self.expect(" 366 ", channel)

    async def quit(self, reason: str = "bye") -> None:
        """Leave the network, and wait until the server has let go of us."""
        self.say(f"QUIT :{reason}")
        try:
            async with asyncio.timeout(PATIENCE):
                while True:
                    await self.read()
        except ConnectionError:
            return

    async def wait_for_answer_of(self, nick: str) -> None:
        """Wait until a bridge's client has read all that came before this, by a CTCP PING."""
        self.say(f"PRIVMSG {nick} :\x01PING {len(self.heard)}\x01")
        await self.expect("NOTICE", f"PING {len(self.heard)}")

    async def sync(self) -> None:
        """Wait until the server has done all that was written before."""
        self.say("VERSION")
        await self.expect(" 351 ")


@asynccontextmanager
async def irc_user(port: int, nick: str, password: str | None = None) -> AsyncIterator[IrcUser]:
    """Connect a person to a server of this machine."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    user = IrcUser(nick, reader, writer)
    try:
        if password is not None:
            user.say(f"PASS {password}")
        user.say(f"NICK {nick}", f"USER {USERNAME} 0 * :{nick}")
        await user.expect(" 001 ")
        yield user
    finally:
        writer.close()
        try:
            await writer.wait_closed()
        except ConnectionError:
            writer.transport.abort()
