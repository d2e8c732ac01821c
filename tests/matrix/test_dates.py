"""What was told late is given the time at which it was said, where we may."""

from dataclasses import replace

import pytest

from bridge.matrix.client import HomeserverClient
from bridge.matrix.doubles import Doubles, Leave
from bridge.matrix.intents import Intents
from bridge.matrix.namespaces import Namespaces
from bridge.model import Outgoing, SendKind
from bridge.sdk.errors import TemporaryFailure
from bridge.sdk.ids import InstanceId, RoomId, UserId
from bridge.sdk.secret import Secret
from tests.rigs.scripted_homeserver import Answer, Asked, refuse, scripted_homeserver

ANN = UserId("@ann:test.example")
LATE = Outgoing(
    room=RoomId("!a"), user=UserId("@_trestle_irc_ann:test.example"), kind=SendKind.EVENT,
    type="m.room.message", content={"body": "hello"}, transaction_id="one",
    said_at=1_790_000_000_123,
)  # fmt: skip
NAMESPACES = Namespaces(server_name="test.example", networks=[InstanceId("irc")])


async def no_device(user: UserId) -> str:
    return ""


async def test_each_attempt_asks_for_the_same_time_and_nothing_else_asks_for_one() -> None:
    lost = [refuse(502, "M_UNKNOWN")]

    def lose_answer(asked: Asked) -> Answer | None:
        return lost.pop() if lost and "send" in asked.parts else None

    async with (
        scripted_homeserver() as homeserver,
        HomeserverClient(homeserver.url, Secret("token")) as client,
    ):
        homeserver.rules.append(lose_answer)
        intents = Intents(client, NAMESPACES, device_of=no_device)
        with pytest.raises(TemporaryFailure):
            await intents.send(LATE)
        event_id = await intents.send(LATE)
        await intents.send(replace(LATE, said_at=None, transaction_id="two"))
        await intents.send(replace(LATE, kind=SendKind.REDACT, target=str(event_id)))
        put = [one for one in homeserver.of("PUT", "rooms")]
        assert [one.query.get("ts") for one in put] == ["1790000000123"] * 2 + [None] * 2
        late, now = homeserver.said
        assert late.at == 1_790_000_000_123 < now.at


async def test_a_person_speaks_with_the_time_too_unless_it_is_by_a_token_of_their_own() -> None:
    leave = Leave()

    async def leave_of(person: UserId) -> Leave | None:
        return leave

    async with (
        scripted_homeserver() as homeserver,
        HomeserverClient(homeserver.url, Secret("token")) as client,
    ):
        doubles = Doubles(client, NAMESPACES, lambda text: text.encode()[:16])
        doubles.leave_of = leave_of
        await doubles.send(replace(LATE, double=ANN))
        leave = Leave(Secret("of Ann"))
        await doubles.send(replace(LATE, double=ANN, transaction_id="two"))
        put = homeserver.of("PUT", "rooms")
        assert [one.query.get("ts") for one in put] == ["1790000000123", None]
