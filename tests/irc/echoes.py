"""A puppet whose server says back what it said, and what became of it."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from bridge.networks.irc.client.client import IrcClient
from bridge.sdk.errors import DeliveryError
from bridge.sdk.events import Receipt
from tests.irc.stage import Network, Run, chat, message, running
from tests.rigs.scripted_irc import Peer, scripted_server

ECHO = "echo-message message-tags batch"
LABELS = f"{ECHO} labeled-response"
ME = ":Alice!alice@client.test"


async def outcome(client: IrcClient, channel: str, text: str) -> Receipt | DeliveryError:
    """What became of something that is said."""
    try:
        return await client.send(message(channel, text))
    except DeliveryError as error:
        return error


@asynccontextmanager
async def entered(
    capabilities: str, *, channels: tuple[str, ...] = ("#room",), **settings: object
) -> AsyncIterator[tuple[IrcClient, Peer, Run, Network]]:
    """Have a puppet in its channels, where it says what the test lets it."""
    async with scripted_server() as server:
        network = Network(server.port, **settings)
        alice, _ = network.puppet("Alice")
        async with running(alice) as run, asyncio.TaskGroup() as tasks:
            joining = [tasks.create_task(alice.join(chat(name))) for name in channels]
            peer = await server.accept()
            await peer.welcome(capabilities=capabilities)
            admitted: list[str] = []
            while len(admitted) < len(channels):
                admitted += (await peer.admit()).split(",")
            await asyncio.wait(joining)
            yield alice, peer, run, network


async def labelled(peer: Peer, text: str) -> str:
    """Wait for a line with a label, and return the label."""
    while not (found := re.match(r"@label=(\S+) (.*)", await peer.read())):
        pass
    assert found[2] == text
    return found[1]
