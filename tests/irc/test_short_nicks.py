"""A server of a network takes shorter nicks than the one before."""

import asyncio

import pytest

from bridge.networks.irc.client.client import IrcClient
from tests.irc.stage import Host, Network, message, running
from tests.rigs.scripted_irc import Peer, ScriptedServer, scripted_server

LIMIT = 9
"""ngIRCd's, if nothing else is set."""


def client_of(network: Network, name: str) -> tuple[IrcClient, Host]:
    """The relay's client, or a person's."""
    return network.puppet(name) if name else network.relay()


async def let_in(peer: Peer) -> list[str]:
    """Let somebody in as ngIRCd does; return the nicks that it was asked for."""
    asked: list[str] = []
    taken: set[str] = {"trestle-b"}
    while not (asked and asked[-1].lower() not in taken and len(asked[-1]) <= LIMIT):
        asked.append((await peer.expect("NICK ")).removeprefix("NICK "))
        if len(asked[-1]) > LIMIT:
            peer.say(f":irc.test 432 * {asked[-1]} :Nickname too long, max. {LIMIT} characters")
        elif asked[-1].lower() in taken:
            peer.say(f":irc.test 433 * {asked[-1]} :Nickname already in use")
    peer.nick = asked[-1]
    peer.say(":irc.test CAP * LS :")
    await peer.expect("CAP END")
    peer.let_in(f"NICKLEN={LIMIT} CASEMAPPING=ascii")
    return asked


async def come_in(server: ScriptedServer, network: Network, name: str) -> list[str]:
    """Connect to the server that takes short ones; return the nicks asked for."""
    client, host = client_of(network, name)
    async with running(client), asyncio.TaskGroup() as tasks:
        speaking = tasks.create_task(client.send(message("#room", "first"))) if name else None
        asked = await let_in(await server.accept())
        await host.wait_until_connected()
        if speaking is not None:
            speaking.cancel()
    return asked


@pytest.mark.parametrize(
    ("name", "asked"),
    [
        ("", ["trestle-bridge", "trestle-bridge_", "trestle-b", "trestle-_"]),
        ("Alice_in_Wonderland", ["Alice_in_Wonderland", "Alice_in_Wonderland_", "Alice_in_"]),
    ],
)
async def test_who_had_a_long_nick_comes_in_by_a_short_one(name: str, asked: list[str]) -> None:
    async with scripted_server() as server:
        network = Network(server.port, nick="trestle-bridge")
        client, host = client_of(network, name)
        async with running(client), asyncio.TaskGroup() as tasks:
            speaking = tasks.create_task(client.send(message("#room", "first"))) if name else None
            peer = await server.accept()
            await peer.welcome()
            await host.wait_until_connected()
            if speaking is not None:
                speaking.cancel()
        assert await come_in(server, network, name) == asked
