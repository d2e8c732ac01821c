"""What the fetcher takes: bounded time, bytes and inflation; no secret carried on, none quoted."""

import asyncio
import gzip
import re
import socket
import tracemalloc
import zlib

import pytest
from aiohttp.abc import ResolveResult

from bridge.net.fetcher import Fetched, GuardedFetcher
from bridge.net.reach import Reach
from bridge.sdk.errors import DeliveryError, PermanentFailure, TemporaryFailure
from bridge.sdk.secret import Secret
from tests.net.canary import Names
from tests.net.server import Script, Scripted, always, plain, scripted

SECRET = Secret("canary-of-a-bearer-token")


def fetcher_for(*servers: Scripted) -> GuardedFetcher:
    return GuardedFetcher(Reach(allow=[f"127.0.0.1:{server.port}" for server in servers]))


async def fetch_from(
    script: Script, *, most_bytes: int = 100_000, within: float = 5.0
) -> tuple[Fetched, list[str]]:
    """Fetch from a server with that script; its answer and the heads of the requests."""
    async with scripted(script) as server:
        answer = await fetcher_for(server).fetch(
            f"http://127.0.0.1:{server.port}/path?x=1#part", most_bytes=most_bytes, within=within
        )
        return answer, server.heads


async def test_an_answer_has_its_body_its_status_and_the_headers_that_speak_of_it() -> None:
    answer, heads = await fetch_from(
        always(plain(b"<feed/>", Content_Type="text/xml", ETag='"1"', Set_Cookie="a=b"))
    )
    assert (answer.status, answer.body) == (200, b"<feed/>")
    assert answer.headers == {"content-type": "text/xml", "etag": '"1"'}
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/path\?x=1", answer.url)
    assert heads[0].startswith("GET /path?x=1 HTTP/1.1\r\n")
    assert "Accept-Encoding: gzip\r\n" in heads[0]


@pytest.mark.parametrize("status", ["404 No", "500 Broken", "304 Same", "302 Nowhere"])
async def test_the_body_of_what_is_no_success_is_not_read(status: str) -> None:
    body = b"" if status.startswith("304") else b"inner detail"
    answer, _ = await fetch_from(always(plain(body, status)))
    assert (answer.status, answer.body) == (int(status[:3]), b"")


async def test_a_request_has_the_method_body_and_headers_that_it_was_given() -> None:
    async with scripted(always(plain())) as server:
        await fetcher_for(server).fetch(
            f"http://127.0.0.1:{server.port}/", method="POST", body=b"{}",
            headers={"Content-Type": "application/json"}, bearer=SECRET,
        )  # fmt: skip
    head = server.heads[0].lower()
    assert head.startswith("post / ")
    assert "content-type: application/json" in head
    assert f"authorization: bearer {SECRET.reveal()}" in head


# --- redirects ---


def leading(count: int, status: str = "302 Found") -> Script:
    """Redirect so many times, then answer."""

    async def script(head: str, writer: asyncio.StreamWriter) -> None:
        number = int(head.split()[1].strip("/") or 0)
        if number < count:
            writer.write(plain(b"", status, Location=f"/{number + 1}"))
        else:
            writer.write(plain(b"arrived"))

    return script


async def test_three_redirects_are_followed_and_not_a_fourth() -> None:
    async with scripted(leading(3)) as server:
        answer = await fetcher_for(server).fetch(f"http://127.0.0.1:{server.port}/0")
        assert (answer.body, answer.url[-2:]) == (b"arrived", "/3")
    async with scripted(leading(4)) as server:
        with pytest.raises(PermanentFailure, match="redirects more than 3 times"):
            await fetcher_for(server).fetch(f"http://127.0.0.1:{server.port}/0")
        assert len(server.heads) == 4


async def test_what_identifies_us_goes_to_the_first_host_only() -> None:
    async with scripted(leading(1)) as server:
        await fetcher_for(server).fetch(
            f"http://127.0.0.1:{server.port}/0", bearer=SECRET,
            headers={"Cookie": "canary=1", "X-Kind": "kept"},
        )  # fmt: skip
    first, second = server.heads
    assert SECRET.reveal() in first
    assert "canary=1" in first
    assert SECRET.reveal() not in second
    assert "canary" not in second
    assert "kept" in second


@pytest.mark.parametrize(
    ("status", "method"),
    [("301 M", "GET"), ("302 F", "GET"), ("303 S", "GET"), ("307 T", "POST"), ("308 P", "POST")],
)
async def test_what_was_sent_is_sent_again_only_where_the_status_says_so(
    status: str, method: str
) -> None:
    async with scripted(leading(1, status)) as server:
        await fetcher_for(server).fetch(
            f"http://127.0.0.1:{server.port}/0", method="POST", body=b"words"
        )
    assert server.heads[1].startswith(f"{method} /1 ")
    assert ("Content-Length: 5" in server.heads[1]) == (method == "POST")


# --- bytes and time ---


async def test_a_body_that_is_too_long_is_refused_whether_it_says_so_or_not() -> None:
    long = b"x" * 100_001
    unsaid = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + long
    for answer in (plain(long), unsaid, plain(gzip.compress(long), Content_Encoding="gzip")):
        with pytest.raises(PermanentFailure, match="longer than 100000 bytes"):
            await fetch_from(always(answer))
    assert len((await fetch_from(always(plain(long[1:]))))[0].body) == 100_000


async def test_gzip_is_inflated_whole_or_not_at_all() -> None:
    text = b"".join(b"%d " % number for number in range(20_000))
    packed = gzip.compress(text[:50_000]) + gzip.compress(text[50_000:])
    answer, _ = await fetch_from(
        always(plain(packed, Content_Encoding="gzip")), most_bytes=1_000_000
    )
    assert answer.body == text
    empty, _ = await fetch_from(always(plain(b"", Content_Encoding="gzip")))
    assert empty.body == b""
    for broken, words in ((packed[:-9], "ends too early"), (b"no gzip", "not the gzip it says")):
        with pytest.raises(PermanentFailure, match=words):
            await fetch_from(always(plain(broken, Content_Encoding="gzip")), most_bytes=1_000_000)
    for other in ("br", "deflate", "gzip, gzip", "zstd"):
        with pytest.raises(PermanentFailure, match="encoding that nobody asked for"):
            await fetch_from(always(plain(packed, Content_Encoding=other)))


async def test_a_bomb_is_refused_early_and_fills_no_memory() -> None:
    squeeze = zlib.compressobj(9, wbits=31)
    bomb = b"".join(squeeze.compress(bytes(1 << 20)) for _ in range(200)) + squeeze.flush()
    tracemalloc.start()
    with pytest.raises(PermanentFailure, match="is longer than"):
        # Where so much would be allowed, the ratio tells it from a long text.
        await fetch_from(always(plain(bomb, Content_Encoding="gzip")), most_bytes=1 << 30)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 64 * 2**20


async def test_a_body_that_drips_and_a_host_that_is_silent_end_at_the_deadline() -> None:
    async def drip(head: str, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n")
        while not writer.is_closing():
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.05)

    async def silent(head: str, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(1)

    for script in (drip, silent):
        began = asyncio.get_running_loop().time()
        with pytest.raises(TemporaryFailure, match=r"did not answer whole within 0\.3 seconds"):
            await fetch_from(script, within=0.3)
        assert asyncio.get_running_loop().time() - began < 60


async def test_redirects_have_one_deadline_together() -> None:
    async def slow(head: str, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.2)
        writer.write(plain(b"", "302 Found", Location="/"))

    with pytest.raises(TemporaryFailure, match=r"within 0\.5 seconds"):
        await fetch_from(slow, within=0.5)


async def test_a_head_without_end_is_refused() -> None:
    async def endless(head: str, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n")
        for number in range(200_000):
            writer.write(b"X-%d: %s\r\n" % (number, b"y" * 100))
            await writer.drain()

    with pytest.raises(TemporaryFailure, match="does not answer properly"):
        await fetch_from(endless)


# --- what errors say ---


@pytest.mark.parametrize(
    "answer",
    [
        b"SSH-2.0-canary\r\n\r\n",
        b"HTTP/1.1 canary\r\n\r\n",
        plain(b"canary" * 100_000),
        plain(b"canary", Content_Encoding="canary"),
        plain(b"canary", Content_Encoding="gzip"),
        plain(b"", "302 canary", Location="canary://canary"),
        plain(b"", "302 canary", Location="http://canary@canary/"),
    ],
)
async def test_no_error_quotes_what_was_answered(answer: bytes) -> None:
    with pytest.raises(DeliveryError) as failed:
        await fetch_from(always(answer))
    assert "canary" not in str(failed.value)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "x",
        "http://",
        "http://[",
        "http://a b/",
        "h://x",
        "http://x\0/",
        "http://é é/",
        "http://" + "x" * 5000,
        "javascript:alert(1)",
        "data:text/html,x",
    ],
)
async def test_what_is_no_address_gets_a_sentence(url: str) -> None:
    with pytest.raises(PermanentFailure, match="address"):
        await GuardedFetcher(Reach()).fetch(url)


class NoNames(Names):
    """Says of every name what the system's look-up says of one that nobody has."""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")


async def test_a_name_that_nobody_knows_is_told_apart() -> None:
    with pytest.raises(TemporaryFailure, match=r"there is no host nowhere\.invalid"):
        await GuardedFetcher(Reach(), resolver=NoNames()).fetch("http://nowhere.invalid/")


async def test_a_header_that_would_be_two_is_refused() -> None:
    async with scripted(always(plain())) as server:
        with pytest.raises(PermanentFailure, match="cannot be asked like that"):
            await fetcher_for(server).fetch(
                f"http://127.0.0.1:{server.port}/", headers={"X-A": "1\r\nX-B: 2"}
            )
        assert server.heads == []
