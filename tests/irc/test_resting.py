"""How long the relay rests after a kick, and who brings it back early."""

import asyncio

import pytest

from bridge.sdk.errors import TemporaryFailure
from bridge.sdk.events import RemoteMembers, RemoteShutOut
from tests.irc.stage import Network, a_listener, chat, list_names, listening, running, synced
from tests.rigs.scripted_irc import Peer, scripted_server


async def invite(peer: Peer, nick: str) -> int:
    """Invite the relay; return how often it has knocked by now."""
    peer.say(f":{nick}!x@h INVITE {{nick}} #room")
    await synced(peer)
    return sum(one == "JOIN #room" for one in peer.heard)


async def invites(peer: Peer, nick: str, names: str) -> None:
    """Invite the relay while it rests, by somebody whom the server is asked about."""
    peer.say(f":{nick}!x@h INVITE {{nick}} #room")
    await peer.expect("NAMES #room")
    list_names(peer, names, **{nick: "x@h"})


async def test_an_operators_invitation_alone_ends_the_rest_after_a_kick() -> None:
    async with a_listener("@op bob", rejoin_seconds=3600) as (_, _, peer, _):
        peer.say(":op!o@h KICK #room {nick} :out")
        # Whoever ran it when the relay was there need not any more: the server is asked.
        for nick in ("bob", "op"):
            await invites(peer, nick, "@eve op bob")
            await peer.expect(f"NOTICE {nick} :That cannot be done: the server does not say that")
        assert sum(one == "JOIN #room" for one in peer.heard) == 1
        await invites(peer, "eve", "@eve op bob")
        assert await peer.admit("@op bob") == "#room"


async def test_whoever_invites_again_and_again_has_the_relay_knock_once_in_a_while() -> None:
    pause = 1.0
    async with scripted_server() as server:
        network = Network(server.port, rejoin_seconds=pause)
        async with listening(server, network, "@op bob") as (_, host, peer, _):
            peer.say(":op!o@h KICK #room {nick} :out")
            await invites(peer, "op", "@op bob")
            await peer.expect("JOIN #room")
            asked = asyncio.get_running_loop().time()
            peer.say(":irc.test 474 {nick} #room :Cannot join channel (+b)")
            await host.wait_until(lambda one: any(it.reason for it in one.of(RemoteShutOut)))
            peer.say(*[f":{nick}!x@h INVITE {{nick}} #room" for nick in ("bob", "op", "bob")])
            assert await peer.admit() == "#room"
            assert asyncio.get_running_loop().time() - asked > pause * 0.9
            await host.wait_for(RemoteMembers, 2)
            assert await invite(peer, "bob") == 3


async def test_an_operators_next_invitation_is_put_off_for_a_while_and_not_for_the_rest() -> None:
    pause = 0.5
    async with scripted_server() as server:
        network = Network(server.port, rejoin_seconds=pause)
        async with listening(server, network) as (_, host, peer, _):
            peer.say(":op!o@h KICK #room {nick} :out")
            await invites(peer, "op", "@op")
            await peer.expect("JOIN #room")
            asked = asyncio.get_running_loop().time()
            peer.say(":{nick}!t@h JOIN #room")
            # So many that the rest takes an hour.
            peer.say(*[":op!o@h KICK #room {nick} :out"] * 20)
            await synced(peer)
            await invites(peer, "op", "@op")
            assert await peer.admit() == "#room"
            assert asyncio.get_running_loop().time() - asked > pause * 0.9
            await host.wait_for(RemoteMembers, 2)


async def test_the_rest_after_a_kick_goes_on_over_another_connection() -> None:
    async with scripted_server() as server, asyncio.TaskGroup() as tasks:
        network = Network(server.port, rejoin_seconds=3600)
        async with listening(server, network) as (relay, _, peer, run):
            joining = tasks.create_task(relay.join(chat("#other")))
            await peer.admit()
            await joining
            peer.say(":op!o@h KICK #room {nick} :out")
            await synced(peer)
            peer.reset()
            await run.wait_for_error()
            async with running(relay):
                again = await server.accept()
                await again.welcome()
                assert await again.admit() == "#other"
                await invites(again, "op", "@op")
                assert await again.admit() == "#room"


@pytest.mark.parametrize("at_once", [False, True])
async def test_that_the_relay_is_out_is_told_before_that_it_is_in_or_not_at_all(
    at_once: bool,
) -> None:
    async with scripted_server() as server:
        network = Network(server.port, rejoin_seconds=0.01)
        async with listening(server, network) as (_, host, peer, _):
            peer.say(":op!o@h KICK #room {nick} :out")
            await peer.expect("JOIN #room")
            host.failures = [TemporaryFailure("away", retry_after=0.05)]
            refusal = b":irc.test 474 * #room :Cannot join channel (+b)\r\n"
            let_in = f":{peer.nick}!t@h JOIN #room\r\n".encode()
            if at_once:
                peer.say_bytes(refusal + let_in)
            else:
                peer.say_bytes(refusal)
                await synced(peer)
                peer.say_bytes(let_in)
            peer.say(":bob!b@h PRIVMSG #room :hi")
            await host.wait_until(lambda one: "bob: hi" in one.texts and not one.failures)
            told = [bool(one.reason) for one in host.of(RemoteShutOut)]
            assert told == [False, True, False] or (at_once and told == [False, False])
