"""An IRC server of which a test writes every line, for what real servers do rarely.

Its usual lines are checked against real servers by the tests that run on both.
"""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from bridge.demo.matrix_user import PATIENCE


class Peer:
    """One client's connection, from the server's side."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._lines: asyncio.Queue[str] = asyncio.Queue()
        self.ended = asyncio.Event()
        self.nick = "*"
        self.address: tuple[str, int] = writer.get_extra_info("peername")[:2]
        self.pong: str | None = ":irc.test PONG irc.test :{marker}"
        """How a PING is answered as it comes; None leaves it to the test, as one more line."""
        self.stays = False
        """A QUIT does not end the connection."""
        self.answers: dict[str, str] = {}
        """What is said to a line as it comes, before the test reads it."""
        self.heard: list[str] = []

    async def listen(self) -> None:
        """Take lines until the client is gone; answer PING; close at QUIT, as servers do."""
        try:
            while raw := await self._reader.readline():
                text = raw.decode().removesuffix("\r\n")
                if text.startswith("PING ") and self.pong is not None:
                    self.say(self.pong.replace("{marker}", text.removeprefix("PING ")))
                    continue
                if text in self.answers:
                    self.say(self.answers[text])
                self._lines.put_nowait(text)
                if text.startswith("QUIT") and not self.stays:
                    self.close()
        except ConnectionError:
            pass  # A reset, which is one more way to be gone.
        finally:
            self._lines.put_nowait("")
            self.ended.set()

    async def read(self) -> str:
        """Return the client's next line; nothing when it is gone."""
        async with asyncio.timeout(PATIENCE):
            text = await self._lines.get()
        self.heard.append(text)
        return text

    async def expect(self, start: str) -> str:
        """Read until a line that begins so, and return it."""
        while not (text := await self.read()).startswith(start):
            if not text:
                raise AssertionError(f"no {start!r} in {self.heard}")
        return text

    def say(self, *texts: str) -> None:
        """Write lines as they are; ``{nick}`` is the client's."""
        for text in texts:
            self._writer.write(text.replace("{nick}", self.nick).encode() + b"\r\n")

    def stop_reading(self) -> None:
        """Read nothing more of what the client writes."""
        self._writer.transport.pause_reading()  # type: ignore[attr-defined]

    async def drain(self) -> None:
        """Wait until most of what was said has been taken, or the client is gone."""
        with suppress(ConnectionError):
            await self._writer.drain()
        await asyncio.sleep(0)  # Others are to learn that it is gone.

    def say_bytes(self, raw: bytes) -> None:
        """Write bytes as they are."""
        self._writer.write(raw)

    async def welcome(
        self, isupport: str = "NICKLEN=30 CASEMAPPING=rfc1459", capabilities: str = ""
    ) -> None:
        """Let the client in, with what it asks for of these capabilities."""
        while (text := await self.read()) != "CAP END":
            if text.startswith("CAP LS"):
                self.say(f":irc.test CAP * LS :{capabilities}")
            if text.startswith("CAP REQ "):
                asked = text.removeprefix("CAP REQ ").removeprefix(":")
                self.say(f":irc.test CAP * ACK :{asked}")
            if text.startswith("NICK"):
                self.nick = text.removeprefix("NICK ").removeprefix(":")
            if not text:
                raise AssertionError(f"no CAP END in {self.heard}")
        self.let_in(isupport)

    def let_in(self, isupport: str = "NICKLEN=30 CASEMAPPING=rfc1459") -> None:
        """Say what a server says to one who is in."""
        self.say(
            ":irc.test 001 {nick} :Welcome",
            f":irc.test 005 {{nick}} {isupport} :are supported by this server",
            ":irc.test 422 {nick} :No message of the day",
        )

    async def admit(self, names: str = "") -> str:
        """Let the client into the channels that it asks for; return them as it named them."""
        channels = (await self.expect("JOIN ")).removeprefix("JOIN ")
        for channel in channels.split(","):
            self.say(
                f":{{nick}}!{{nick}}@client.test JOIN {channel}",
                f":irc.test 353 {{nick}} = {channel} :{{nick}} {names}",
                f":irc.test 366 {{nick}} {channel} :End of names",
            )
        return channels

    def close(self) -> None:
        """End the connection from the server's side."""
        self._writer.close()

    def slam(self) -> None:
        """Close with a reset (RST), as a server does that has not read what the client wrote."""
        sock = self._writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort()

    def reset(self) -> None:
        """End the connection without a word, as a failing network does."""
        with suppress(AttributeError):  # asyncio's, of one that was closed and is all written.
            self._writer.transport.abort()


class ScriptedServer:
    """Takes connections; a test plays the server on each."""

    def __init__(self) -> None:
        self._arrived: asyncio.Queue[Peer] = asyncio.Queue()
        self.peers: list[Peer] = []
        self.port = 0

    async def accept(self) -> Peer:
        """Wait for the next connection."""
        async with asyncio.timeout(PATIENCE):
            return await self._arrived.get()

    async def arrive(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Take a connection."""
        peer = Peer(reader, writer)
        self.peers.append(peer)
        self._arrived.put_nowait(peer)
        await peer.listen()


@asynccontextmanager
async def scripted_server(host: str = "127.0.0.1") -> AsyncIterator[ScriptedServer]:
    """Listen on a free port of this machine."""
    scripted = ScriptedServer()
    server = await asyncio.start_server(scripted.arrive, host, 0)
    scripted.port = server.sockets[0].getsockname()[1]
    try:
        yield scripted
    finally:
        server.close()
        for peer in scripted.peers:
            peer.reset()
            await peer.ended.wait()
        await server.wait_closed()
