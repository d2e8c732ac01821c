"""A wire to a server that breaks in the middle of things, as networks do."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class BreakingWire:
    """Passes bytes on; resets a connection when its allowance of bytes is used up."""

    def __init__(self, target: int, dice: random.Random) -> None:
        self.target = target
        """The server's port; another from the next connection on."""
        self._dice = dice
        self.allowance: tuple[int, int] | None = None
        """How many bytes a connection lasts, from and to; None lets all pass."""
        self.breaks = 0
        self.arrivals: list[float] = []
        """When (loop time) a connection came, taken or not."""
        self.port = 0
        self._is_cut = False
        self._ends: set[asyncio.StreamWriter] = set()

    def cut(self) -> None:
        """Break every connection, and let none through until :meth:`mend`."""
        self._is_cut = True
        for end in self._ends:
            end.transport.abort()

    def mend(self) -> None:
        """Let connections through again."""
        self._is_cut = False

    async def take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Take a connection, and have it broken in time."""
        self.arrivals.append(asyncio.get_running_loop().time())
        if self._is_cut:
            writer.transport.abort()
            return
        self._ends.add(writer)  # Before the other end: a cut may come while that is made.
        there_reader, there_writer = await asyncio.open_connection("127.0.0.1", self.target)
        left = [self._dice.randint(*self.allowance) if self.allowance else 2**40]
        self._ends.add(there_writer)
        try:
            async with asyncio.TaskGroup() as both:
                both.create_task(self._pass_on(reader, there_writer, left))
                both.create_task(self._pass_on(there_reader, writer, left))
        except* ConnectionError:
            pass
        finally:
            for end in (writer, there_writer):
                self._ends.discard(end)
                end.transport.abort()

    async def _pass_on(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, left: list[int]
    ) -> None:
        while data := await source.read(4096):
            if self.allowance is not None and left[0] > self.allowance[1]:
                left[0] = self._dice.randint(*self.allowance)
            sink.write(data[: left[0]])
            left[0] -= len(data)
            if left[0] <= 0:
                self.breaks += 1
                # What is written may still get through, or not: so it is with a reset.
                if self._dice.random() < 0.5:
                    await sink.drain()
                raise ConnectionResetError
        raise ConnectionResetError


@asynccontextmanager
async def breaking_wire(target: int, dice: random.Random) -> AsyncIterator[BreakingWire]:
    """Listen on a free port of this machine for connections to the target's."""
    wire = BreakingWire(target, dice)
    server = await asyncio.start_server(wire.take, "127.0.0.1", 0)
    wire.port = server.sockets[0].getsockname()[1]
    try:
        yield wire
    finally:
        server.close()
        await server.wait_closed()
