"""A stranger who has the nick of one of us, as a netsplit or a dead connection lets them."""

import pytest

from bridge.sdk.events import (
    Rank,
    RemoteJoin,
    RemoteLeave,
    RemoteMembers,
    RemoteMessage,
    RemoteRanks,
    RemoteRemoval,
    Removal,
)
from bridge.sdk.ids import RemoteUserId
from tests.irc.stage import Host, Network, chat, listening, speaking, synced, user_id
from tests.rigs.scripted_irc import Peer, scripted_server

ALICE = user_id("Alice")


async def told(host: Host, peer: Peer) -> list[tuple[dict[RemoteUserId, Rank], dict[str, Rank]]]:
    """Of which ranks the room is told, those of people of the network and our own."""
    await synced(peer)
    return [(dict(one.ranks), dict(one.own)) for one in host.of(RemoteRanks)]


async def test_a_stranger_who_comes_with_the_nick_of_one_of_us_is_none_of_us() -> None:
    async with scripted_server() as server:
        network = Network(server.port)
        async with (
            speaking(server, network),
            listening(server, network, "@op") as (relay, host, peer, _),
        ):
            peer.say(":alice!~x@evil.test JOIN #room", ":alice!~x@evil.test PRIVMSG #room :hello")
            peer.say(":op!o@h MODE #room +v alice")
            await host.wait_for(RemoteRanks, 2)
            assert await told(host, peer) == [
                ({"op": Rank.MODERATOR}, {}), ({"alice": Rank.VOICED}, {}),
            ]  # fmt: skip
            assert host.texts == ["alice: hello"]
            # Nor is our own put out of the room for it, and the ghost stands for the stranger.
            await relay.remove(chat("#room"), RemoteUserId("alice"), Removal.BAN, "x")
            await peer.expect("MODE #room +b *!~x@evil.test")
            peer.say(":op!o@h KICK #room alice :out")
            await host.wait_for(RemoteLeave)
            await synced(peer)
            assert [one.user.id for one in host.of(RemoteJoin)] == ["alice"]
            assert host.of(RemoteRemoval) == []


@pytest.mark.parametrize("is_back", [False, True])
async def test_whom_a_list_of_names_showed_as_one_of_us_is_known_by_what_they_say(
    is_back: bool,
) -> None:
    async with scripted_server() as server:
        network = Network(server.port)
        async with (
            speaking(server, network) as (_, _, alices, _),
            listening(server, network, "@op Alice") as (_, host, peer, _),
        ):
            assert [one.id for one in host.of(RemoteMembers)[0].users] == ["op"]
            if is_back:  # By another nick, which the relay need not see.
                alices.say(":Alice!Alice@client.test NICK Alice_")
                await synced(alices)
            peer.say(":Alice!Alice@client.test PRIVMSG #room :mine")
            peer.say(":Alice!~x@evil.test PRIVMSG #room :hello")
            await host.wait_for(RemoteMessage)
            peer.say(":op!o@h MODE #room +v Alice")
            await host.wait_for(RemoteRanks, 2)
            assert (await told(host, peer))[1] == ({"alice": Rank.VOICED}, {})
            peer.say(":Alice!~x@evil.test PART #room")
            (left,) = await host.wait_for(RemoteLeave)
            assert (left.user.id, host.texts) == ("alice", ["Alice: hello"])


@pytest.mark.parametrize("source", ["Alice!~x@CLIENT.test", "Alice!Alice@masked.test", "Alice"])
async def test_who_may_be_ours_by_user_or_host_is_ours(source: str) -> None:
    async with scripted_server() as server:
        network = Network(server.port)
        async with (
            speaking(server, network),
            listening(server, network, "@op") as (_, host, peer, _),
        ):
            peer.say(f":{source} JOIN #room", f":{source} PRIVMSG #room :mine")
            peer.say(":op!o@h MODE #room +v Alice")
            await host.wait_for(RemoteRanks, 2)
            assert (await told(host, peer))[1] == ({}, {ALICE: Rank.VOICED})
            assert host.texts == []
