"""Who says who they are: the homeserver is asked, and nobody else is believed."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

from bridge.model import Clock, SystemClock
from bridge.net.openid import OpenIdRefused, OpenIdTooOften, OpenIdVerifier
from bridge.sdk.errors import TemporaryFailure
from bridge.settings.records import DatabaseSettings
from bridge.storage.pool import Database
from bridge.storage.tokens import UsedOpenIds
from tests.net.canary import canary
from tests.net.server import Script, Scripted, always, plain, scripted
from tests.rigs.trestle import Town
from tests.storage.conftest import TurnedClock

GOOD = "good.example"
TOKEN = "a-token-of-the-homeserver"
SHOWN = {
    "access_token": TOKEN, "token_type": "Bearer", "matrix_server_name": GOOD, "expires_in": 3600,
}  # fmt: skip


class Noted:
    """Hashes that were noted, with the moments until which."""

    def __init__(self) -> None:
        self.until: dict[bytes, datetime] = {}
        self.is_away = False

    async def note(self, digest: bytes, until: datetime) -> bool:
        """Note it, once."""
        if self.is_away:
            raise TemporaryFailure("the database is away")
        return self.until.setdefault(digest, until) is until


def vouching(answer: object, status: str = "200 OK") -> bytes:
    return plain(json.dumps(answer).encode(), status, Content_Type="application/json")


@asynccontextmanager
async def verifier_for(
    script: Script,
    name: str = GOOD,
    within: float = 10.0,
    clock: Clock | None = None,
    elapsed: Callable[[], float] = monotonic,
) -> AsyncIterator[tuple[OpenIdVerifier, Scripted, Noted]]:
    """A verifier that asks a server with that script about people of ``name``."""
    noted = Noted()
    async with (
        scripted(script) as server,
        OpenIdVerifier(
            {name: f"http://127.0.0.1:{server.port}/"},
            noted.note,
            clock or SystemClock(),
            within=within,
            elapsed=elapsed,
        ) as verifier,
    ):
        yield verifier, server, noted


async def outcome(verifier: OpenIdVerifier, shown: object) -> str:
    """The user, or why nobody vouches."""
    try:
        return await verifier.verify(shown)
    except OpenIdRefused as error:
        return f"refused: {error}"


# --- who is believed ---


@pytest.mark.parametrize(
    "user",
    [
        "@alice:good.example", "@a.b_c=d-e/f+g:good.example", "@Old.Account!:good.example",
        "@" + "x" * 241 + ":good.example",
    ],
)  # fmt: skip
async def test_the_homeserver_is_asked_and_its_user_is_known(user: str) -> None:
    async with verifier_for(always(vouching({"sub": user}))) as (verifier, server, noted):
        assert await verifier.verify({**SHOWN, "more": [1]}) == user
        assert server.heads[0].startswith(
            f"GET /_matrix/federation/v1/openid/userinfo?access_token={TOKEN} HTTP/1.1\r\n"
        )
        assert "authorization" not in server.heads[0].lower()
    left = next(iter(noted.until.values())) - SystemClock().now()
    assert timedelta(days=29) < left <= timedelta(days=30)
    assert TOKEN.encode() not in next(iter(noted.until))


@pytest.mark.parametrize("name", ["good.example:8448", "10.0.0.1", "[fd00::1]:8448"])
async def test_a_server_name_may_have_a_port_and_be_a_number(name: str) -> None:
    async with verifier_for(always(vouching({"sub": f"@a:{name}"})), name) as (verifier, *_):
        assert await verifier.verify({**SHOWN, "matrix_server_name": name}) == f"@a:{name}"


FORGED_SUBS: list[Any] = [
    "@admin:other.example", "@x:good.example:evil", "@x:evil:good.example",
    "@x:evil\n:good.example", "@x:good.example\n", "\n@x:good.example", "@x:good.example\0",
    "@x:GOOD.EXAMPLE", "@x:good.example.", "@x:good.example:8448", "@x:.good.example",
    "@x:evilgood.example", "@x:good.example@evil", "x:good.example", "@x", "@:", "@x:", "",
    "@:good.example",
    " @x:good.example", "@x :good.example", "@ä:good.example", "@x:gооd.example",
    "@" + "x" * 250 + ":good.example", None, 7, True, ["@x:good.example"],
    {"@x:good.example": 1},
]  # fmt: skip
"""What a homeserver may not vouch for, or what is nobody."""

FORGED_ANSWERS = {
    "nothing": plain(b""),
    "no JSON": plain(b"@alice:good.example"),
    "a list": vouching(["@alice:good.example"]),
    "no sub": vouching({"user_id": "@alice:good.example"}),
    "an error": vouching({"errcode": "M_UNKNOWN_TOKEN", "sub": "@alice:good.example"}, "401 No"),
    "a refusal": vouching({"sub": "@alice:good.example"}, "403 No"),
    "an odd success": vouching({"sub": "@alice:good.example"}, "201 Made"),
    "no content": vouching({"sub": "@alice:good.example"}, "206 Partial"),
    "10 MB": vouching({"sub": "@alice:good.example", "x": "y" * 10_000_000}),
    "not UTF-8": plain(b'{"sub": "@alice:good.example", "x": "\xff"}'),
    "two answers": plain(b'{"sub": "@alice:good.example"}{"sub": "@alice:good.example"}'),
    "gzip": plain(b"\x1f\x8b\x08", Content_Encoding="gzip"),
}

FORGED_OBJECTS: list[Any] = [
    None, [], "x", {}, {**SHOWN, "access_token": None}, {**SHOWN, "access_token": ""},
    {**SHOWN, "access_token": 7}, {**SHOWN, "access_token": "a b"},
    {**SHOWN, "access_token": "a\r\nX: y"}, {**SHOWN, "access_token": "x" * 1025},
    {**SHOWN, "token_type": "MAC"}, {**SHOWN, "token_type": None},
    {**SHOWN, "expires_in": 0}, {**SHOWN, "expires_in": -1}, {**SHOWN, "expires_in": 3601},
    {**SHOWN, "expires_in": True}, {**SHOWN, "expires_in": "3600"}, {**SHOWN, "expires_in": 1.5},
    {**SHOWN, "expires_in": None}, {**SHOWN, "matrix_server_name": None},
    {**SHOWN, "matrix_server_name": "other.example"}, {**SHOWN, "matrix_server_name": [GOOD]},
    {**SHOWN, "matrix_server_name": "GOOD.example"}, {**SHOWN, "matrix_server_name": f"{GOOD}."},
]  # fmt: skip


async def test_of_over_thirty_forgeries_by_a_homeserver_none_is_accepted() -> None:
    assert len(FORGED_SUBS) + len(FORGED_ANSWERS) >= 30
    answers = {repr(sub): vouching({"sub": sub}) for sub in FORGED_SUBS} | FORGED_ANSWERS
    for what, answer in answers.items():
        async with verifier_for(always(answer)) as (verifier, server, noted):
            assert (await outcome(verifier, SHOWN)).startswith("refused: "), what
            assert len(server.heads) == 1, what
            assert noted.until == {}, what


async def test_what_is_no_openid_object_is_refused_without_asking_anybody() -> None:
    async with verifier_for(always(vouching({"sub": f"@a:{GOOD}"}))) as (verifier, server, _):
        for shown in FORGED_OBJECTS:
            assert (await outcome(verifier, shown)).startswith("refused: "), shown
        assert server.heads == []
        assert await outcome(verifier, SHOWN) == f"@a:{GOOD}"


async def test_a_name_that_leads_inside_is_refused_without_a_packet() -> None:
    async with canary() as bird, verifier_for(always(b"")) as (verifier, server, _):
        for name in (
            f"127.0.0.1:{bird.port}", f"localhost:{bird.port}", f"[::1]:{bird.port}",
            "169.254.169.254", f"x@127.0.0.1:{bird.port}", f"127.0.0.1:{bird.port}/#", "",
            f"good.example@127.0.0.1:{bird.port}", f"127.0.0.1:{bird.port}\\good.example",
        ):  # fmt: skip
            shown = {**SHOWN, "matrix_server_name": name}
            assert "not known here" in await outcome(verifier, shown)
        assert bird.visits == len(server.heads) == 0


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "303 See", "307 T", "308 P"])
async def test_a_redirect_is_not_followed_not_even_to_the_same_server(status: str) -> None:
    async with canary() as bird:
        answer = plain(b"", status, Location=f"http://127.0.0.1:{bird.port}/")
        async with verifier_for(always(answer)) as (verifier, server, _):
            assert (await outcome(verifier, SHOWN)).startswith("refused: ")
            assert len(server.heads) == 1
        assert bird.visits == 0


# --- once ---


async def test_a_token_is_accepted_once() -> None:
    async with verifier_for(always(vouching({"sub": f"@a:{GOOD}"}))) as (verifier, *_):
        assert await outcome(verifier, SHOWN) == f"@a:{GOOD}"
        for shown in (SHOWN, {**SHOWN, "expires_in": 5}, {**SHOWN, "more": 1}):
            assert "was used before" in await outcome(verifier, shown)
        assert await outcome(verifier, {**SHOWN, "access_token": "another"}) == f"@a:{GOOD}"


async def test_one_person_has_so_many_tokens_remembered_in_an_hour_and_no_more() -> None:
    clock, elapsed = TurnedClock(timedelta(days=30)), [5.0]
    answer = always(vouching({"sub": f"@a:{GOOD}"}))
    async with verifier_for(answer, clock=clock, elapsed=lambda: elapsed[0]) as (
        verifier,
        _,
        noted,
    ):
        # What was used before is not counted: others may show it, too.
        for number in [*range(59), 0, 59]:
            found = await outcome(verifier, {**SHOWN, "access_token": f"t{number}"})
            assert (found == f"@a:{GOOD}") is (len(noted.until) == number + 1), found
        more = {**SHOWN, "access_token": "more"}
        with pytest.raises(OpenIdTooOften):
            await verifier.verify(more)
        assert len(noted.until) == 60
        # Whatever the clock says: it may have been set right meanwhile.
        clock.ahead = timedelta()
        elapsed[0] += 3600
        assert await outcome(verifier, more) == f"@a:{GOOD}"


async def test_what_cannot_be_noted_counts_for_nothing() -> None:
    async with verifier_for(always(vouching({"sub": f"@a:{GOOD}"}))) as (verifier, _, noted):
        noted.is_away = True
        for number in range(61):
            with pytest.raises(TemporaryFailure):
                await verifier.verify({**SHOWN, "access_token": f"t{number}"})
        noted.is_away = False
        assert await outcome(verifier, SHOWN) == f"@a:{GOOD}"


async def test_of_many_who_show_a_token_at_once_one_is_accepted(
    database_settings: DatabaseSettings, folder: Path
) -> None:
    async with Database.open(database_settings, folder, SystemClock()) as database:
        used = UsedOpenIds(database, folder)
        async with (
            scripted(always(vouching({"sub": f"@a:{GOOD}"}))) as server,
            OpenIdVerifier(
                {GOOD: f"http://127.0.0.1:{server.port}"}, used.note, SystemClock()
            ) as verifier,
            asyncio.TaskGroup() as group,
        ):
            shows = [group.create_task(outcome(verifier, SHOWN)) for _ in range(30)]
            for show in shows:
                await show
    assert [show.result() for show in shows].count(f"@a:{GOOD}") == 1


# --- a homeserver that is away ---


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (plain(b"", "500 Broken"), "cannot answer now"),
        (plain(b"", "503 Later"), "cannot answer now"),
        (plain(b"", "429 Slower"), "cannot answer now"),
        (plain(b"", "404 No"), "its listener needs the resource `openid`"),
        (b"no HTTP\r\n\r\n", "does not answer"),
        (b"", "does not answer"),
    ],
)
async def test_a_homeserver_that_cannot_answer_is_no_refusal(answer: bytes, words: str) -> None:
    async with verifier_for(always(answer)) as (verifier, _, noted):
        with pytest.raises(TemporaryFailure, match=words):
            await verifier.verify(SHOWN)
        assert noted.until == {}


async def test_a_homeserver_that_drips_is_waited_for_so_long_and_no_longer() -> None:
    async def drip(head: str, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n")
        while not writer.is_closing():
            writer.write(b" ")
            await writer.drain()
            await asyncio.sleep(0.05)

    async with verifier_for(drip, within=0.3) as (verifier, *_):
        began = asyncio.get_running_loop().time()
        with pytest.raises(TemporaryFailure, match="does not answer"):
            await verifier.verify(SHOWN)
        assert asyncio.get_running_loop().time() - began < 60


# --- a real homeserver ---


async def test_a_real_homeserver_vouches_for_its_user_once(
    town: Town, database_settings: DatabaseSettings, folder: Path
) -> None:
    alice = await town.person("alice")
    shown = await alice.call("POST", f"v3/user/{alice.id}/openid/request_token", {})
    own = {"test.example": town.synapse.url}
    async with (
        Database.open(database_settings, folder, SystemClock()) as database,
        OpenIdVerifier(own, UsedOpenIds(database, folder).note, SystemClock()) as verifier,
    ):
        assert (await outcome(verifier, {**shown, "access_token": "made-up"})).startswith(
            "refused"
        )
        assert await outcome(verifier, shown) == alice.id
        assert "was used before" in await outcome(verifier, shown)
        again = await alice.call("POST", f"v3/user/{alice.id}/openid/request_token", {})
        assert await outcome(verifier, again) == alice.id
        # An access token of hers is no OpenID token.
        assert (await outcome(verifier, {**shown, "access_token": alice._token})).startswith(
            "refused"
        )
