"""What real servers say of a message that they have read, or that they refuse."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from bridge.networks.irc.client import IrcClient
from bridge.sdk.errors import DeliveryError, PermanentFailure
from tests.irc.stage import Network, message, running
from tests.rigs.inspircd import run_inspircd
from tests.rigs.irc_user import irc_user
from tests.rigs.ircd import IrcServer
from tests.rigs.miniircd import run_miniircd
from tests.rigs.ngircd import run_ngircd

RUN = {"ngircd": run_ngircd, "inspircd": run_inspircd, "miniircd": run_miniircd}


@pytest_asyncio.fixture(scope="module", loop_scope="session", params=list(RUN))
async def any_server(request: pytest.FixtureRequest) -> AsyncIterator[IrcServer]:
    async with RUN[request.param]() as started:
        yield started


async def test_channels_side_by_side_on_one_connection_all_are_answered_for(
    any_server: IrcServer,
) -> None:
    network = Network(any_server.port, nick="busy", mode="relay")
    relay, host = network.relay()
    channels = [f"#side{number}" for number in range(4)]
    texts = [f"line {number}" for number in range(25)]

    async def say_all(channel: str) -> None:
        for text in texts:
            await relay.send(message(channel, text, relayed=True))

    async with irc_user(any_server.port, "observer") as observer, running(relay):
        for channel in channels:
            await observer.join(channel)
        await host.wait_until_connected()
        async with asyncio.TaskGroup() as tasks:
            for channel in channels:
                tasks.create_task(say_all(channel))
        # All is read by the server already: so it comes before the end of this.
        observer.say("PING :over")
        await observer.expect("PONG", "over")
    for channel in channels:
        said = [one.rpartition("> ")[2] for one in observer.heard if f"PRIVMSG {channel} " in one]
        assert said == texts


async def test_of_two_messages_at_once_the_refused_one_is_told(server: IrcServer) -> None:
    alice, _ = Network(server.port).puppet("Alice_R")
    async with irc_user(server.port, "chief") as chief, running(alice):
        for channel in ("#open", "#shut"):
            await chief.join(channel)
            await alice.send(message(channel, "hello"))
        chief.say("MODE #shut +m")
        await chief.sync()
        async with asyncio.TaskGroup() as tasks:
            taking = tasks.create_task(failure_of(alice, "#open", "to the open one"))
            refusing = tasks.create_task(failure_of(alice, "#shut", "no"))
        await chief.expect("to the open one")
    assert await taking is None
    refused = await refusing
    assert isinstance(refused, PermanentFailure)
    assert "#shut did not take it: it does not let this user speak" in str(refused)


async def failure_of(client: IrcClient, channel: str, text: str) -> DeliveryError | None:
    try:
        await client.send(message(channel, text))
    except DeliveryError as error:
        return error
    return None
