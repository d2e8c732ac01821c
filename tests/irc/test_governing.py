"""What a room does to a ghost hits that person on the network, and nobody else."""

import asyncio
from collections.abc import Awaitable

import pytest

from bridge.sdk.errors import DeliveryUncertain, PermanentFailure
from bridge.sdk.events import Rank, Removal
from bridge.sdk.ids import RemoteUserId, UserId
from tests.irc.stage import Network, a_listener, chat, listening, speaking, synced
from tests.rigs.scripted_irc import Peer, scripted_server

ROOM = chat("#room")


async def refused(doing: Awaitable[None], why: str) -> None:
    with pytest.raises(PermanentFailure, match=why):
        await doing


async def uncertain(doing: Awaitable[bool]) -> None:
    with pytest.raises(DeliveryUncertain):
        await doing


def acts(peer: Peer) -> list[str]:
    """What was done to the channel."""
    return [
        one for one in peer.heard
        if one.startswith(("MODE #room +", "MODE #room -", "KICK"))
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["*", "b?b", "a,b", "a b", "a!b", "a@b", "$a:b", "+o", "a\r\nb"])
async def test_a_ghost_whose_name_is_no_nick_stands_for_nobody(name: str) -> None:
    person = RemoteUserId(name)
    async with a_listener() as (relay, _, peer, _):
        for how in Removal:
            await refused(relay.remove(ROOM, person, how, "x"), "is no IRC nick")
        await refused(relay.set_rank(ROOM, person, Rank.MODERATOR), "is no IRC nick")
        await synced(peer)
        assert acts(peer) == []


async def test_a_ghost_with_a_nick_of_ours_is_not_put_out_nor_given_a_rank() -> None:
    async with scripted_server() as server:
        network = Network(server.port)
        async with (
            listening(server, network) as (relay, _, peer, _),
            speaking(server, network),
        ):
            for name, why in (
                ("trestle", "trestle is this bridge itself"),
                ("alice", "alice is @alice:example.org's own connection: do it to them in Matrix"),
            ):
                person = RemoteUserId(name)
                for how in (Removal.KICK, Removal.BAN):
                    await refused(relay.remove(ROOM, person, how, "x"), why)
                await refused(relay.set_rank(ROOM, person, Rank.MODERATOR), why)
            await synced(peer)
            assert acts(peer) == []
            # What is done to the person is done to their connection.
            await relay.set_rank(ROOM, UserId("@alice:example.org"), Rank.VOICED)
            await peer.expect("MODE #room +v Alice")


async def test_an_invitation_that_gets_no_answer_may_be_passed_on_or_not() -> None:
    async with a_listener() as (relay, _, peer, _), asyncio.TaskGroup() as tasks:
        person = RemoteUserId("dora")
        asked = tasks.create_task(relay.invite(ROOM, person))
        await peer.expect("INVITE dora #room")
        peer.say(":irc.test 443 {nick} dora #room :is already on channel")
        assert await asked is False
        again = tasks.create_task(uncertain(relay.invite(ROOM, person)))
        await peer.expect("INVITE dora #room")
        peer.close()
        await again
