"""Small requests over kept connections: what a server may do to them, and what we make of it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from yarl import URL

from bridge.demo.matrix_user import PATIENCE
from bridge.demo.processes import free_port
from bridge.matrix.client import HomeserverAway, HomeserverClient
from bridge.matrix.connections import (
    NO_HEADERS,
    Connections,
    HungUpError,
    NoAnswerError,
    write_headers,
)
from bridge.sdk.errors import TemporaryFailure
from bridge.sdk.secret import Secret

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"

Serve = Callable[[bytes, asyncio.StreamWriter], Awaitable[None]]


class Server:
    """Reads requests, and does as it is told with each: its head, and where to answer."""

    def __init__(self, *turns: Serve) -> None:
        self._turns = list(turns)
        self.heads: list[str] = []
        self.connections = 0
        self.url = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                self.heads.append(head.decode())
                length = head.lower().partition(b"content-length: ")[2].partition(b"\r")[0]
                body = await reader.readexactly(int(length or 0))
                turn = self._turns.pop(0) if len(self._turns) > 1 else self._turns[0]
                await turn(body, writer)
                await writer.drain()
                if writer.is_closing():
                    return
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        finally:
            writer.close()


def says(*pieces: bytes, closes: bool = False) -> Serve:
    async def turn(body: bytes, writer: asyncio.StreamWriter) -> None:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
        if closes:
            writer.close()

    return turn


@asynccontextmanager
async def talking(*turns: Serve) -> AsyncIterator[tuple[Server, Connections]]:
    made = Server(*turns)
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    made.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    connections = Connections(URL(made.url))
    try:
        async with asyncio.timeout(PATIENCE):
            yield made, connections
    finally:
        await connections.close()
        server.close()


async def test_a_connection_is_kept_and_each_request_is_whole() -> None:
    async with talking(says(OK)) as (server, connections):
        for number in range(3):
            answer = await connections.ask(
                "PUT", f"/x?n={number}", write_headers({"A": "b"}), b"{}"
            )
            assert (answer.status, answer.body) == (200, b"{}")
        assert server.connections == 1
        assert server.heads[2].startswith("PUT /x?n=2 HTTP/1.1\r\nHost: 127.0.0.1:")
        assert server.heads[2].endswith("\r\nA: b\r\nContent-Length: 2\r\n\r\n")


@pytest.mark.parametrize(
    "pieces",
    [
        (b"HTTP/1.1 200 OK\r\nContent-Le", b"ngth: 2\r\n\r\n{", b"}"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{\r\n",
         b"1\r\n}\r\n0\r\n\r\n"),
        (b"HTTP/1.1 100 Continue\r\n\r\n", OK),
        (b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + OK,),
    ],
)  # fmt: skip
async def test_an_answer_may_come_in_pieces(pieces: tuple[bytes, ...]) -> None:
    async with talking(says(*pieces)) as (server, connections):
        for _ in range(2):
            answer = await connections.ask("GET", "/", NO_HEADERS, None)
            assert (answer.status, answer.body) == (200, b"{}")
        assert server.connections == 1


async def test_an_old_server_ends_its_answer_by_closing() -> None:
    async with talking(says(b"HTTP/1.0 200 OK\r\n\r\n{", b"}", closes=True)) as (_, connections):
        for _ in range(2):
            assert (await connections.ask("GET", "/", NO_HEADERS, None)).body == b"{}"


async def test_a_server_that_says_that_it_closes_is_not_asked_there_again() -> None:
    closing = OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
    async with talking(says(closing, closes=True)) as (server, connections):
        for _ in range(2):
            assert (await connections.ask("PUT", "/", NO_HEADERS, b"{}")).status == 200
        assert server.connections == 2


async def test_what_asks_for_patience_is_told_with_its_header() -> None:
    patience = b"HTTP/1.1 429 No\r\nretry-after: 7\r\nContent-Length: 0\r\n\r\n"
    async with talking(says(patience)) as (_, connections):
        assert await connections.ask("GET", "/", NO_HEADERS, None) == (429, "7", None, b"")


@pytest.mark.parametrize(
    ("asked", "seconds"),
    [
        ("7", 7), ("0", 0.1), ("99999999999", 3600),
        ("Fri, 31 Dec 1999 23:59:59 GMT", 9),
        ("Friday, 31-Dec-99 23:59:59 GMT", 9),
        ("Fri Dec 31 23:59:59 1999", 9),
        ("Fri, 31 Dec 1999 23:59:40 GMT", 0.1),
        ("Fri, 31 Dec 2100 23:59:59 GMT", 3600),
        ("Fri, 99999999999999999999 Dec 1999 23:59:59 GMT", None), ("soon", None), ("", None),
    ],
)  # fmt: skip
async def test_a_delay_is_believed_in_seconds_and_as_a_date_by_the_servers_own_clock(
    asked: str, seconds: float | None
) -> None:
    head = f"HTTP/1.1 503 No\r\nDate: Fri, 31 Dec 1999 23:59:50 GMT\r\nRetry-After: {asked}\r\n"
    async with (
        talking(says(head.encode() + b"Content-Length: 0\r\n\r\n")) as (server, _),
        HomeserverClient(server.url, Secret("token")) as client,
    ):
        with pytest.raises(HomeserverAway) as told:
            await client.versions()
    assert told.value.retry_after == seconds


async def test_a_kept_connection_that_breaks_costs_a_put_nothing() -> None:
    async with talking(says(OK), says(closes=True), says(OK)) as (server, connections):
        await connections.ask("PUT", "/", NO_HEADERS, b"{}")
        assert (await connections.ask("PUT", "/", NO_HEADERS, b"{}")).status == 200
        assert (server.connections, len(server.heads)) == (2, 3)


async def test_a_post_is_not_sent_twice_behind_the_callers_back() -> None:
    async with talking(says(OK), says(closes=True), says(OK)) as (server, connections):
        await connections.ask("POST", "/", NO_HEADERS, b"{}")
        with pytest.raises(HungUpError):
            await connections.ask("POST", "/", NO_HEADERS, b"{}")
        assert len(server.heads) == 2


@pytest.mark.parametrize(
    "piece",
    [b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{", b"HTTP/1.1 20", b"hello\r\n\r\n",
     b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"],
)  # fmt: skip
async def test_half_an_answer_and_no_http_are_none(piece: bytes) -> None:
    async with talking(says(piece, closes=True)) as (_, connections):
        with pytest.raises(NoAnswerError):
            await connections.ask("PUT", "/", NO_HEADERS, b"{}")


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_a_port_where_nobody_listens_is_said_in_the_systems_words(host: str) -> None:
    async with HomeserverClient(f"http://{host}:{free_port()}", Secret("token")) as client:
        with pytest.raises(TemporaryFailure, match=r"cannot be reached: Connection refused$"):
            await client.versions()


async def test_an_answer_that_nobody_waits_for_any_more_is_not_the_next_ones() -> None:
    asked, go = asyncio.Event(), asyncio.Event()

    async def late(body: bytes, writer: asyncio.StreamWriter) -> None:
        asked.set()
        await go.wait()
        writer.write(OK.replace(b"{}", b"!!"))

    async with talking(late, says(OK)) as (server, connections):
        async with asyncio.TaskGroup() as group:
            waiting = group.create_task(connections.ask("PUT", "/", NO_HEADERS, b"{}"))
            await asked.wait()
            waiting.cancel()
        go.set()
        assert (await connections.ask("PUT", "/", NO_HEADERS, b"{}")).body == b"{}"
        assert server.connections == 2


@pytest.mark.parametrize("more", [b"HTTP/1.1 500 No\r\nX: ", OK, b"{}"])
async def test_what_comes_behind_an_answer_is_no_part_of_the_next(more: bytes) -> None:
    async with talking(says(OK + more), says(OK)) as (server, connections):
        for _ in range(2):
            answer = await connections.ask("PUT", "/", NO_HEADERS, b"{}")
            assert (answer.status, answer.body) == (200, b"{}")
        assert server.connections == 2


async def test_nothing_in_a_request_begins_another() -> None:
    async with talking(says(OK)) as (server, connections):
        for target, header in (
            ("/a b", "x"),
            ("/a\r\nX: y", "x"),
            ("/", "x\r\nX: y"),
            ("/ä", "x"),
        ):
            with pytest.raises(ValueError, match="break its lines"):
                await connections.ask("GET", target, write_headers({"A": header}), None)
        assert not server.connections


async def test_an_answer_that_takes_too_long_is_none_and_belongs_to_no_other_request() -> None:
    late = asyncio.Event()

    async def slow(body: bytes, writer: asyncio.StreamWriter) -> None:
        await late.wait()
        writer.write(OK.replace(b"{}", b"no"))

    async with talking(says(OK), slow, says(OK)) as (server, connections):
        await connections.ask("PUT", "/", NO_HEADERS, b"{}")
        with pytest.raises(TimeoutError):
            await connections.ask("PUT", "/", NO_HEADERS, b"{}", seconds=0.05)
        late.set()
        assert (await connections.ask("PUT", "/", NO_HEADERS, b"{}")).body == b"{}"
        assert (server.connections, len(server.heads)) == (2, 3)


async def test_of_requests_side_by_side_each_has_its_own_time() -> None:
    async def silent(body: bytes, writer: asyncio.StreamWriter) -> None:
        """Give no answer."""

    ended: list[float] = []
    now = asyncio.get_running_loop().time

    async def wait_for(connections: Connections, seconds: float) -> None:
        began = now()
        with pytest.raises(TimeoutError):
            await connections.ask("PUT", "/", NO_HEADERS, b"{}", seconds=seconds)
        assert now() - began > seconds - 0.005
        ended.append(seconds)

    async with talking(silent) as (_, connections), asyncio.TaskGroup() as group:
        for seconds in (0.3, 0.1, 0.2, 0.4):
            group.create_task(wait_for(connections, seconds))
    assert ended == [0.1, 0.2, 0.3, 0.4]


async def test_the_wait_for_one_of_64_connections_is_limited_too() -> None:
    under_way, full, over = 0, asyncio.Event(), asyncio.Event()

    async def slow(body: bytes, writer: asyncio.StreamWriter) -> None:
        nonlocal under_way
        under_way += 1
        if under_way == 64:
            full.set()
        await over.wait()
        writer.write(OK)

    async with talking(slow) as (server, connections), asyncio.TaskGroup() as group:
        for _ in range(64):
            group.create_task(connections.ask("PUT", "/", NO_HEADERS, b"{}"))
        await full.wait()
        with pytest.raises(TimeoutError):
            await connections.ask("PUT", "/", NO_HEADERS, b"{}", seconds=0.05)
        over.set()
    assert len(server.heads) == 64


async def test_no_more_than_64_requests_are_under_way() -> None:
    under_way, most, full = 0, 0, asyncio.Event()

    async def slow(body: bytes, writer: asyncio.StreamWriter) -> None:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        if under_way == 64:
            full.set()
        await full.wait()
        under_way -= 1
        writer.write(OK)

    async with talking(slow) as (server, connections):
        async with asyncio.TaskGroup() as group:
            for _ in range(200):
                group.create_task(connections.ask("PUT", "/", NO_HEADERS, b"{}"))
        assert (most, len(server.heads)) == (64, 200)
        assert server.connections <= 64
