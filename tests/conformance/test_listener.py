"""Lines 38 and 84 further: what a connection carries, however it is cut and whatever it says."""

import asyncio
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bridge.matrix.listener import DONE, Answer, Listener, Request
from bridge.settings import Address
from tests.conformance.conftest import Door
from tests.conformance.wire import BASE, head, wire

EMPTY = b'{"events":[]}'
MARKED = b'{"events":[{"n":%d}]}'


def put(door: Door, body: bytes, *headers: str, number: int = 1) -> bytes:
    """A transaction as it goes over the wire."""
    length = f"Content-Length: {len(body)}"
    line = f"PUT {BASE}/transactions/{number}"
    return head(line, f"Authorization: {door.bearer}", length, *headers) + body


async def test_requests_that_come_at_once_are_answered_one_after_another(door: Door) -> None:
    async with wire(door.receiver.address) as line:
        line.send(b"".join(put(door, MARKED % n, number=n) for n in range(5)) + b"no HTTP\r\n\r\n")
        assert [(await line.read()).status for _ in range(6)] == [200] * 5 + [400]
        assert await line.is_closed()
    assert [one.events for one in door.recorder.taken] == [[{"n": n}] for n in range(5)]


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(cuts=st.lists(st.integers(1, 400), max_size=6), in_chunks=st.booleans())
async def test_a_request_is_the_same_wherever_it_is_cut(
    door: Door, cuts: list[int], in_chunks: bool
) -> None:
    door.recorder.taken.clear()
    if in_chunks:
        start = head(f"PUT {BASE}/transactions/1", f"Authorization: {door.bearer}",
                     "Transfer-Encoding: chunked")  # fmt: skip
        said = start + b"5;x=y\r\n" + EMPTY[:5] + b"\r\n8\r\n" + EMPTY[5:] + b"\r\n0\r\n\r\n"
    else:
        said = put(door, EMPTY)
    places = sorted({0, len(said), *(one for one in cuts if one < len(said))})
    async with wire(door.receiver.address) as line:
        for first, last in pairwise(places):
            line.send(said[first:last])
            await line.writer.drain()
            await asyncio.sleep(0)
        line.send(put(door, MARKED % 2))
        assert [(await line.read()).status for _ in range(2)] == [200, 200]
    assert [one.events for one in door.recorder.taken] == [[], [{"n": 2}]]


@pytest.mark.parametrize(
    "request_",
    [
        b"PUT / HTTP/1.1\r\nHost: hs\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"PUT / HTTP/1.1\r\nHost: hs\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\n",
        b"PUT / HTTP/1.1\r\nHost: hs\r\nContent-Length: -3\r\n\r\n",
        b"GET /" + b"x" * 20_000 + b" HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nX: " + b"x" * 20_000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 20_000,
        b"GET / HTTP/1.1\r\nX: " + b"x" * 100_000,
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ],
    ids=["two lengths", "lengths that differ", "below zero", "first line", "header", "headers",
         "endless header", "TLS"],
)  # fmt: skip
async def test_what_means_two_things_or_never_ends_is_400_and_the_end(
    door: Door, request_: bytes
) -> None:
    async with wire(door.receiver.address) as line:
        line.send(request_)
        reply = await line.read()
        assert (reply.status, reply.errcode) == (400, "M_UNKNOWN")
        assert reply.headers["connection"] == "close"
    assert door.recorder.taken == []


async def test_a_client_that_wants_another_protocol_or_one_request_is_answered_once(
    door: Door,
) -> None:
    for said in (
        put(door, EMPTY, "Connection: close"),
        put(door, EMPTY).replace(b"HTTP/1.1", b"HTTP/1.0"),
        head(f"GET {BASE}/users/x", "Connection: Upgrade", "Upgrade: websocket"),
    ):
        async with wire(door.receiver.address) as line:
            line.send(said + b"\x00\x01\x02")
            assert (await line.read()).status in {200, 401}
            assert await line.is_closed()


async def test_what_comes_after_a_body_is_no_header(door: Door) -> None:
    start = head(f"PUT {BASE}/transactions/1", "Transfer-Encoding: chunked")
    body = b"d\r\n" + EMPTY + b"\r\n0\r\n"
    token = f"Authorization: {door.bearer}\r\n".encode()
    async with wire(door.receiver.address) as line:
        line.send(start + body + token + b"\r\n")
        line.send(head(f"GET {BASE}/users/x"))  # Nor is it one of this.
        assert [(await line.read()).status for _ in range(2)] == [401, 401]
    async with wire(door.receiver.address) as line:
        line.send(start.replace(b"\r\n\r\n", b"\r\n" + token + b"\r\n"))
        line.send(body + b"X: y\r\n" * 20_000)
        assert (await line.read()).status == 400
        assert await line.is_closed()


async def test_an_upgrade_with_a_body_is_refused_in_words(door: Door) -> None:
    async with wire(door.receiver.address) as line:
        line.send(put(door, EMPTY, "Connection: Upgrade", "Upgrade: h2c"))
        reply = await line.read()
        assert (reply.status, b"without an upgrade" in reply.body) == (400, True)
        assert await line.is_closed()
    assert door.recorder.taken == []


async def test_a_stop_lets_an_answer_out_and_ends_what_rests() -> None:
    asked, may_answer = asyncio.Event(), asyncio.Event()

    async def handle(request: Request) -> Answer:
        asked.set()
        await may_answer.wait()
        return DONE

    listener = Listener(handle, idle_limit=60)
    address = await listener.start(Address("127.0.0.1", 0))
    async with asyncio.timeout(20), wire(address) as busy, wire(address) as resting:
        busy.send(head("GET /"))
        await asked.wait()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(listener.stop())
            assert await resting.is_closed()
            may_answer.set()
            reply = await busy.read()
        assert (reply.status, reply.headers["connection"]) == (200, "close")
        with pytest.raises(OSError):  # noqa: PT011 - whichever the system says
            await asyncio.open_connection(*address)
