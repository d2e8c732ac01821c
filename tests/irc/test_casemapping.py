"""A network that begins to compare names in another way, as with a new server program."""

import asyncio

import pytest

from bridge.networks.irc.network.keys import PREFIX
from bridge.sdk.events import RemoteChat, RemoteMembers, RemoteMessage
from bridge.sdk.ids import RemoteChatId
from bridge.sdk.secret import Secret
from tests.irc.stage import Network, message, running, synced, user_id
from tests.rigs.scripted_irc import Peer, scripted_server

HALL = RemoteChat(id=RemoteChatId("#hall{1}"), name="#Hall[1]")
"""Bridged while `[` and `{` were the same sign."""


@pytest.mark.parametrize("mapping", ["rfc1459", "ascii"])
async def test_a_channel_keeps_its_room_and_is_spoken_in_by_its_own_name(mapping: str) -> None:
    isupport = f"NICKLEN=30 CASEMAPPING={mapping}"
    async with scripted_server() as server:
        network = Network(server.port)
        relay, host = network.relay()
        alice, _ = network.puppet("Alice")
        async with running(relay, alice), asyncio.TaskGroup() as tasks:
            ears = await welcomed(await server.accept(), isupport)
            joining = tasks.create_task(relay.join(HALL))
            assert await ears.admit("bob") == "#Hall[1]"
            await joining
            await host.wait_for(RemoteMembers)
            ears.say(":bob!b@h PRIVMSG #hall[1] :hello")
            (said,) = await host.wait_for(RemoteMessage)
            assert said.chat == HALL.id
            tasks.create_task(alice.send(message(HALL.id, "hi")))
            peer = await welcomed(await server.accept(), isupport)
            assert await peer.admit() == "#Hall[1]"
            await peer.expect("PRIVMSG #Hall[1] :hi")


@pytest.mark.parametrize("mapping", ["rfc1459", "ascii"])
async def test_who_speaks_before_the_relay_is_there_speaks_in_the_bridged_channel(
    mapping: str,
) -> None:
    isupport = f"NICKLEN=30 CASEMAPPING={mapping}"
    async with scripted_server() as server:
        network = Network(server.port)
        relay, _ = network.relay()
        relay.watch_chats([HALL])
        alice, _ = network.puppet("Alice")
        async with running(alice), asyncio.TaskGroup() as tasks:
            tasks.create_task(alice.send(message(HALL.id, "hi")))
            peer = await welcomed(await server.accept(), isupport)
            assert await peer.admit() == "#Hall[1]"
            await peer.expect("PRIVMSG #Hall[1] :hi")


@pytest.mark.parametrize("mapping", ["rfc1459", "ascii"])
async def test_a_channel_is_joined_with_its_own_key_alone(mapping: str) -> None:
    isupport = f"NICKLEN=30 CASEMAPPING={mapping}"
    other = RemoteChat(id=RemoteChatId("#lobby{1}"), name="#Lobby{1}")
    async with scripted_server() as server:
        kept = {PREFIX + HALL.id: Secret("sesame"), PREFIX + "#lobby[1]": Secret("wrong")}
        relay, _ = Network(server.port).relay(kept)
        relay.watch_chats([HALL, RemoteChat(id=RemoteChatId("#lobby[1]"), name="#Lobby[1]")])
        async with running(relay), asyncio.TaskGroup() as tasks:
            ears = await welcomed(await server.accept(), isupport)
            joining = tasks.create_task(relay.join(HALL))
            await ears.expect("JOIN #Hall[1] sesame")
            ears.say(":{nick}!t@h JOIN #Hall[1]", ":irc.test 366 {nick} #Hall[1] :End")
            await joining
            if mapping == "ascii":
                joining = tasks.create_task(relay.join(other))
                assert (await ears.expect("JOIN #Lobby{1}")).split()[2:] == []
                ears.say(":{nick}!t@h JOIN #Lobby{1}", ":irc.test 366 {nick} #Lobby{1} :End")
                await joining


async def test_a_name_that_was_not_known_is_used_once_it_is() -> None:
    isupport = "NICKLEN=30 CASEMAPPING=ascii"
    async with scripted_server() as server:
        network = Network(server.port)
        relay, _ = network.relay()
        alice, _ = network.puppet("Alice")
        async with running(alice), asyncio.TaskGroup() as tasks:
            said = tasks.create_task(alice.send(message(HALL.id, "hi")))
            peer = await welcomed(await server.accept(), isupport)
            assert await peer.admit() == HALL.id
            await said
            relay.watch_chats([HALL])
            tasks.create_task(alice.send(message(HALL.id, "hello")))
            assert await peer.admit() == "#Hall[1]"
            await peer.expect("PRIVMSG #Hall[1] :hello")


async def test_people_are_seen_where_they_are_and_a_person_is_told_by_their_own_nick() -> None:
    isupport = "NICKLEN=30 CASEMAPPING=ascii"
    async with scripted_server() as server:
        network = Network(server.port)
        relay, host = network.relay()
        alice, _ = network.puppet("Alice")
        alice.watch_chats([RemoteChat(id=RemoteChatId("bob{m}"), name="Bob[m]")])
        async with running(relay, alice), asyncio.TaskGroup() as tasks:
            ears = await welcomed(await server.accept(), isupport)
            joining = tasks.create_task(relay.join(HALL))
            await ears.admit("bob")
            await joining
            await host.wait_for(RemoteMembers)
            said = tasks.create_task(alice.send(message(HALL.id, "hi")))
            peer = await welcomed(await server.accept(), isupport)
            await peer.admit()
            await said
            ears.say(":Alice!Alice@client.test JOIN #Hall[1]")
            await synced(ears)
            assert relay.seen(HALL.id) == {user_id("Alice")}
            tasks.create_task(alice.send(message("bob{m}", "psst")))
            await peer.expect("PRIVMSG Bob[m] :psst")


async def welcomed(peer: Peer, isupport: str) -> Peer:
    """Let somebody in."""
    await peer.welcome(isupport)
    return peer
