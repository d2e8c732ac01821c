"""Parts of media: players ask for them, and some play nothing without (RFC 9110, section 14)."""

import asyncio
import io
import wave
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from bridge.demo.matrix_user import MatrixUser
from bridge.matrix.medialinks import Media, read_mxc
from bridge.sdk.ids import UserId
from bridge.sdk.secret import Secret
from tests.net.server import always, plain, scripted
from tests.rigs.browser import open_page
from tests.rigs.trestle import Town
from tests.web.origins import Origin, open_origin

FILE = Media("good.example", "abc")
TEXT = bytes(range(256)) * 1024
LENGTH = len(TEXT)
MIB = 1024 * 1024

Answer = tuple[int, bytes, Mapping[str, str]]


def minutes_of_silence(minutes: int) -> bytes:
    """A sound of 8 kHz."""
    made = io.BytesIO()
    with wave.open(made, "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(1)
        sound.setframerate(8000)
        sound.writeframes(b"\x80" * 8000 * 60 * minutes)
    return made.getvalue()


@asynccontextmanager
async def stored(town: Town, content: bytes, kind: str, name: str) -> AsyncIterator[Origin]:
    """A link to what somebody put into the real homeserver's media repository."""
    alice = await town.person("alice")
    appservice = town.settings.appservice
    sender = UserId(f"@{appservice.sender_localpart}:test.example")
    async with open_origin(
        town.synapse.url, await upload(town, alice, content, kind),
        token=appservice.as_token, bot=sender, name=name,
    ) as origin:  # fmt: skip
        yield origin


async def upload(town: Town, user: MatrixUser, content: bytes, kind: str) -> Media:
    async with town.session.post(
        f"{town.synapse.url}/_matrix/media/v3/upload", data=io.BytesIO(content),
        headers={"Authorization": f"Bearer {user._token}", "Content-Type": kind},
    ) as response:  # fmt: skip
        media = read_mxc((await response.json())["content_uri"])
        assert media is not None
        return media


async def ask(town: Town, origin: Origin, method: str = "GET", **headers: str) -> Answer:
    """Ask as a player does; headers' names have ``_`` for ``-``."""
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    async with town.session.request(method, origin.url, headers=given) as response:
        return response.status, await response.read(), response.headers


async def test_a_part_that_is_asked_for_is_what_is_given(town: Town) -> None:
    async with stored(town, TEXT, "video/mp4", "a.mp4") as origin:
        for asked, first, last in (
            ("bytes=0-1", 0, 1), ("bytes=0-", 0, LENGTH - 1), ("bytes=70000-99999", 70000, 99999),
            ("bytes=262143-", LENGTH - 1, LENGTH - 1), ("bytes=-3", LENGTH - 3, LENGTH - 1),
            ("bytes=-999999", 0, LENGTH - 1), ("bytes=5-99999999999", 5, LENGTH - 1),
        ):  # fmt: skip
            status, body, headers = await ask(town, origin, Range=asked)
            assert (status, body) == (206, TEXT[first : last + 1]), asked
            assert headers["Content-Range"] == f"bytes {first}-{last}/{LENGTH}"
            assert headers["Content-Length"] == str(last + 1 - first)
            assert headers["Content-Type"] == "video/mp4"


async def test_what_is_behind_the_end_is_refused_with_the_length(town: Town) -> None:
    async with stored(town, TEXT, "video/mp4", "a.mp4") as origin:
        for asked in ("bytes=262144-", "bytes=300000-300001", "bytes=-0"):
            status, body, headers = await ask(town, origin, Range=asked)
            assert (status, body) == (416, b""), asked
            assert headers["Content-Range"] == f"bytes */{LENGTH}"


async def test_without_a_single_part_all_is_given_and_parts_are_offered(town: Town) -> None:
    async with stored(town, TEXT, "video/mp4", "a.mp4") as origin:
        for asked in (
            {}, {"Range": "bytes=0-1,5-6"}, {"Range": "bytes=5-2"}, {"Range": "bytes=x-"},
            {"Range": "lines=0-1"}, {"Range": "bytes=0-1", "If_Range": '"a"'},
        ):  # fmt: skip
            status, body, headers = await ask(town, origin, **asked)
            assert (status, body) == (200, TEXT), asked
            assert headers["Accept-Ranges"] == "bytes"
        status, body, headers = await ask(town, origin, "HEAD", Range="bytes=0-1")
        assert (status, body) == (200, b"")
        assert headers["Accept-Ranges"] == "bytes"
        assert headers["Content-Length"] == str(LENGTH)


async def test_a_browser_that_opens_a_long_sound_goes_to_its_end_at_once(town: Town) -> None:
    async with (
        stored(town, minutes_of_silence(90), "audio/wav", "a.wav") as origin,
        open_page() as page, asyncio.timeout(120),
    ):  # fmt: skip
        await page.goto(origin.url)
        # Nothing of ours runs in its sandbox, so that it cannot be waited for there.
        player = page.locator("video")
        while await player.evaluate("player => player.readyState") < 1:
            await asyncio.sleep(0.05)
        await player.evaluate("player => { player.currentTime = 80 * 60 }")
        while await player.evaluate("player => player.seeking"):
            await asyncio.sleep(0.05)
        where = await player.evaluate("player => [player.duration, player.currentTime]")
        assert where == [90 * 60, 80 * 60]


async def test_a_homeserver_that_gives_parts_itself_is_asked_for_them(town: Town) -> None:
    part = plain(
        b"cde", "206 Partial Content", Content_Type="video/mp4", Content_Range="bytes 2-4/26"
    )
    async with (
        scripted(always(part)) as homeserver,
        open_origin(
            f"http://127.0.0.1:{homeserver.port}", FILE, token=Secret("t"), bot=UserId("@b:x")
        ) as origin,
    ):
        status, body, headers = await ask(town, origin, Range="bytes=2-4")
        assert (status, body, headers["Content-Range"]) == (206, b"cde", "bytes 2-4/26")


async def test_whoever_goes_away_before_the_part_begins_has_nothing_more_fetched(
    town: Town,
) -> None:
    sent = asyncio.get_running_loop().create_future()

    async def pour(head: str, writer: asyncio.StreamWriter) -> None:
        given = 0
        try:
            writer.write(plain(b"", Content_Type="video/mp4").replace(
                b"Content-Length: 0", f"Content-Length: {150 * MIB}".encode()
            ))  # fmt: skip
            while given < 150 * MIB:
                writer.write(bytes(MIB // 16))
                await writer.drain()
                given += MIB // 16
        finally:
            sent.set_result(given)

    async with (
        scripted(pour) as homeserver,
        open_origin(
            f"http://127.0.0.1:{homeserver.port}", FILE, token=Secret("t"), bot=UserId("@b:x")
        ) as origin,
        asyncio.timeout(60),
    ):
        reader, writer = await asyncio.open_connection(*origin.address)
        writer.write(f"GET {origin.path} HTTP/1.1\r\nHost: x\r\nRange: bytes=-1\r\n\r\n".encode())
        assert b" 206 " in await reader.readline()
        writer.transport.abort()
        assert await sent < 100 * MIB
