"""Connections that break at any byte: nothing lost, order kept, what is doubled is known."""

import asyncio

from bridge.networks.irc.client.client import IrcClient
from bridge.sdk.errors import DeliveryUncertain, ModuleError, TemporaryFailure
from tests.irc.stage import Network, message
from tests.rigs.breaking_wire import breaking_wire
from tests.rigs.irc_user import IrcUser, irc_user
from tests.rigs.ngircd import run_ngircd
from tests.rigs.scale import SCALE, chance

CHANNELS = ("#first", "#second", "#third")


async def stay_connected(client: IrcClient) -> None:
    """Start the client whenever it ends, as the host does, but at once."""
    while True:
        try:
            await client.run()
        except ModuleError:
            await asyncio.sleep(0)


async def listen(user: IrcUser) -> None:
    """Read whatever comes: the server puts out who does not, in a long run."""
    while True:
        await user.read()


async def say_in_order(
    client: IrcClient, channel: str, texts: list[str], flagged: set[str]
) -> None:
    """Say one after another, as a lane does: again what failed, noting what is in doubt."""
    for text in texts:
        while True:
            try:
                await client.send(message(channel, text))
            except TemporaryFailure:
                await asyncio.sleep(0.01)
            except DeliveryUncertain:
                flagged.add(text)
            else:
                break


async def test_over_broken_connections_nothing_is_lost_and_what_is_doubled_is_known() -> None:
    texts = {one: [f"{one[1:]} {number}" for number in range(100 * SCALE)] for one in CHANNELS}
    flagged: set[str] = set()
    async with (
        run_ngircd() as server,
        breaking_wire(server.port, chance("breaks")) as wire,
        irc_user(server.port, "listener") as listener,
    ):
        alice, _ = Network(wire.port, confirm_seconds=5).puppet("Alice_B")
        for channel in CHANNELS:
            await listener.join(channel)
        wire.allowance = (1500, 6000)
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(stay_connected(alice))
            listening = tasks.create_task(listen(listener))
            async with asyncio.TaskGroup() as lanes:
                for channel in CHANNELS:
                    lanes.create_task(say_in_order(alice, channel, texts[channel], flagged))
            wire.allowance = None
            running.cancel()
            listening.cancel()
        await listener.sync()
    assert wire.breaks >= 3
    for channel in CHANNELS:
        seen = [
            line.partition(" :")[2] for line in listener.heard if f" PRIVMSG {channel} " in line
        ]
        assert list(dict.fromkeys(seen)) == texts[channel]
        assert {text for text in seen if seen.count(text) > 1} <= flagged
    # No more in doubt than one of each channel at each break.
    assert len(flagged) <= wire.breaks * len(CHANNELS)
