"""A network that begins to compare names in another way, as with a new server program."""

import asyncio

import pytest

from bridge.sdk.events import RemoteChat, RemoteMembers, RemoteMessage
from bridge.sdk.ids import RemoteChatId
from tests.irc.stage import Network, message, running
from tests.rigs.scripted_irc import Peer, scripted_server

HALL = RemoteChat(id=RemoteChatId("#hall{1}"), name="#Hall[1]")
"""Bridged while `[` and `{` were the same sign."""


@pytest.mark.parametrize("mapping", ["rfc1459", "ascii"])
async def test_a_channel_keeps_its_room_and_is_spoken_in_by_its_own_name(mapping: str) -> None:
    isupport = f"NICKLEN=30 CASEMAPPING={mapping}"
    async with scripted_server() as server:
        network = Network(server.port)
        relay, host = network.relay()
        alice, _ = network.puppet("Alice")
        async with running(relay, alice), asyncio.TaskGroup() as tasks:
            ears = await welcomed(await server.accept(), isupport)
            joining = tasks.create_task(relay.join(HALL))
            assert await ears.admit("bob") == "#Hall[1]"
            await joining
            await host.wait_for(RemoteMembers)
            ears.say(":bob!b@h PRIVMSG #hall[1] :hello")
            (said,) = await host.wait_for(RemoteMessage)
            assert said.chat == HALL.id
            tasks.create_task(alice.send(message(HALL.id, "hi")))
            peer = await welcomed(await server.accept(), isupport)
            assert await peer.admit() == "#Hall[1]"
            await peer.expect("PRIVMSG #Hall[1] :hi")


async def welcomed(peer: Peer, isupport: str) -> Peer:
    """Let somebody in."""
    await peer.welcome(isupport)
    return peer
