"""What real servers say of a message that they have read, or that they refuse."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest
import pytest_asyncio

from bridge.networks.irc.connections.connection import Connection
from bridge.networks.irc.connections.dial import Rotation, Way, connect
from bridge.networks.irc.protocol.handshake import Identity
from bridge.networks.irc.settings import IrcSettings
from bridge.networks.irc.wire import line
from bridge.sdk.errors import PermanentFailure
from bridge.sdk.events import RemoteMessage
from tests.irc.stage import NOW, Network, chat, message, outcome, running
from tests.rigs.inspircd import run_inspircd
from tests.rigs.irc_user import irc_user
from tests.rigs.ircd import OPERATOR, OPERATOR_PASSWORD, IrcServer
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
            taking = tasks.create_task(outcome(alice, "#open", "to the open one"))
            refusing = tasks.create_task(outcome(alice, "#shut", "no"))
        await chief.expect("to the open one")
    assert await taking is None
    refused = await refusing
    assert isinstance(refused, PermanentFailure)
    assert "#shut did not take it: it does not let this user speak" in str(refused)


async def test_of_messages_in_one_channel_the_refused_line_is_told(server: IrcServer) -> None:
    alice, _ = Network(server.port).puppet("Alice_O")
    async with irc_user(server.port, "strict") as strict, running(alice):
        await strict.join("#strict")
        await alice.send(message("#strict", "hello"))
        strict.say("MODE #strict +m", "PRIVMSG Alice_O :\x01PING 1\x01")
        await strict.expect("NOTICE", "PING 1")
        refused = await outcome(alice, "#strict", "no")
        strict.say("MODE #strict -m", "PRIVMSG Alice_O :\x01PING 2\x01")
        await strict.expect("NOTICE", "PING 2")
        assert await outcome(alice, "#strict", "yes") is None
        await strict.expect("yes")
    assert isinstance(refused, PermanentFailure)


async def test_a_receipt_has_the_networks_ids_and_the_time_of_writing() -> None:
    async with run_inspircd() as server:
        network = Network(server.port, nick="ids", mode="relay")
        relay, host = network.relay()
        async with irc_user(server.port, "listener") as listener, running(relay):
            await host.wait_until_connected()
            await relay.join(chat("#ids"))
            listener.say("CAP REQ message-tags")
            await listener.join("#ids")
            receipt = await relay.send(message("#ids", "one\ntwo", relayed=True))
            heard = [await listener.expect("PRIVMSG", text) for text in ("one", "two")]
            assert receipt.sent_at == NOW
            assert len(receipt.remote_ids) == 2
            for one, remote_id in zip(heard, receipt.remote_ids, strict=True):
                assert f"msgid={remote_id}" in one
            assert network.connector.capabilities(chat("#ids").id).acknowledges
            listener.say("PRIVMSG #ids :mine")
            await host.wait_for(RemoteMessage)
        assert host.texts == ["listener: mine"]


async def test_a_message_that_a_server_swallows_is_told_to_the_sender() -> None:
    async with run_inspircd() as server:
        alice, _ = Network(server.port).puppet("Alice_S")
        async with irc_user(server.port, "shunner") as shunner, running(alice):
            shunner.say(f"OPER {OPERATOR} {OPERATOR_PASSWORD}")
            await shunner.expect(" 381 ")
            await shunner.join("#quiet")
            await alice.send(message("#quiet", "heard"))
            shunner.say("SHUN Alice_S!*@* 60 :hush")
            await shunner.sync()
            error = await outcome(alice, "#quiet", "unheard")
            await shunner.sync()
        assert isinstance(error, PermanentFailure)
        assert "has read it and did not pass it on" in str(error)
        assert not any("unheard" in one for one in shunner.heard)


async def test_a_line_that_a_server_cuts_is_noticed() -> None:
    async with run_inspircd() as server:
        settings = IrcSettings.model_validate(
            {"servers": [{"host": "127.0.0.1", "port": server.port, "tls": False}]}
        )
        identity = Identity(nicks=iter(["cutter"]), username="cutter", realname="cutter")
        way, rotation = Way(flood=(10, 10)), Rotation(settings.servers)
        async with AsyncExitStack() as stack, asyncio.TaskGroup() as tasks:
            connection = await connect(stack, settings, identity, rotation, way)
            reading = tasks.create_task(read_all(connection))
            await connection.say(line("JOIN", "#cut"))
            texts = ["short", "x" * 600, "é" * 300, "x" + "é" * 300]
            lines = [line("PRIVMSG", "#cut", text, limit=700) for text in texts]
            delivered = await connection.deliver("#cut", lines, lambda: NOW)
            reading.cancel()
        assert delivered.cut == 3


async def read_all(connection: Connection) -> None:
    while True:
        await connection.read()
