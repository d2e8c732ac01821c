"""A homeserver's way of sending: one transaction in flight, over one connection."""

import asyncio
import itertools
import time
from dataclasses import dataclass

import aiohttp
import orjson

ROOMS = 10
_NUMBERS = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Sent:
    """What a run of transactions took."""

    events: int
    acknowledge: list[float]
    """Seconds from each request to its answer."""
    began: list[float]
    """When each request was begun, by the clock that all processes share."""


def room(number: int) -> str:
    """One of the benchmark's rooms."""
    return f"!room{number % ROOMS}:bench.example"


def transaction(size: int) -> bytes:
    """A transaction of text messages, as a homeserver writes them."""
    events = []
    for _ in range(size):
        number = next(_NUMBERS)
        events.append({
            "type": "m.room.message",
            "event_id": f"$bench{number:034d}",
            "room_id": room(number),
            "sender": f"@person{number % 50}:bench.example",
            "origin_server_ts": 1_790_000_000_000 + number,
            "unsigned": {"age": 12},
            "content": {"msgtype": "m.text", "body": f"this is message number {number}"},
        })  # fmt: skip
    return orjson.dumps({"events": events, "ephemeral": []})


async def send(
    port: int, token: str, bodies: list[bytes], size: int, *, pace: float = 0.0
) -> Sent:
    """Put every body in turn; with ``pace`` one each so many seconds."""
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    base = f"http://127.0.0.1:{port}/_matrix/app/v1/transactions/"
    acknowledge, starts = [], []
    async with aiohttp.ClientSession(headers=headers) as session:
        began = time.perf_counter()
        for number, body in enumerate(bodies):
            if pace:
                wait = began + number * pace - time.perf_counter()
                await asyncio.sleep(max(0.0, wait))
            sent = time.perf_counter()
            async with session.put(f"{base}{next(_NUMBERS)}", data=body) as response:
                await response.read()
                if response.status != 200:
                    raise RuntimeError(f"answered {response.status}")
            acknowledge.append(time.perf_counter() - sent)
            starts.append(sent)
        return Sent(len(bodies) * size, acknowledge, starts)
