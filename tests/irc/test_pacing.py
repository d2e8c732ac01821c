"""A paste on a server with flood protection: whole, in order, and no slower than need be."""

import asyncio

import pytest

from bridge.networks.irc.client.client import IrcClient
from tests.irc.stage import Network, message, running
from tests.rigs.inspircd import run_inspircd
from tests.rigs.irc_user import IrcUser, irc_user
from tests.rigs.ircd import IrcServer
from tests.rigs.ngircd import run_ngircd

PASTE = [f"line {number} of the paste" for number in range(20)]
AT_ONCE, RATE = 6, 4.0
LEAST_SECONDS = (len(PASTE) - AT_ONCE) / RATE
"""What a network of that pace allows a new connection at best."""


async def paste(client: IrcClient, listener: IrcUser) -> list[tuple[str, float]]:
    """Say it as one message; give what is heard of it, and when."""
    loop = asyncio.get_running_loop()
    heard: list[tuple[str, float]] = []
    async with asyncio.TaskGroup() as tasks, asyncio.timeout(120):
        sending = tasks.create_task(client.send(message("#room", "\n".join(PASTE))))
        while len(heard) < len(PASTE):
            line = await listener.read()
            if ":Alice" in line and " PRIVMSG #room :" in line:
                heard.append((line.partition(" PRIVMSG #room :")[2], loop.time()))
        await sending
    return heard


async def see_who_pastes_at_once_thrown_out(server: IrcServer) -> None:
    async with irc_user(server.port, "hasty") as hasty:
        await hasty.join("#other")
        hasty.say(*(f"PRIVMSG #other :{text}" for text in PASTE))
        with pytest.raises(ConnectionError):
            await hasty.expect("never said")


async def test_a_paste_takes_the_least_time_that_the_network_allows() -> None:
    async with run_inspircd(pace=(2 * AT_ONCE, RATE)) as server:
        await see_who_pastes_at_once_thrown_out(server)
        alice, _ = Network(server.port, flood_burst=AT_ONCE, flood_rate=RATE).puppet("Alice")
        async with irc_user(server.port, "listener") as listener, running(alice):
            await listener.join("#room")
            await alice.send(message("#room", "first"))
            await listener.expect("PRIVMSG #room :first")
            # A busy machine may hold up one; not three times in a row.
            assert (
                await goes_at_that_pace(alice, listener)
                or await goes_at_that_pace(alice, listener)
                or await goes_at_that_pace(alice, listener)
            )


async def goes_at_that_pace(client: IrcClient, listener: IrcUser) -> bool:
    """Paste; whether it comes spaced and takes no longer. Never may it take less."""
    await asyncio.sleep(AT_ONCE / RATE)  # A burst may be said again after so long.
    began = asyncio.get_running_loop().time()
    heard = await paste(client, listener)
    assert [text for text, _ in heard] == PASTE
    end = heard[-1][1]
    assert end - began >= LEAST_SECONDS * 0.9
    # Spaced: what follows the burst comes a line at a time.
    is_spaced = end - heard[AT_ONCE][1] >= (len(PASTE) - AT_ONCE - 2) / RATE
    return is_spaced and end - began <= LEAST_SECONDS + 6


async def test_a_server_that_makes_us_wait_gets_it_whole_and_in_order_too() -> None:
    async with run_ngircd(pace=(0, 0)) as server:
        alice, _ = Network(server.port, flood_burst=100, flood_rate=1000).puppet("Alice")
        async with irc_user(server.port, "listener") as listener, running(alice):
            await listener.join("#room")
            heard = await paste(alice, listener)
    assert [text for text, _ in heard] == PASTE
