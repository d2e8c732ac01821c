"""A person on IRC: joins, speaks, hears."""

import asyncio
from collections.abc import Callable
from typing import Self

from bridge.demo.matrix_user import PATIENCE


def plain(text: str) -> str:
    """The text without formatting codes (bold, italic, underline, reset)."""
    return text.translate(dict.fromkeys(map(ord, "\x02\x0f\x1d\x1f")))


class IrcUser:
    """Connected while the ``async with`` block lasts; answers the server's PING."""

    def __init__(self, nick: str, port: int) -> None:
        self.nick = nick
        self._port = port
        self._group = asyncio.TaskGroup()
        self._heard: list[str] = []
        self._news = asyncio.Condition()
        self._writer: asyncio.StreamWriter

    async def __aenter__(self) -> Self:
        reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)
        await self._group.__aenter__()
        self._listening = self._group.create_task(self._listen(reader))
        self._write(f"NICK {self.nick}", f"USER {self.nick} 0 * :{self.nick}")
        await self.wait_for(" 001 ")
        return self

    async def __aexit__(self, *error: object) -> None:
        self._listening.cancel()
        self._writer.close()
        await self._group.__aexit__(None, None, None)

    async def join(self, *channels: str) -> None:
        """Join the channels, one after the other."""
        for channel in channels:
            self._write(f"JOIN {channel}")
            await self.wait_for(f" 366 {self.nick} {channel} ")

    async def say(self, channel: str, text: str) -> None:
        """Say one line in the channel."""
        self._write(f"PRIVMSG {channel} :{text}")
        await self._writer.drain()

    async def wait_for(self, part: str, limit: float = PATIENCE) -> None:
        """Return when a line holding ``part`` was heard. Raises ``TimeoutError``."""
        await self.wait_until(lambda: any(part in one for one in self._heard), limit)

    async def wait_until(self, condition: Callable[[], bool], limit: float = PATIENCE) -> None:
        """Return when the condition holds; it is looked at after every line heard.

        Raises ``TimeoutError``.
        """
        async with asyncio.timeout(limit), self._news:
            await self._news.wait_for(condition)

    def hear(self, line: str) -> None:
        """Keep what the server says, without formatting codes: the last five hundred lines."""
        self._heard = [*self._heard[-500:], plain(line)]

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
                self.hear(text)
                self._news.notify_all()
