"""Who invites somebody of the network where that takes long, or is refused."""

import asyncio

import pytest

from bridge.core.portals.callings import call_in
from bridge.core.portals.portals import Portals
from bridge.sdk.errors import DeliveryError, DeliveryUncertain, PermanentFailure, TemporaryFailure
from bridge.sdk.events import RemoteChat
from bridge.sdk.ids import RemoteUserId
from tests.core.ground import ALICE, NEAR, Ground
from tests.core.instances import Line, at_work, network
from tests.irc.loops import SteppedLoop, run_stepped

BOB = RemoteUserId("bob")


class Inviter:
    """A connection that invites whom it is told to, or fails, or gets no answer."""

    def __init__(self, failure: DeliveryError | None = None, *, is_silent: bool = False) -> None:
        self.failure, self.is_silent = failure, is_silent
        self.invited: list[RemoteUserId] = []

    async def invite(self, chat: RemoteChat, person: RemoteUserId) -> bool:
        """Do it."""
        self.invited.append(person)
        if self.is_silent:
            await asyncio.Event().wait()
        if self.failure is not None:
            raise self.failure
        return True


async def invited_by(own: Inviter, relay: Inviter) -> bool:
    ground = Ground()
    near = ground.instances[NEAR] = network(NEAR, Line())
    at_work(near, relay)
    at_work(near, own, ALICE)
    door = Portals(ground.house)._open(ground.portal)
    return await call_in(ground.house, door, BOB, ALICE, by_relay=True)


@pytest.mark.parametrize("failure", [PermanentFailure("no"), TemporaryFailure("not just now")])
async def test_what_ones_own_connection_may_not_do_the_relay_does(failure: DeliveryError) -> None:
    own, relay = Inviter(failure), Inviter()
    assert await invited_by(own, relay)
    assert own.invited == relay.invited == [BOB]


async def test_what_may_be_done_is_not_done_a_second_time_by_the_relay() -> None:
    relay = Inviter()
    with pytest.raises(DeliveryUncertain, match="the connection broke"):
        await invited_by(Inviter(DeliveryUncertain("the connection broke")), relay)
    assert relay.invited == []


def test_what_gets_no_answer_in_time_is_not_done_a_second_time_by_the_relay() -> None:
    own, relay = Inviter(is_silent=True), Inviter()

    async def invite() -> None:
        with pytest.raises(DeliveryUncertain, match="did not answer in time"):
            await invited_by(own, relay)

    async def check(loop: SteppedLoop) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(invite())
            await loop.turn()
            loop.now += 10
        assert (own.invited, relay.invited) == ([BOB], [])

    run_stepped(check)
