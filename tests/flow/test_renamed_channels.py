"""A channel that gets another name: the room hears of it once, and is bridged to that."""

import asyncio
from pathlib import Path

from bridge.demo.matrix_user import MatrixUser
from bridge.settings.records import DatabaseSettings
from tests.flow.chats import order
from tests.flow.rooms import bridge
from tests.rigs.scripted_irc import Peer, scripted_server
from tests.rigs.trestle import Town, make_modules, running

WHY = "#door is called #gate now: to have that here, say !trestle unbridge, then !trestle bridge"


async def synced(peer: Peer) -> None:
    """Wait until the relay has read all that was said to it."""
    peer.say("PING :sync")
    await peer.expect("PONG sync")


def told(person: MatrixUser, room: str) -> int:
    """How often the room heard that the relay is out."""
    out = "I am out of #door on near"
    return sum(out in str(one["content"].get("body")) for one in person.heard(room))


async def test_a_room_hears_once_how_its_channel_is_called_now_and_is_bridged_to_that(
    town: Town, folder: Path, database_settings: DatabaseSettings
) -> None:
    async with scripted_server() as server, asyncio.TaskGroup() as tasks:
        alice = await town.person("alice")
        servers = [{"host": "127.0.0.1", "port": server.port, "tls": False}]
        known = {"servers": servers, "own_network": True, "mode": "relay", "rejoin_seconds": 0.1}
        modules = make_modules({"near": ("irc", known)})
        settings = town.settings_for(folder, database_settings, modules=modules)
        async with running(settings):
            bridging = tasks.create_task(bridge(alice, "#door"))
            peer = await server.accept()
            await peer.welcome()
            assert await peer.admit() == "#door"
            room = await bridging
            peer.say(":{nick}!t@h PART #door :Channel renamed: wider", ":{nick}!t@h JOIN #gate")
            # And nothing of coming back to the old name, which is refused.
            said = await alice.wait_for_text(room, f"does not come here: {WHY} near #gate.")
            assert said["content"]["body"].endswith(" near #gate.")
            await alice.say(room, "hello?")
            await alice.wait_for_text(room, f"Your message did not reach #door on near: {WHY}")
            await alice.say(room, "!trestle bridge near #door")
            await alice.wait_for_text(room, f"I could not do that: {WHY}")
            await order(alice, room, "!trestle status", WHY)
        async with running(settings):
            peer = await server.accept()
            await peer.welcome()
            await order(alice, room, "!trestle status", WHY)
            await synced(peer)
            assert not [one for one in peer.heard if one.startswith("JOIN")]
            assert told(alice, room) == 1
            await alice.say(room, "!trestle unbridge")
            await alice.wait_for_text(room, "is no longer bridged here")
            await alice.say(room, "!trestle bridge near #gate")
            assert await peer.admit() == "#gate"
            peer.say(":bob!b@h PRIVMSG #gate :hear me")
            await alice.wait_for_text(room, "hear me")
