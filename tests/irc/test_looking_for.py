"""Whether somebody is on the network, asked before a chat with them is opened."""

import asyncio
from typing import Any

import pytest

from bridge.sdk.errors import DeliveryError
from bridge.sdk.events import RemoteUser
from bridge.sdk.ids import RemoteUserId
from tests.irc.questions import pong, settled
from tests.irc.stage import Network, listening, running
from tests.rigs.inspircd import run_inspircd
from tests.rigs.irc_user import irc_user
from tests.rigs.ngircd import run_ngircd
from tests.rigs.scripted_irc import scripted_server


def user(nick: str) -> RemoteUser:
    return RemoteUser(id=RemoteUserId(nick.lower()), name=nick)


@pytest.mark.parametrize("run_server", [run_ngircd, run_inspircd])
async def test_servers_say_who_is_there(run_server: Any) -> None:
    async with run_server() as server, irc_user(server.port, "Carl"):
        network = Network(server.port)
        relay, host = network.relay()
        assert await network.connector.is_there(user("carl")) is None
        async with running(relay):
            await host.wait_until_connected()
            assert await network.connector.is_there(user("CARL")) is True
            assert await network.connector.is_there(user("nobody")) is False
            # Services need not be people.
            assert await network.connector.is_there(user("NickServ")) is None


async def test_where_a_server_does_not_say_it_nobody_knows() -> None:
    async with scripted_server() as server:
        network = Network(server.port)
        async with listening(server, network) as (_, _, peer, _), asyncio.TaskGroup() as tasks:
            await settled(peer)
            told = tasks.create_task(network.connector.is_there(user("carl")))
            await peer.expect("ISON carl")
            await pong(peer)
            assert await told is None
            refused = tasks.create_task(trouble(network))
            await peer.expect("ISON carl")
            peer.say(":irc.test 421 {nick} ISON :Unknown command")
            await pong(peer)
            assert "does not know that" in await refused


async def trouble(network: Network) -> str:
    with pytest.raises(DeliveryError) as error:
        await network.connector.is_there(user("carl"))
    return str(error.value)
