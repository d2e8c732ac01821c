"""Lines 6 and 9 to 14: odd tokens, their time, their change, and that no log holds them."""

import math
import random
import string
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import fmean, variance

import pytest

from bridge.config import read_settings
from bridge.matrix.authorization import Authorization
from bridge.matrix.registration import random_token
from bridge.sdk.secret import Secret
from bridge.settings.records import DatabaseSettings
from tests.conformance.conftest import Door, open_door
from tests.conformance.stage import settings_for
from tests.conformance.wire import BASE, head, wire
from tests.rigs.program import TrestleProgram, trestle_program
from tests.rigs.scale import chance
from tests.rigs.scripted_homeserver import ScriptedHomeserver, scripted_homeserver

TRANSACTION = f"PUT {BASE}/transactions/1"
MIB = 1024 * 1024


async def test_line_06_a_query_token_is_enough_where_the_settings_say_so(tmp_path: Path) -> None:
    async with open_door(tmp_path, legacy_query_token=True) as door:
        token = door.bearer.removeprefix("Bearer ")
        path = f"{BASE}/transactions/1?access_token="
        assert (await door.ask("PUT", path + token, {"events": []}, token=""))[0] == 200
        assert (await door.ask("PUT", path + "wrong", {"events": []}, token=""))[0] == 403


@pytest.mark.parametrize("second", ["Bearer wrong", "", "right"])
async def test_line_09_two_authorizations_are_none(door: Door, second: str) -> None:
    second = door.bearer if second == "right" else second
    both = [f"Authorization: {door.bearer}", f"Authorization: {second}"]
    async with wire(door.receiver.address) as line:
        line.send(head(TRANSACTION, *both, "Content-Length: 13") + b'{"events":[]}')
        assert (await line.read()).status in {401, 403}


# --- 10: how long a wrong token takes tells nothing ---

TOKEN = random_token()
SAMPLES = 2000


def test_line_10_the_time_of_a_refusal_does_not_tell_how_much_of_the_token_is_right() -> None:
    authorization = Authorization([Secret(TOKEN)], legacy_query=False)

    def check(token: str) -> object:
        return authorization.check((f"Bearer {token}",), None)

    # Chance alone tells two equal things apart once in a hundred times, not five times in a row.
    assert not all(are_separable(check, chance(f"timing {number}")) for number in range(5))


def test_line_10_the_same_measure_sees_a_comparison_that_stops_at_the_first_difference() -> None:
    def check(token: str) -> object:
        return all(given == right for given, right in zip(f"{token}", TOKEN, strict=False))

    assert are_separable(check, chance("timing"))


def are_separable(check: Callable[[str], object], dice: random.Random) -> bool:
    """Whether the times of wrong tokens that begin rightly differ from those that do not."""
    times: dict[int, list[float]] = {right: [] for right in (0, 16, 31)}
    for _ in range(SAMPLES):
        # Made before: the making of a token is seen in what is measured right after it.
        tokens = [(right, wrong_token(right, dice)) for right in times]
        for right, token in dice.sample(tokens, len(tokens)):
            times[right].append(seconds_of(check, token))
    return any(welch(times[0], times[right]) < 0.01 for right in (16, 31))


def wrong_token(right: int, dice: random.Random) -> str:
    """A token of the right length of which so many characters at the front are right."""
    other = dice.choice([one for one in string.ascii_letters if one != TOKEN[right]])
    rest = "".join(dice.choices(string.ascii_letters, k=len(TOKEN) - right - 1))
    return TOKEN[:right] + other + rest


def seconds_of(check: Callable[[str], object], token: str) -> float:
    """The quickest of five tries: what is left is the work, not the machine's other business."""
    tries = []
    for _ in range(5):
        began = time.perf_counter_ns()
        check(token)
        tries.append(time.perf_counter_ns() - began)
    return float(min(tries))


def welch(one: Sequence[float], other: Sequence[float]) -> float:
    """The probability of so large a difference of means if there is none (Welch's t-test).

    The slowest twentieth is left out of both. With samples this large t is normal.
    """
    kept = [sorted(times)[: len(times) * 19 // 20] for times in (one, other)]
    spread = math.sqrt(sum(variance(times) / len(times) for times in kept))
    return math.erfc(abs(fmean(kept[0]) - fmean(kept[1])) / (spread or 1) / math.sqrt(2))


# --- 11: a stranger's body is not read ---


async def test_line_11_a_stranger_is_refused_before_a_byte_of_the_body(door: Door) -> None:
    async with wire(door.receiver.address) as line:
        line.send(head(TRANSACTION, f"Content-Length: {64 * MIB}"))
        reply = await line.read()
        assert (reply.status, reply.errcode) == (401, "M_UNAUTHORIZED")
        assert await line.is_closed()


async def test_line_11_a_stranger_who_sends_on_meets_a_closed_connection(door: Door) -> None:
    async with wire(door.receiver.address) as line:
        line.send(head(TRANSACTION, "Transfer-Encoding: chunked"))
        sent = 0
        with pytest.raises(ConnectionError):  # noqa: PT012 - it happens at any of them
            while sent < 64 * MIB:
                line.send(b"10000\r\n" + b"x" * 65536 + b"\r\n")
                await line.writer.drain()
                sent += 65536
        # What the kernel's buffers of both sides held, and nothing beyond it.
        assert sent < 16 * MIB


# --- 12: the token is changed ---


async def test_line_12_both_tokens_are_right_in_the_window_and_the_old_one_wrong_after(
    tmp_path: Path,
) -> None:
    new, old = Secret(random_token()), Secret(random_token())
    body: dict[str, list[None]] = {"events": []}
    async with open_door(tmp_path, hs_tokens=(new, old)) as door:
        for token in (new, old):
            assert (await door.put(body, token=f"Bearer {token.reveal()}"))[0] == 200
    async with open_door(tmp_path, hs_tokens=(new,)) as door:
        assert (await door.put(body, token=f"Bearer {new.reveal()}"))[0] == 200
        status, answer = await door.put(body, token=f"Bearer {old.reveal()}")
        assert (status, answer["errcode"]) == (403, "M_FORBIDDEN")


def test_line_12_the_settings_name_both_tokens(tmp_path: Path) -> None:
    new, old = random_token(), random_token()
    settings = read_settings(
        {
            "homeserver": {"url": "http://127.0.0.1:8008", "server_name": "hs"},
            "appservice": {
                "as_token": random_token(), "hs_token": new, "hs_token_old": old,
                "sender_localpart": "hidden",
            },
        },
        folder=tmp_path,
    )  # fmt: skip
    assert [token.reveal() for token in settings.appservice.hs_tokens] == [new, old]


# --- 14: no log holds a token ---


async def test_line_14_no_log_holds_a_token_however_it_was_shown(
    database_settings: DatabaseSettings, folder: Path
) -> None:
    async with scripted_homeserver() as homeserver:
        settings = settings_for(homeserver, database_settings, folder)
        hs_token = settings.appservice.hs_tokens[0].reveal()
        wrong = random_token()
        logging = {"level": "debug"}
        async with trestle_program(settings, folder, logging=logging) as trestle:
            await homeserver.wait_until_greeted()
            for token in (hs_token, wrong):
                await _show(trestle, token)
            await _refuse_everything(homeserver, trestle)
        text = trestle.log_text()
    assert "token_refused" in text
    for token in (hs_token, wrong, settings.appservice.as_token.reveal()):
        assert token not in text


async def _show(trestle: TrestleProgram, token: str) -> None:
    """Show the token in every way in which lines 1 to 12 do, and in some that are no HTTP."""
    bearer, length = f"Authorization: Bearer {token}", "Content-Length: 13"
    heads = [
        head(TRANSACTION, bearer, length),
        head(TRANSACTION, f"Authorization: bearer {token}", length),
        head(TRANSACTION, f"Authorization: {token}", length),
        head(f"{TRANSACTION}?access_token={token}", length),
        head(f"{TRANSACTION}?access_token={token}", "Authorization: Bearer x", length),
        head(f"{TRANSACTION}?access_token=x", bearer, length),
        head(TRANSACTION, bearer, bearer, length),
        head(TRANSACTION, f"Authorization: Bearer {token}\xf6", length),
        head(TRANSACTION, f"Authorization: Bearer {token}\x01", length),
        head(TRANSACTION, f"Authorization {token}", length),
        head(f"PUT {BASE}/transactions/{'x' * 20_000}?access_token={token}", length),
        head(f"PU\x01T /?access_token={token}", bearer, length),
        head(TRANSACTION, bearer, "Content-Length: 1a"),
    ]
    for one in heads:
        async with wire(trestle.settings.appservice.listen) as line:
            line.send(one + b'{"events":[]}')
            assert (await line.read()).status in {200, 400, 401, 403}


async def _refuse_everything(homeserver: ScriptedHomeserver, trestle: TrestleProgram) -> None:
    """Send what is refused with the right token."""
    bodies: list[object] = ["x", [], {"events": 5}]
    for body in bodies:
        async with homeserver.request(
            trestle.settings, "PUT", f"{BASE}/transactions/1", body
        ) as response:
            assert response.status == 400
