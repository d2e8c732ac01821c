"""Connections come one after another, whatever number is wanted at once."""

import asyncio

import pytest

from bridge.networks.irc.connections.dial import Rotation
from bridge.networks.irc.connections.gate import Gate, Urgency
from bridge.networks.irc.network.crowd import Crowd
from bridge.networks.irc.settings import ServerSettings
from tests.irc.stage import Network, running
from tests.rigs.scripted_irc import scripted_server


async def test_no_more_than_so_many_connect_at_once_and_at_the_rate() -> None:
    gate = Gate(3, 100, jitter=lambda: 0.5)
    loop = asyncio.get_running_loop()
    inside, most, times = 0, 0, []

    async def one() -> None:
        nonlocal inside, most
        async with gate.passage(Urgency.RETURNING):
            times.append(loop.time())
            inside += 1
            most = max(most, inside)
            await asyncio.sleep(0.01)
            inside -= 1

    began = loop.time()
    async with asyncio.TaskGroup() as tasks:
        for _ in range(30):
            tasks.create_task(one())
    assert len(times) == 30
    assert most == 3
    # Three at once, the others a hundred a second.
    assert loop.time() - began >= 0.25


async def test_who_is_waited_for_goes_first() -> None:
    gate = Gate(1, 10_000)
    order: list[str] = []

    async def one(name: str, urgency: Urgency) -> None:
        async with gate.passage(urgency):
            order.append(name)

    gate.hold(0.02)
    async with asyncio.TaskGroup() as tasks:
        for name, urgency in (
            ("b1", Urgency.RETURNING), ("b2", Urgency.RETURNING),
            ("speaker", Urgency.SPEAKING), ("relay", Urgency.RELAY),
        ):  # fmt: skip
            tasks.create_task(one(name, urgency))
    assert order == ["relay", "speaker", "b1", "b2"]


async def test_one_that_waits_no_more_holds_up_nobody() -> None:
    gate = Gate(1, 10_000)

    async def pass_through(urgency: Urgency) -> None:
        async with gate.passage(urgency):
            pass

    async with asyncio.timeout(5), asyncio.TaskGroup() as tasks, gate.passage(Urgency.RELAY):
        waiting = tasks.create_task(pass_through(Urgency.SPEAKING))
        tasks.create_task(pass_through(Urgency.RETURNING))
        await asyncio.sleep(0)
        waiting.cancel()


async def test_after_a_throttle_nobody_goes_for_a_while() -> None:
    gate = Gate(5, 10_000)
    gate.hold(0.1)
    loop = asyncio.get_running_loop()
    began = loop.time()
    async with gate.passage(Urgency.RELAY):
        assert loop.time() - began >= 0.1


def servers(*names: str) -> list[ServerSettings]:
    return [ServerSettings(host=name) for name in names]


def hosts(rotation: Rotation) -> list[str]:
    return [one.host for one in rotation.in_turn()]


def test_after_a_failure_the_next_server_is_first_and_stays_so() -> None:
    a, b, c = servers("a", "b", "c")
    rotation = Rotation([a, b, c])
    assert hosts(rotation) == ["a", "b", "c"]
    rotation.failed(a)
    rotation.failed(a)  # The second connection that failed with it.
    assert hosts(rotation) == ["b", "c", "a"]
    rotation.failed(c)
    assert hosts(rotation) == ["b", "c", "a"]
    rotation.failed(b)
    rotation.failed(c)
    assert hosts(rotation) == ["a", "b", "c"]


@pytest.mark.parametrize("last", ["ERROR :Closing Link: client.test (Server shuts down)", ""])
async def test_after_one_that_does_not_let_us_in_the_next_server_is_tried(last: str) -> None:
    async with scripted_server() as first, scripted_server() as second:
        one, two = ({"host": "127.0.0.1", "port": at.port, "tls": False} for at in (first, second))
        network = Network(0, servers=[one, two])
        relay, _ = network.relay()
        async with running(relay) as run:
            peer = await first.accept()
            await peer.expect("USER")
            if last:
                peer.say(last)
            peer.close()
            await run.wait_for_error()
        relay, host = network.relay()
        async with running(relay):
            await (await second.accept()).welcome()
            await host.wait_until_connected()


@pytest.mark.parametrize("busy", [0, 1])
def test_who_was_silent_for_longest_goes_unless_something_is_on_its_way(busy: int) -> None:
    crowd, gone = Crowd(3), []

    def dismisser(login: int) -> object:
        def dismiss() -> bool:
            if login == busy:
                return False
            gone.append(login)
            return True

        return dismiss

    for login in (1, 2, 3, 1, 4, 5, 5):
        crowd.spoke(login, dismisser(login))  # type: ignore[arg-type]
    assert gone == [2, 3]
    crowd.left(4)
    crowd.spoke(6, dismisser(6))  # type: ignore[arg-type]
    assert gone == [2, 3]
