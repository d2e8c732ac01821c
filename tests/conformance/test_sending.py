"""Lines 100 to 106: what we ask of the homeserver, and what we make of its answers."""

import json
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest

from bridge.matrix.html import content_for
from bridge.model import Outgoing, ParkReason, SendKind, SystemClock
from bridge.sdk.events import MessageKind, RemoteChat, RemoteMessage, RemoteUser
from bridge.sdk.ids import InstanceId, RemoteChatId, RemoteMessageId, RemoteUserId, RoomId, UserId
from bridge.sdk.rich import Rich
from tests.conformance.stage import ROOM, Play
from tests.rigs.scripted_homeserver import SERVER, Answer, Asked, refuse, scripted_homeserver

NEAR = InstanceId("near")
DORA, EMIL = (UserId(f"@_trestle_near_{name}:{SERVER}") for name in ("dora", "emil"))
EVENT_LIMIT = 65_536
"""Bytes of a whole event (client-server API, "Size limits")."""


def say(text: str, *, user: UserId = DORA, room: str = ROOM, **changes: Any) -> Outgoing:
    """An outbox entry: the user says the text."""
    one = Outgoing(
        room=RoomId(room), user=user, kind=SendKind.EVENT, type="m.room.message",
        content={"msgtype": "m.text", "body": text}, transaction_id=f"t {text} {user} {room}",
    )  # fmt: skip
    return replace(one, **changes)


async def send(stage: Play, *outgoing: Outgoing) -> None:
    """Put entries into the outbox, and wait until the homeserver has the last in its room."""
    await stage.app.parts.sender.put(outgoing)
    last = outgoing[-1]
    await stage.homeserver.wait_until(
        lambda: last.content["body"] in stage.homeserver.texts(last.room)
    )


def sends(stage: Play, text: str) -> list[Asked]:
    """The attempts at saying the text."""
    asked = [a for a in stage.homeserver.of("PUT", "rooms") if a.content.get("body") == text]
    return [one for one in asked if one.parts[2] == "send"]


def answer_to(stage: Play, text: str, *answers: Answer) -> None:
    """Give these answers, one each time, to attempts at saying the text."""
    left = list(answers)

    def rule(asked: Asked) -> Answer | None:
        return left.pop(0) if left and asked.content.get("body") == text else None

    stage.homeserver.rules.append(rule)


async def parked(stage: Play) -> dict[ParkReason, int]:
    """How many are put aside, by reason."""
    return await stage.app.parts.items.count_parked()


# --- 100 to 102: as whom, and under which transaction id ---


async def test_line_100_a_device_that_is_not_known_is_made(stage: Play) -> None:
    answer_to(stage, "hello", refuse(400, "M_UNKNOWN_DEVICE"))
    await send(stage, say("hello"))
    first, second = sends(stage, "hello")
    assert first.user == DORA
    assert first.path == second.path
    devices = [a for a in stage.homeserver.of("PUT", "devices") if a.user == DORA]
    assert [a.parts[1] for a in devices] == [first.query["device_id"]]


async def test_line_101_a_ghost_is_registered_without_a_login(stage: Play) -> None:
    def rule(asked: Asked) -> Answer | None:
        if asked.parts == ("register",) and asked.content.get("inhibit_login") is not True:
            return refuse(400, "M_APPSERVICE_LOGIN_UNSUPPORTED")
        return None

    stage.homeserver.rules.append(rule)
    stage.homeserver.users.add(EMIL)  # It is there already: M_USER_IN_USE is as good.
    await send(stage, say("hello"), say("hi", user=EMIL), say("again"), say("too", user=EMIL))
    for ghost in ("dora", "emil"):
        (asked,) = [a for a in stage.homeserver.of("POST", "register") if ghost in str(a.content)]
        assert asked.content["type"] == "m.login.application_service"
    assert stage.homeserver.of("POST", "login") == []


async def test_line_101_a_ghost_outside_the_registration_is_no_trouble_to_others(
    stage: Play,
) -> None:
    def rule(asked: Asked) -> Answer | None:
        is_dora = asked.parts == ("register",) and "dora" in asked.content["username"]
        return refuse(400, "M_EXCLUSIVE") if is_dora else None

    stage.homeserver.rules.append(rule)
    await send(stage, say("of dora"), say("of emil", user=EMIL))
    assert stage.homeserver.texts(ROOM) == ["of emil"]
    assert await parked(stage) == {ParkReason.REFUSED: 1}
    (aside,) = await stage.app.parts.aside.all()
    assert "compare registration.yaml" in aside.detail


async def test_line_102_a_retry_is_the_same_bytes_and_no_two_ghosts_share_an_id(
    stage: Play,
) -> None:
    odd = "t/ä %2F?"
    answer_to(stage, "one", refuse(502, "M_UNKNOWN"), refuse(500, "M_UNKNOWN"))
    await send(stage, say("one", transaction_id=odd))
    assert len({asked.path for asked in sends(stage, "one")}) == 1
    assert stage.homeserver.said[0].path.endswith("/t%2F%C3%A4%20%252F%3F")
    await _receive(stage, "the same words", sender="dora")
    await _receive(stage, "the same words", sender="emil")
    await stage.homeserver.wait_until(lambda: len(stage.homeserver.said) == 3)
    ids = [said.path.rpartition("/")[2] for said in stage.homeserver.said]
    assert len(set(ids)) == 3


async def _receive(stage: Play, text: str, *, sender: str = "dora") -> None:
    """Bring a message of the network's in, as its client does."""
    portals, chat = stage.app.parts.portals, RemoteChatId("#chat")
    door = portals.find(NEAR, chat) or await portals.add(
        instance=NEAR,
        chat=RemoteChat(id=chat, name="#chat"),
        room=RoomId(ROOM),
        created_by=UserId(f"@alice:{SERVER}"),
    )
    message = RemoteMessage(
        chat=chat,
        id=RemoteMessageId("1"),
        sender=RemoteUser(id=RemoteUserId(sender), name=sender),
        kind=MessageKind.TEXT,
        body=Rich.plain(text),
        at=SystemClock().now(),
    )
    await door.receive(message)


# --- 103: patience ---


async def test_line_103_the_delay_that_is_asked_for_is_kept_and_so_is_the_order(
    stage: Play,
) -> None:
    answer_to(
        stage, "second",
        refuse(429, "M_LIMIT_EXCEEDED", retry_after_ms=300),
        Answer(429, {}, {"Retry-After": "1"}),
    )  # fmt: skip
    await stage.app.parts.sender.put([say("first"), say("second"), say("third")])
    await send(stage, say("meanwhile", room="!elsewhere"))
    assert "second" not in stage.homeserver.texts(ROOM)
    await stage.homeserver.wait_until(lambda: len(stage.homeserver.texts(ROOM)) == 3)
    assert stage.homeserver.texts(ROOM) == ["first", "second", "third"]
    tries = [asked.at for asked in sends(stage, "second")]
    assert tries[1] - tries[0] >= 0.3
    assert tries[2] - tries[1] >= 1


async def test_line_103_patience_is_had_at_every_step(stage: Play) -> None:
    steps = {"register", "join", "displayname"}

    def rule(asked: Asked) -> Answer | None:
        if asked.user in {"", DORA} and asked.parts[-1] in steps:
            steps.remove(asked.parts[-1])
            return refuse(429, "M_LIMIT_EXCEEDED", retry_after_ms=100)
        return None

    stage.homeserver.rules.append(rule)
    await send(stage, say("first", name="Dora"), say("second", name="Dora"))
    assert steps == set()
    assert stage.homeserver.texts(ROOM) == ["first", "second"]


ODD_DELAYS: list[Any] = [0, -5, "soon", None, [], {}, True, 1e-9]


async def test_line_103_an_odd_delay_neither_hurts_nor_hurries_us(stage: Play) -> None:
    for delay in ODD_DELAYS:
        odd = refuse(429, "M_LIMIT_EXCEEDED", retry_after_ms=delay, retry_after=delay)
        answer_to(stage, f"after {delay}", odd, odd)
    for number, delay in enumerate(ODD_DELAYS):
        await stage.app.parts.sender.put([say(f"after {delay}", room=f"!room{number}")])
    await stage.homeserver.wait_until(lambda: len(stage.homeserver.said) == len(ODD_DELAYS))
    for delay in ODD_DELAYS:
        tries = [asked.at for asked in sends(stage, f"after {delay}")]
        assert len(tries) == 3
        assert all(later - sooner > 0.05 for sooner, later in pairwise(tries))


# --- 104: what is too large ---


@pytest.mark.parametrize("character", ["x", "\u00fc", "\U0001f600", '"', "\\", "&"])
def test_line_104_each_piece_of_a_long_message_is_small_enough(character: str) -> None:
    text = " ".join(character * 99 for _ in range(2000))
    contents = content_for(Rich.plain(text), MessageKind.TEXT)
    assert len(contents) > 1
    for content in contents:
        body = json.dumps(content, ensure_ascii=False, separators=(",", ":"))
        # Ids, hashes and signatures of an event take up to 2 KiB more.
        assert len(body.encode()) <= EVENT_LIMIT - 2048
    said = "".join(content["body"] for content in contents)
    assert said.replace(" ", "") == text.replace(" ", "")


async def test_line_104_a_long_message_goes_out_in_pieces(stage: Play) -> None:
    await _receive(stage, " ".join(f"word{number:06}" for number in range(20_000)))
    await send(stage, say("the last"))
    said = stage.homeserver.said[:-1]
    assert len(said) == 4
    words = " ".join(one.text for one in said).split()
    assert words == [f"word{number:06}" for number in range(20_000)]


async def test_line_104_what_the_homeserver_finds_too_large_is_tried_once(stage: Play) -> None:
    answer_to(stage, "large", *[refuse(413, "M_TOO_LARGE")] * 9)
    await send(stage, say("first"), say("large"), say("last"))
    assert stage.homeserver.texts(ROOM) == ["first", "last"]
    assert len(sends(stage, "large")) == 1
    assert await parked(stage) == {ParkReason.REFUSED: 1}


# --- 105: links to the other side ---


@pytest.mark.parametrize(
    ("url", "kept"),
    [
        ("https://example.org/x", True), ("http://example.org", True), ("HTTPS://e.org/", True),
        ("javascript:alert(1)", False), ("JavaScript://e.org/%0aalert(1)", False),
        ("data:text/html,x", False), ("file:///etc/passwd", False), ("irc://e.org", False),
        ("//e.org", False), ("e.org", False), ("", False), ("https:", False),
        (" https://e.org", False), ("https://e.org/\n", False), ("java\tscript:x", False),
        ("https://[x", False), ("mailto:a@e.org", False),
    ],
)  # fmt: skip
def test_line_105_only_http_links_lead_to_the_other_side(url: str, kept: bool) -> None:
    (content,) = content_for(Rich.plain("x"), MessageKind.TEXT, external_url=url)
    assert content.get("external_url") == (url if kept else None)


# --- 106: redirects ---


async def test_line_106_no_redirect_is_followed_with_the_token(stage: Play) -> None:
    statuses = (301, 302, 303, 307, 308)
    async with scripted_homeserver() as stranger:
        for status in statuses:
            place = {"Location": f"{stranger.url}/_matrix/client/v3/x"}
            answer_to(stage, f"{status}", Answer(status, {}, place))
            await stage.app.parts.sender.put([say(f"{status}", room=f"!room{status}")])
        await stage.homeserver.wait_until(lambda: len(stage.homeserver.said) == len(statuses))
        assert stranger.asked == []
    for status in statuses:
        assert [bool(asked.token) for asked in sends(stage, f"{status}")] == [True, True]
