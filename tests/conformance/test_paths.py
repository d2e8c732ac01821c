"""Lines 35, 53 and 70 to 84 where the tables say more: duplicate keys, headers, whole answers."""

import pytest

from tests.conformance.conftest import Door
from tests.conformance.stage import Play, ask
from tests.conformance.wire import BASE, head, wire


@pytest.mark.parametrize("odd", ["", '"odd": "\\ud800", '], ids=["fast", "with a lone surrogate"])
async def test_line_35_of_duplicate_keys_the_last_wins_in_every_depth(
    door: Door, odd: str
) -> None:
    event = '{"event_id": "$a", "event_id": "$b", "content": {"body": "x", "body": "y"}}'
    body = f'{{{odd}"events": 5, "events": [], "events": [{event}]}}'
    assert (await door.put(body.encode()))[0] == 200
    (taken,) = door.recorder.taken[0].events
    assert (taken["event_id"], taken["content"]["body"]) == ("$b", "y")


async def test_line_35_brackets_in_a_text_are_no_depth(door: Door) -> None:
    text = r"\"[{\\" * 5000
    body = f'{{"odd": "\\ud800", "events": [], "text": "{text}"}}'
    assert (await door.put(body.encode()))[0] == 200


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("POST", "transactions/1", "PUT"), ("GET", "ping", "POST"), ("PUT", "users/%40x", "GET"),
        ("DELETE", "rooms/%23x", "GET"), ("POST", "thirdparty/protocol/irc", "GET"),
        ("HEAD", "transactions/1", "PUT"), ("OPTIONS", "ping", "POST"),
    ],
)  # fmt: skip
async def test_line_83_a_wrong_method_is_told_the_right_one(
    door: Door, method: str, path: str, allow: str
) -> None:
    async with wire(door.receiver.address) as line:
        line.send(head(f"{method} {BASE}/{path}", f"Authorization: {door.bearer}"))
        if method == "HEAD":
            assert b" 405 " in await line.reader.readline()
            return
        reply = await line.read()
    assert (reply.status, reply.errcode) == (405, "M_UNRECOGNIZED")
    assert reply.headers["allow"] == allow


@pytest.mark.parametrize(
    "path", ["org.matrix.msc3983/keys/claim", "org.matrix.msc3984/keys/query"]
)
async def test_line_84_what_is_not_supported_is_unrecognized_and_the_connection_stays(
    door: Door, path: str
) -> None:
    async with wire(door.receiver.address) as line:
        for _ in range(2):
            body = b'{"@a:hs": {"D": ["signed_curve25519"]}}'
            headers = f"Authorization: {door.bearer}", f"Content-Length: {len(body)}"
            line.send(head(f"POST /_matrix/app/unstable/{path}", *headers))
            line.send(body)
            reply = await line.read()
            assert (reply.status, reply.errcode) == (404, "M_UNRECOGNIZED")


async def test_line_80_legacy_paths_share_one_memory(stage: Play) -> None:
    for prefix in ("", "/_matrix/app/v1"):
        path = f"{prefix}/transactions/7"
        async with stage.homeserver.request(
            stage.settings, "PUT", path, {"events": [ask("once")]}
        ) as response:
            assert response.status == 200
    assert await stage.heard() == ["once"]
