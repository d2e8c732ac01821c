"""Much at once: a split, a restart, a flood, a ban. Nothing is lost that the server accepted, and
nothing of ours makes it worse."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack

import pytest

from bridge.core.host.supervisor import Supervisor
from bridge.networks.irc.client.client import IrcClient
from bridge.sdk.errors import LoginRequired, PermanentFailure, TemporaryFailure
from bridge.sdk.events import RemoteJoin, RemoteLeave, RemoteMembers, RemoteMessage
from bridge.sdk.login import LoginState
from tests.irc.stage import Network, a_listener, chat, message, running, synced
from tests.rigs.breaking_wire import BreakingWire, breaking_wire
from tests.rigs.inspircd import run_inspircd
from tests.rigs.irc_user import IrcUser, irc_user
from tests.rigs.ircd import OPERATOR, OPERATOR_PASSWORD, IrcServer
from tests.rigs.ngircd import run_ngircd
from tests.rigs.scale import chance, scaled

SPLIT = 300
LINES = 2000


async def test_a_split_asks_nothing_of_the_server_and_loses_nobody() -> None:
    """Though the database is away meanwhile."""
    people = [f"p{number}" for number in range(SPLIT)]
    async with a_listener(" ".join(people)) as (_, host, peer, _):
        await synced(peer)
        before = len(peer.heard)
        host.failures = [TemporaryFailure("away", retry_after=0.05)] * 5
        peer.say(*(f":{one}!u@h QUIT :a.test b.test" for one in people))
        peer.say(*(f":{one}!u@h JOIN #room" for one in people), ":p0!u@h PRIVMSG #room :back")
        await synced(peer)
        await host.wait_for(RemoteMessage)
        # One answer to the server's question, and not one question of ours for each who came.
        assert peer.heard[before:] == ["PONG sync"]
        # Who is back in time was never away for the room.
        assert not host.of(RemoteLeave)
        assert not host.of(RemoteJoin)
    assert host.texts == ["p0: back"]


async def test_a_split_costs_a_relay_of_hundreds_of_channels_no_time() -> None:
    people = [f"p{number}" for number in range(SPLIT)]
    async with a_listener(" ".join(people)) as (relay, _, peer, _), asyncio.TaskGroup() as tasks:
        left = {f"#c{number}" for number in range(400)}
        for name in sorted(left):
            tasks.create_task(relay.join(chat(name)))
        while left:
            left -= set((await peer.admit(" ".join(people[:20]))).split(","))
        await synced(peer)
        began = time.process_time()
        peer.say(*(f":{one}!u@h QUIT :a.test b.test" for one in people))
        await synced(peer)
    # Once it was the square of the channels for each: over three seconds.
    assert time.process_time() - began < 1.0


async def do(once: Callable[[], Awaitable[object]]) -> None:
    """Do it as the core does: what waits for a connection is done when there is one."""
    while True:
        try:
            await once()
        except TemporaryFailure:
            await asyncio.sleep(0.05)
        else:
            return


async def say(puppet: IrcClient, text: str) -> None:
    """Say it in the channel."""
    await do(lambda: puppet.send(message("#room", text)))


async def enter(puppet: IrcClient) -> None:
    """Go into the channel."""
    await do(lambda: puppet.join(chat("#room")))


async def heard_all(user: IrcUser, texts: list[str]) -> list[str]:
    """The next messages of the channel, as many as were said."""
    found: list[str] = []
    async with asyncio.timeout(240):
        while len(found) < len(texts):
            line = await user.read()
            if " PRIVMSG #room :" in line:
                found.append(line.partition(" PRIVMSG #room :")[2])
    return found


def most_within(times: list[float], seconds: float) -> int:
    return max(sum(at <= other < at + seconds for other in times) for at in times)


async def speak(clients: list[IrcClient], port: int, word: str) -> None:
    """Have each say something once, and somebody on the server hear all of it, once."""
    wanted = [f"{word} {number}" for number in range(len(clients))]
    async with irc_user(port, "watcher") as watcher:
        await watcher.join("#room")
        async with asyncio.TaskGroup() as tasks:
            for client, text in zip(clients, wanted, strict=True):
                tasks.create_task(say(client, text))
            heard = await heard_all(watcher, wanted)
        await watcher.sync()
    assert sorted(heard) == sorted(wanted)
    # And no more came until the server had done all that it was asked.
    assert sum(" PRIVMSG #room :" in line for line in watcher.heard) == len(wanted)


async def test_after_a_servers_restart_its_people_come_back_evenly_and_go_on() -> None:
    number, rate, at_once = max(12, scaled(200)), 40.0, 3
    wire: BreakingWire
    async with AsyncExitStack() as stack, AsyncExitStack() as old:
        first = await old.enter_async_context(run_ngircd())
        wire = await stack.enter_async_context(breaking_wire(first.port, chance("restart")))
        network = Network(wire.port, connects_at_once=at_once, connect_rate=rate)
        clients = [network.puppet(f"User{one}")[0] for one in range(number)]
        supervisors = [
            Supervisor(client, "puppet", lambda state, reason: None, first_delay=0.1)
            for client in clients
        ]
        async with asyncio.TaskGroup() as group:
            for client, supervisor in zip(clients, supervisors, strict=True):
                supervisor.start(group)
                group.create_task(enter(client))
            await speak(clients, first.port, "before")
            wire.cut()
            await old.aclose()
            second = await stack.enter_async_context(run_ngircd())
            wire.arrivals.clear()
            wire.target = second.port
            wire.mend()
            await speak(clients, second.port, "after")
            # Uneven, but not more than twice as fast as is allowed.
            assert most_within(wire.arrivals, 0.5) <= at_once + 2 * rate * 0.5
            for supervisor in supervisors:
                await supervisor.stop()


async def test_a_flood_in_a_channel_is_stored_whole_and_in_order(
    server: IrcServer, channel: str
) -> None:
    relay, host = Network(server.port, nick="floodgate").relay()
    async with running(relay), irc_user(server.port, "flooder") as flooder:
        await relay.join(chat(channel))
        await host.wait_for(RemoteMembers)
        await flooder.join(channel)
        host.failures = [TemporaryFailure("away", retry_after=0.2)] * 3
        wanted = [f"line {number}" for number in range(LINES)]
        for at in range(0, LINES, 100):
            flooder.say(*(f"PRIVMSG {channel} :{text}" for text in wanted[at : at + 100]))
            await flooder.sync()
        await host.wait_for(RemoteMessage, LINES)
        await flooder.wait_for_answer_of("floodgate")
    assert host.texts == [f"flooder: {text}" for text in wanted]
    assert LoginState.RECONNECTING not in {state for state, _ in host.states}


async def test_a_ban_of_one_person_is_that_persons_alone() -> None:
    async with run_inspircd() as server:
        network = Network(server.port)
        (alice, alice_host), (bob, bob_host) = network.puppet("Alice"), network.puppet("Bob")
        async with irc_user(server.port, "oper") as oper, running(bob), running(alice) as banned:
            await oper.join("#room")
            oper.say(f"OPER {OPERATOR} {OPERATOR_PASSWORD}")
            await oper.expect(" 381 ")
            await alice.send(message("#room", "hello"))
            await bob.send(message("#room", "hi", sender="Bob"))
            spoken = await oper.expect("PRIVMSG #room :hello")
            user = spoken.partition("!")[2].partition("@")[0]
            oper.say(f"KLINE {user}@* 1h :no bridges")
            error = await banned.wait_for_error()
            assert isinstance(error, LoginRequired)
            assert "no bridges" in str(error)
            # It is told at once, and no connection is tried for it.
            with pytest.raises(PermanentFailure, match="no bridges"):
                await alice.send(message("#room", "anybody?"))
            # Nor is it got round where one is tried again.
            async with running(alice) as again:
                with pytest.raises(PermanentFailure, match="no bridges"):
                    await alice.send(message("#room", "me again"))
                assert isinstance(await again.wait_for_error(), LoginRequired)
            await bob.send(message("#room", "still here", sender="Bob"))
            await oper.expect("PRIVMSG #room :still here")
            assert not any("me again" in one for one in oper.heard)
    assert LoginState.RECONNECTING not in {state for state, _ in bob_host.states}
    assert alice_host.states[-1][0] is not LoginState.CONNECTED
