"""Lines 38 and 84 further: what a connection carries, however it is cut and whatever it says."""

import asyncio
import gc
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from itertools import pairwise
from pathlib import Path

import pytest
import uvloop
from hypothesis import given
from hypothesis import strategies as st

from bridge.demo.matrix_user import PATIENCE
from bridge.matrix.answer import DONE, Answer
from bridge.matrix.listener import Handler, Listener, Request
from bridge.settings.records import Address
from tests.conformance.conftest import Door
from tests.conformance.wire import BASE, SOON, head, wire
from tests.rigs.scale import examples

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


@examples(60, sharing=True)
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
            tasks.create_task(listener.stop(5))
            assert await resting.is_closed()
            may_answer.set()
            reply = await busy.read()
        assert (reply.status, reply.headers["connection"]) == (200, "close")
        with pytest.raises(OSError):  # noqa: PT011 - whichever the system says
            await asyncio.open_connection(*address)


@asynccontextmanager
async def listening(
    handle: Handler = lambda request: _done(), *, head_limit: float = 30.0
) -> AsyncIterator[tuple[Listener, Address]]:
    """A listener of its own, and where it is."""
    listener = Listener(handle, idle_limit=60, head_limit=head_limit)
    address = await listener.start(Address("127.0.0.1", 0))
    try:
        yield listener, address
    finally:
        await listener.stop(1)


async def _done() -> Answer:
    return DONE


async def test_more_connections_than_a_homeserver_needs_cost_the_one_that_rests_longest() -> None:
    async with listening() as (_, address), AsyncExitStack() as lines:
        first = await lines.enter_async_context(wire(address))
        first.send(head("GET /"))
        assert (await first.read()).status == 200
        for _ in range(256):
            last = await lines.enter_async_context(wire(address))
            last.send(head("GET /"))
            assert (await last.read()).status == 200
        assert await first.is_closed()
        last.send(head("GET /"))
        assert (await last.read()).status == 200


async def test_requests_that_do_not_wait_for_answers_are_all_answered_and_few_are_in_memory() -> (
    None
):
    ahead: list[int] = []

    async def handle(request: Request) -> Answer:
        (conversation,) = listener._conversations
        ahead.append(len(conversation._requests))
        return DONE

    async with listening(handle) as (listener, address), wire(address) as line:
        line.send(head("GET /") * 3000)
        assert [(await line.read()).status for _ in range(3000)] == [200] * 3000
    assert 10 < max(ahead) < 100


async def test_a_head_that_has_begun_has_not_for_ever() -> None:
    async with listening(head_limit=0.2) as (_, address), wire(address) as line:
        line.send(head("GET /") + b"GET / HT")
        assert (await line.read()).status == 200
        reply = await line.read()
        assert (reply.status, reply.errcode) == (408, "M_UNKNOWN")
        assert await line.is_closed()


async def test_what_comes_after_a_body_ends_also_where_it_is_one_header(door: Door) -> None:
    async with wire(door.receiver.address) as line:
        line.send(head(f"PUT {BASE}/transactions/1", f"Authorization: {door.bearer}",
                       "Transfer-Encoding: chunked"))  # fmt: skip
        line.send(b"d\r\n" + EMPTY + b"\r\n0\r\nX: " + b"x" * 300_000)
        assert (await line.read()).status == 400
        assert await line.is_closed()


async def test_a_connection_that_was_taken_as_we_stopped_is_not_served() -> None:
    asked: list[Request] = []

    async def handle(request: Request) -> Answer:
        asked.append(request)
        return DONE

    async with listening(handle) as (listener, address):
        with socket.create_connection(address) as line:
            line.sendall(head("GET /"))
            async with asyncio.timeout(PATIENCE):
                while not any("_converse" in repr(task) for task in asyncio.all_tasks()):
                    await asyncio.sleep(0)
            await listener.stop(1)
            line.setblocking(False)
            with suppress(ConnectionResetError):
                assert await asyncio.get_running_loop().sock_recv(line, 100) == b""
    assert asked == []


@pytest.mark.parametrize("make_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
@pytest.mark.parametrize("turns", range(6))
@pytest.mark.parametrize("is_socket_file", [False, True], ids=["tcp", "unix"])
def test_no_connection_stays_open_whenever_it_comes_as_we_stop(
    make_loop: Callable[[], asyncio.AbstractEventLoop], turns: int, is_socket_file: bool,
    tmp_path: Path,
) -> None:  # fmt: skip
    async def stop_as_they_come() -> None:
        listener = Listener(lambda request: _done(), idle_limit=60)
        where: Address | str = str(tmp_path / "socket")
        if is_socket_file:
            await listener.start_at(Path(str(where)))
        else:
            where = await listener.start(Address("127.0.0.1", 0))
        family = socket.AF_UNIX if is_socket_file else socket.AF_INET
        lines = [socket.socket(family) for _ in range(5)]
        for line in lines:
            line.connect(where)
        for _ in range(turns):
            await asyncio.sleep(0)
        await listener.stop(1)
        for line in lines:
            line.settimeout(0)
            with suppress(ConnectionResetError), line:
                async with asyncio.timeout(PATIENCE):
                    assert await asyncio.get_running_loop().sock_recv(line, 100) == b""

    with asyncio.Runner(loop_factory=make_loop) as runner:
        runner.run(stop_as_they_come())
    gc.collect()  # What was left open is told of, which fails the test.


async def test_a_stop_waits_no_longer_than_it_is_told() -> None:
    asked = asyncio.Event()

    async def handle(request: Request) -> Answer:
        asked.set()
        await asyncio.Event().wait()
        return DONE

    async with listening(handle) as (listener, address), wire(address) as line:
        line.send(head("GET /"))
        await asked.wait()
        async with asyncio.timeout(SOON):
            await listener.stop(0.1)
        assert await line.is_closed()


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400),
        (b"GET / RTSP/1.0\r\nHost: hs\r\n\r\n", 400),
        (b"GET / HTTP/1.0\r\n\r\n", 404),
    ],
    ids=["no host", "two hosts", "another protocol", "of the version that needs no host"],
)
async def test_a_request_names_its_host_and_is_http(
    door: Door, request_: bytes, status: int
) -> None:
    authorized = request_[:-2] + f"Authorization: {door.bearer}\r\n\r\n".encode()
    async with wire(door.receiver.address) as line:
        line.send(authorized)
        assert (await line.read()).status == status
    # However it is cut.
    async with wire(door.receiver.address) as line:
        for at in range(0, len(authorized), 6):
            line.send(authorized[at : at + 6])
            await line.writer.drain()
            await asyncio.sleep(0)
        assert (await line.read()).status == status


async def test_a_compressed_body_is_refused_wherever_it_is_said(door: Door) -> None:
    async with wire(door.receiver.address) as line:
        line.send(put(door, EMPTY, "Content-Encoding: identity", "Content-Encoding: gzip"))
        assert (await line.read()).status == 415
