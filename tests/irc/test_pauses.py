"""How long what a server refused is left in peace, and who goes first after that."""

import asyncio

import pytest

from bridge.networks.irc.client.nickkeeper import REGAIN_SECONDS
from bridge.networks.irc.network.network import FULL_SECONDS, SLOWEST, THROTTLE_SECONDS
from bridge.networks.irc.protocol.endings import Cause, ClosedError
from tests.irc.loops import SkippingLoop, run_skipping
from tests.irc.stage import (
    Network,
    chat,
    let_in_without_mine,
    message,
    outcome,
    running,
    synced,
    until,
)
from tests.rigs.scripted_irc import ScriptedServer, scripted_server


async def refuse_relay(server: ScriptedServer, network: Network, why: str) -> None:
    """Have the relay knock, and let it not in."""
    relay, _ = network.relay()
    async with running(relay) as run:
        peer = await server.accept()
        await peer.expect("USER")
        peer.say(f"ERROR :Closing Link: client.test ({why})")
        peer.close()
        await run.wait_for_error()


@pytest.mark.parametrize(
    ("why", "seconds"),
    [("Throttled: Reconnecting too fast", THROTTLE_SECONDS), ("Too many clones", FULL_SECONDS)],
)
def test_after_a_server_found_us_too_many_or_too_fast_nobody_connects_for_a_while(
    why: str, seconds: float
) -> None:
    async def check(loop: SkippingLoop) -> None:
        async with scripted_server() as server, asyncio.TaskGroup() as tasks:
            network = Network(server.port)
            await refuse_relay(server, network, why)
            alice, host = network.puppet("Alice")
            async with running(alice):
                await host.wait_until(lambda one: bool(one.states))
                tasks.create_task(outcome(alice, "#room", "hello"))
                gate = alice.network.gate
                await until(lambda: gate._timer is not None)
                loop.skipped += seconds - 10
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(0.1):
                        await server.accept()
                # It is up to half as long again, by chance.
                loop.skipped += seconds / 2 + 10
                assert await (await server.accept()).expect("NICK Alice")

    run_skipping(check)


def test_the_pace_of_writing_goes_down_to_an_eighth_and_no_further() -> None:
    network = Network(1, flood_burst=16, flood_rate=8).connector._network
    paces = []
    for _ in range(5):
        network.heed(ClosedError(Cause.FLOODED, "Excess Flood"))
        paces.append(network.flood)
    assert paces == [(8, 4.0), (4, 2.0), (2, 1.0), (2, 1.0), (2, 1.0)]
    assert SLOWEST == 1 / 8


def test_where_the_server_watches_no_nicks_the_own_one_is_asked_for_once_a_minute() -> None:
    async def check(loop: SkippingLoop) -> None:
        async with scripted_server() as server:
            relay, host = Network(server.port, nick="mine", ping_seconds=3600).relay()
            async with running(relay):
                peer = await server.accept()
                await let_in_without_mine(peer, "NICKLEN=30")
                await host.wait_until_connected()
                asked = []
                for seconds in (REGAIN_SECONDS - 5, 6, 6, REGAIN_SECONDS):
                    loop.skipped += seconds
                    await synced(peer)
                    await synced(peer)
                    asked.append(peer.heard.count("NICK mine"))
        # When it signs in, when it is in, and then each minute.
        assert asked == [2, 3, 3, 4]

    run_skipping(check)


async def test_those_for_whom_somebody_waits_connect_before_those_that_only_come_back() -> None:
    async with scripted_server() as server, asyncio.TaskGroup() as tasks:
        network = Network(server.port, connects_at_once=1)
        (first, _), (idle, _), (waited, _) = map(network.puppet, ("First", "Idle", "Waited"))
        async with running(first, idle, waited):
            sending = [tasks.create_task(first.send(message("#room", "hi")))]
            peer = await server.accept()  # It has the turn, and keeps it until it is let in.
            joining = tasks.create_task(idle.join(chat("#room")))
            gate = network.connector._network.gate
            await until(lambda: len(gate._waiting) == 1)
            sending.append(tasks.create_task(waited.send(message("#room", "hi"))))
            await until(lambda: len(gate._waiting) == 2)
            order = []
            for _ in range(3):
                await peer.welcome()
                order.append(peer.nick)
                await peer.admit()
                if len(order) < 3:
                    peer = await server.accept()
            await asyncio.wait([*sending, joining])
    assert order == ["First", "Waited", "Idle"]
