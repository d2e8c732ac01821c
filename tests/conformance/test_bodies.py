"""Lines 29 and 35 to 40 on the wire: how a body may come, and what HTTP can do to us."""

import asyncio
import gzip
import json
import logging
from collections.abc import AsyncIterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

from tests.conformance.conftest import Door, event, open_door
from tests.conformance.wire import BASE, SOON, Reply, head, wire

TRANSACTION = f"PUT {BASE}/transactions/1"
EMPTY = b'{"events":[]}'
MIB = 1024 * 1024


async def test_line_29_a_transaction_may_hold_ephemeral_events_alone(door: Door) -> None:
    typing = {"type": "m.typing", "room_id": "!r", "content": {"user_ids": []}}
    assert (await door.put({"events": [], "ephemeral": [typing]}))[0] == 200


def full_transaction() -> dict[str, Any]:
    """The largest that Synapse puts: 100 events of 64 KiB, and 100 each of the small kinds."""
    edu = {"type": "m.receipt", "room_id": "!r", "content": {"x": "y" * 1000}}
    to_device = {**edu, "to_user_id": "@a:hs", "to_device_id": "D"}
    return {
        "events": [event(n, content={"body": "x" * 65_000}) for n in range(100)],
        "de.sorunome.msc2409.ephemeral": [edu] * 100,
        "de.sorunome.msc2409.to_device": [to_device] * 100,
    }


@pytest.mark.parametrize("size", [10, 33], ids=["the largest of Synapse", "33 MiB"])
async def test_line_36_large_transactions_are_taken_whole(door: Door, size: int) -> None:
    body = {**full_transaction(), "padding": "x" * (size * MIB - 6_800_000)}
    assert (await door.put(BytesIO(json.dumps(body).encode())))[0] == 200
    taken = door.recorder.taken[0]
    assert (len(taken.events), len(taken.ephemeral), len(taken.to_device)) == (100, 100, 100)


@pytest.mark.parametrize("chunked", [False, True], ids=["announced", "in chunks"])
async def test_line_36_what_is_too_large_is_413_as_json_and_seen(
    tmp_path: Path, chunked: bool, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_door(tmp_path, max_body_bytes=MIB) as door:
        body = b'{"events":["' + b"x" * 8 * MIB + b'"]}'
        status, answer = await door.put(_in_chunks(body) if chunked else BytesIO(body))
        assert (status, answer["errcode"]) == (413, "M_TOO_LARGE")
        assert unreadable(door) == 1
    assert "transaction_unreadable" in {getattr(r, "event", "") for r in caplog.records}


async def _in_chunks(body: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(body), 65536):
        yield body[start : start + 65536]


def unreadable(door: Door) -> float:
    """What the alarm metric says."""
    registry = door.telemetry.registry
    return registry.get_sample_value("trestle_transactions_total", {"outcome": "unreadable"}) or 0


async def test_line_37_a_bomb_is_refused_packed(door: Door) -> None:
    bomb = gzip.compress(b'{"events":[' + b" " * 50 * MIB + b"]}")
    status, answer = await door.put(bomb, headers={"Content-Encoding": "gzip"})
    assert (status, answer["errcode"]) == (415, "M_UNKNOWN")
    assert door.recorder.taken == []


async def test_line_38_a_body_in_chunks_needs_no_length(door: Door) -> None:
    assert (await door.put(_in_chunks(json.dumps({"events": [event()]}).encode())))[0] == 200
    assert [e["event_id"] for e in door.recorder.taken[0].events] == ["$e1"]


async def test_line_38_a_client_that_asks_whether_to_go_on_is_told_so(door: Door) -> None:
    async with wire(door.receiver.address) as line:
        ask = f"Content-Length: {len(EMPTY)}", "Expect: 100-continue"
        line.send(head(TRANSACTION, f"Authorization: {door.bearer}", *ask))
        assert (await line.read()).status == 100
        line.send(EMPTY)
        assert (await line.read()).status == 200


@pytest.mark.parametrize(
    ("token", "expectation", "status"),
    [("Bearer wrong", "100-continue", 403), ("", "a miracle", 417)],
)
async def test_line_38_a_client_is_not_told_to_go_on_in_vain(
    door: Door, token: str, expectation: str, status: int
) -> None:
    async with wire(door.receiver.address) as line:
        headers = f"Authorization: {token or door.bearer}", f"Expect: {expectation}"
        line.send(head(TRANSACTION, *headers, "Content-Length: 13"))
        assert (await line.read()).status == status
        assert await line.is_closed()


async def test_line_38_a_body_that_never_ends_is_408(tmp_path: Path) -> None:
    async with open_door(tmp_path, body_limit=0.2) as door, wire(door.receiver.address) as line:
        line.send(head(TRANSACTION, f"Authorization: {door.bearer}", "Content-Length: 1000"))
        line.send(b'{"events"')
        reply = await line.read()
        assert (reply.status, reply.errcode) == (408, "M_UNKNOWN")
        assert await line.is_closed()


async def test_line_38_a_head_that_never_ends_is_not_waited_for(tmp_path: Path) -> None:
    async with open_door(tmp_path, idle_limit=0.3) as door, wire(door.receiver.address) as line:
        line.send(head(TRANSACTION)[:-4])
        async with asyncio.timeout(SOON):
            while not line.reader.at_eof():
                line.send(b"\r\nX: x")
                await asyncio.sleep(0.05)


async def test_line_38_a_client_that_goes_away_in_the_middle_is_no_trouble(
    door: Door, caplog: pytest.LogCaptureFixture
) -> None:
    for body in (b'{"eve', b"", EMPTY):
        async with wire(door.receiver.address) as line:
            line.send(head(TRANSACTION, f"Authorization: {door.bearer}", "Content-Length: 1000"))
            line.send(body)
            await line.writer.drain()
    assert (await door.put({"events": []}))[0] == 200
    assert [r for r in caplog.records if r.levelno >= logging.ERROR] == []


BROKEN = {
    "no number for a chunk": (["Transfer-Encoding: chunked"], b"zz\r\n{}\r\n0\r\n\r\n"),
    "no end of a chunk": (["Transfer-Encoding: chunked"], b"2\r\n{}xx0\r\n\r\n"),
    "no number for a length": (["Content-Length: ten"], b"{}"),
    "a negative length": (["Content-Length: -1"], b"{}"),
    "two lengths": (["Content-Length: 2", "Content-Length: 3"], b"{}"),
    "both a length and chunks": (["Content-Length: 2", "Transfer-Encoding: chunked"], b"{}"),
    "an unknown transfer": (["Transfer-Encoding: odd"], b"{}"),
    "a header of no form": (["x y z"], b"{}"),
    "a header too long": ([f"X: {'x' * 20_000}"], b""),
    "a thousand headers": ([f"X-{n}: x" for n in range(1000)], b""),
}


@pytest.mark.parametrize("name", BROKEN)
async def test_line_38_broken_http_is_a_400_in_json_and_names_nothing(
    door: Door, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    headers, body = BROKEN[name]
    reply = await _send(door, head(TRANSACTION, f"Authorization: {door.bearer}", *headers) + body)
    assert 400 <= reply.status < 500
    assert reply.headers["content-type"] == "application/json"
    assert reply.errcode.startswith("M_")
    assert [r.getMessage() for r in caplog.records if r.exc_info] == []


@pytest.mark.parametrize("charset", ["klingon", '"utf-16"', "iso-8859-1", "UTF-8", '"utf8"'])
async def test_line_31_a_body_is_utf_8_and_says_so_if_it_says_anything(
    door: Door, charset: str
) -> None:
    kind = {"Content-Type": f"application/json; charset={charset}"}
    status, answer = await door.put(EMPTY, headers=kind)
    if "utf" in charset.lower() and "16" not in charset:
        assert status == 200
    else:
        assert (status, answer["errcode"]) == (400, "M_NOT_JSON")
        assert door.recorder.taken == []


async def test_line_38_a_body_that_breaks_in_its_middle_is_answered(tmp_path: Path) -> None:
    async with open_door(tmp_path, body_limit=0.3) as door, wire(door.receiver.address) as line:
        chunked = "Transfer-Encoding: chunked", "Expect: 100-continue"
        line.send(head(TRANSACTION, f"Authorization: {door.bearer}", *chunked))
        assert (await line.read()).status == 100
        line.send(b"2\r\n{}\r\nzz\r\n")
        assert (await line.read()).status in {400, 408}
    assert door.recorder.taken == []


async def _send(door: Door, data: bytes) -> Reply:
    async with wire(door.receiver.address) as line:
        line.send(data)
        return await line.read()


@pytest.mark.parametrize(
    ("name", "status"),
    [
        ("a%2Fb%0d%0a", 200), ("%00", 200), ("%ff%fe", 200), ("%zz", 200), ("x" * 4096, 200),
        ("%0d%0a2026-01-01%20ERROR%20all%20is%20lost" * 50, 200), ("x" * 20_000, 400), ("", 404),
        ("a/b", 404),
    ],
    ids=str,
)  # fmt: skip
async def test_line_40_whatever_the_transaction_id_is_no_log_is_forged(
    door: Door, name: str, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    for body in (EMPTY, b"{"):
        headers = f"Authorization: {door.bearer}", f"Content-Length: {len(body)}"
        reply = await _send(door, head(f"PUT {BASE}/transactions/{name}", *headers) + body)
        assert reply.status == (400 if body == b"{" and status == 200 else status)
        assert reply.headers["content-type"] == "application/json"
    lines = [record.getMessage() for record in caplog.records]
    assert not any("is lost" in text or "\n" in text or "xxx" in text for text in lines)


@pytest.mark.parametrize(
    "path",
    [
        "//_matrix/app/v1/transactions/1", "/_matrix/app/v1//transactions/1",
        "/_matrix/app/v1/x/../transactions/1", "/_matrix/app/v1/%2e%2e/v1/transactions/1",
        "/_matrix/app/v1%2Ftransactions/1", "/_matrix%2Fapp/v1/transactions/1",
        "/_matrix/app/v1/transactions/1/", "/_matrix/app/v1/transactions",
        "http://hs/_matrix/app/v1/transactions/1",
    ],
)  # fmt: skip
async def test_line_85_no_other_spelling_of_a_path_leads_anywhere(door: Door, path: str) -> None:
    headers = f"Authorization: {door.bearer}", f"Content-Length: {len(EMPTY)}"
    reply = await _send(door, head(f"PUT {path}", *headers) + EMPTY)
    assert (reply.status, reply.errcode) == (404, "M_UNRECOGNIZED")
    assert door.recorder.taken == []
