"""Speaking with a person's own account where the homeserver does not let us just now."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from bridge.matrix.client import HomeserverClient
from bridge.matrix.doubles import Doubles, Leave
from bridge.matrix.namespaces import Namespaces
from bridge.model import Outgoing, SendKind
from bridge.sdk.errors import TemporaryFailure
from bridge.sdk.ids import InstanceId, RoomId, UserId
from bridge.sdk.secret import Secret
from tests.rigs.scripted_homeserver import refuse, scripted_homeserver

ANN = UserId("@ann:test.example")
SAID = Outgoing(
    room=RoomId("!a"), user=UserId("@_trestle_irc_ann:test.example"), kind=SendKind.EVENT,
    type="m.room.message", content={"body": "hello"}, transaction_id="one", double=ANN,
)  # fmt: skip


@asynccontextmanager
async def refused_here(
    leave: Leave, errcode: str = "M_UNKNOWN_TOKEN"
) -> AsyncIterator[tuple[Doubles, list[UserId]]]:
    """Before a homeserver that knows no token, or says 401 for another reason: with those whom
    it is said to refuse."""
    namespaces = Namespaces(server_name="test.example", networks=[InstanceId("irc")])
    refused: list[UserId] = []

    async def leave_of(person: UserId) -> Leave | None:
        return leave

    async with (
        scripted_homeserver() as homeserver,
        HomeserverClient(homeserver.url, Secret("token")) as client,
    ):
        homeserver.rules.append(lambda asked: refuse(401, errcode))
        doubles = Doubles(client, namespaces, lambda text: text.encode()[:16])
        doubles.leave_of = leave_of
        doubles.on_refused = lambda person, reason: refused.append(person)
        yield doubles, refused


async def test_a_homeserver_that_does_not_know_us_at_all_refuses_nobody() -> None:
    async with refused_here(Leave()) as (doubles, refused):
        with pytest.raises(TemporaryFailure):
            await doubles.send(SAID)
        with pytest.raises(TemporaryFailure):
            await doubles.ignored_by(ANN, Leave())
        with pytest.raises(TemporaryFailure):
            await doubles.check(ANN, Leave())
    assert not refused


async def test_a_persons_token_that_is_not_known_any_more_speaks_no_more() -> None:
    async with refused_here(Leave(Secret("of Ann"))) as (doubles, refused):
        assert await doubles.send(SAID) is None
    assert refused == [ANN]


async def test_somebody_whose_account_is_locked_is_spoken_for_by_the_ghost_meanwhile() -> None:
    async with refused_here(Leave(), "M_USER_LOCKED") as (doubles, refused):
        assert await doubles.send(SAID) is None
    assert not refused


async def test_what_must_not_be_said_any_more_is_not_put() -> None:
    def refuse_it(outgoing: Outgoing) -> None:
        raise TemporaryFailure("not by now")

    async with refused_here(Leave(), "M_USER_LOCKED") as (doubles, _):
        doubles.before_saying = refuse_it
        with pytest.raises(TemporaryFailure, match="not by now"):
            await doubles.send(SAID)
