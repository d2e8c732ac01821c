"""The sending side of a homeserver, fast, and as unruly as homeservers have been seen to be.

It puts transactions as Synapse does (``tests/crash/test_unruly.py`` compares the two): one on the
way at a time, under the same id until it is taken, and what is not an event only at the first
attempt. It can also repeat a transaction, reuse an id for other events, count backwards or from
the beginning, and cut the connection.
"""

import asyncio
import contextlib
import itertools
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

import orjson

from bridge.demo.matrix_user import PATIENCE
from bridge.settings.records import Settings

Event = dict[str, Any]

_BASE = "/_matrix/app/v1/transactions"
_TO_DEVICE = "de.sorunome.msc2409.to_device"
_BACKOFF = 0.05
_LONGEST_BACKOFF = 1.0
"""Synapse waits up to 512 s, but not after a ping; and a ping is what Trestle asks for."""
_LIMIT = 2 * PATIENCE
"""Seconds within which any transaction is to be taken."""


def message(text: str, number: int, room: str, sender: str) -> Event:
    """A message as Synapse hands it on."""
    return {
        "age": 5,
        "content": {"body": text, "msgtype": "m.text"},
        "event_id": f"$unruly-{number}",
        "origin_server_ts": 1_795_635_101_107 + number,
        "room_id": room,
        "sender": sender,
        "type": "m.room.message",
        "unsigned": {"age": 5},
        "user_id": sender,
    }


def typing(room: str, *users: str) -> Event:
    """What tells who is typing, as Synapse hands it on."""
    return {"content": {"user_ids": list(users)}, "room_id": room, "type": "m.typing"}


def body(events: Sequence[Event], ephemeral: Sequence[Event] = ()) -> bytes:
    """A transaction's body, as Synapse writes it."""
    return orjson.dumps({_TO_DEVICE: [], "ephemeral": list(ephemeral), "events": list(events)})


@dataclass(slots=True)
class Put:
    """One attempt, for the record."""

    name: str
    status: int | None
    """None: the connection was cut, or broke."""
    at: float


class Broken(Exception):
    """The connection ended before the answer."""


@dataclass(slots=True)
class UnrulyHomeserver:
    """Puts transactions to one Trestle, over one connection, by the bytes."""

    settings: Settings
    dice: random.Random = field(default_factory=random.Random)
    puts: list[Put] = field(default_factory=list)
    keep_record: bool = True
    _numbers: "itertools.count[int]" = field(default_factory=lambda: itertools.count(1))
    _reader: asyncio.StreamReader | None = None
    _writer: asyncio.StreamWriter | None = None

    async def close(self) -> None:
        """Let go of the connection."""
        writer, self._writer, self._reader = self._writer, None, None
        if writer is not None:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    def next_name(self) -> str:
        """The id after the last one."""
        return str(next(self._numbers))

    def begin_anew(self, first: int = 1) -> None:
        """Count from the beginning, as Synapse on SQLite does after its restart."""
        self._numbers = itertools.count(first)

    async def deliver(
        self, events: Sequence[Event], ephemeral: Sequence[Event] = (), name: str = ""
    ) -> int:
        """Put a transaction until it is taken, as Synapse does; give the number of attempts."""
        name, data, wait = name or self.next_name(), body(events, ephemeral), _BACKOFF
        attempts = 1
        async with asyncio.timeout(_LIMIT):
            while await self.try_put(name, data) != 200:
                data = body(events)  # What is no event is sent once, and never again.
                await asyncio.sleep(wait)
                wait = min(wait * 2, _LONGEST_BACKOFF)
                attempts += 1
        return attempts

    async def try_put(self, name: str, data: bytes) -> int | None:
        """Put once; give the status, None if there was no answer."""
        try:
            status: int | None = await self._ask(name, data)
        except (OSError, Broken, asyncio.IncompleteReadError):
            status = None
            await self.close()
        if self.keep_record:
            self.puts.append(Put(name, status, monotonic()))
        return status

    async def cut(self, name: str, data: bytes) -> None:
        """Put, but end the connection: within the body, or before the answer is read."""
        await self.close()
        _, writer = await asyncio.open_connection(*self.settings.appservice.listen)
        request = self._head(name, len(data)) + data
        whole = self.dice.random() < 0.5
        writer.write(request if whole else request[: self.dice.randrange(1, len(request))])
        with contextlib.suppress(OSError):
            await writer.drain()
        writer.transport.abort()

    async def stream(
        self, make: Callable[[int], Sequence[Event]], transactions: int, *, per_second: float = 0
    ) -> None:
        """Deliver so many transactions, at most so many a second; 0: as fast as they are taken."""
        begin = monotonic()
        for number in range(transactions):
            await self.deliver(make(number))
            if per_second:
                ahead = begin + number / per_second - monotonic()
                if ahead > 0:
                    await asyncio.sleep(ahead)

    def _head(self, name: str, length: int) -> bytes:
        token = self.settings.appservice.hs_tokens[0].reveal()
        return (
            f"PUT {_BASE}/{name} HTTP/1.1\r\nHost: {self.settings.appservice.listen}\r\n"
            "User-Agent: Unruly\r\nAccept: application/json\r\nAccept-Encoding: gzip\r\n"
            f"Authorization: Bearer {token}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {length}\r\n\r\n"
        ).encode()

    async def _ask(self, name: str, data: bytes) -> int:
        if self._writer is None or self._reader is None:
            self._reader, self._writer = await asyncio.open_connection(
                *self.settings.appservice.listen
            )
        self._writer.write(self._head(name, len(data)) + data)
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode()
        lines = head.casefold().split("\r\n")
        length = next((int(x[15:]) for x in lines if x.startswith("content-length:")), None)
        if length is None:
            raise Broken
        await self._reader.readexactly(length)
        if "connection: close" in lines:
            await self.close()
        return int(head.split(" ", 2)[1])
