"""A stranger who has the nick of one of us, as a netsplit or a dead connection lets them."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from bridge.networks.irc.client.client import IrcClient
from bridge.sdk.errors import DeliveryError
from bridge.sdk.events import (
    Rank,
    RemoteJoin,
    RemoteLeave,
    RemoteMembers,
    RemoteMessage,
    RemoteRanks,
    RemoteRemoval,
    RemoteRename,
    Removal,
)
from bridge.sdk.ids import RemoteUserId
from tests.irc.stage import Host, Network, a_listener, chat, listening, speaking, synced, user_id
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


def say_mixed(peer: Peer, *texts: str) -> None:
    """Write lines in the old charset; what stands in brackets, in UTF-8."""
    for text in texts:
        parts = text.replace("]", "[").split("[")
        encoded = (part.encode(("cp1252", "utf-8")[index % 2]) for index, part in enumerate(parts))
        peer.say_bytes(b"".join(encoded) + b"\r\n")


@asynccontextmanager
async def with_an_elan() -> AsyncIterator[tuple[IrcClient, Host, Peer]]:
    """Have the relay with an operator in #room, and Alice, who is called Élan, in UTF-8."""
    async with scripted_server() as server:
        network = Network(server.port)
        async with (
            speaking(server, network) as (_, _, alices, _),
            listening(server, network, "@op Alice bob") as (relay, host, peer, _),
        ):
            alices.say(":Alice!alice@client.test NICK Élan")
            await synced(alices)
            peer.say(":Alice!alice@client.test NICK Élan")
            await synced(peer)
            yield relay, host, peer


async def test_what_is_done_to_one_who_is_called_alike_in_another_charset_is_not_ours() -> None:
    async with with_an_elan() as (relay, host, peer):
        say_mixed(peer, ":Élan!e@h JOIN #room", ":op!o@h MODE #room +v Élan")
        (joined,) = await host.wait_for(RemoteJoin)
        await host.wait_for(RemoteRanks, 2)
        assert (await told(host, peer))[1] == ({joined.user.id: Rank.VOICED}, {})
        say_mixed(peer, ":op!o@h MODE #room +vo Élan [Élan]")
        await host.wait_for(RemoteRanks, 3)
        theirs, ours = {joined.user.id: Rank.VOICED}, {ALICE: Rank.MODERATOR}
        assert (await told(host, peer))[2] == (theirs, ours)
        say_mixed(peer, ":op!o@h KICK #room Élan :tschüss")
        (left,) = await host.wait_for(RemoteLeave)
        await synced(peer)
        assert left.user.id == joined.user.id
        assert host.of(RemoteRemoval) == []
        assert relay.seen(chat("#room").id) == {ALICE}
        # Ours it is although the reason is no UTF-8.
        say_mixed(peer, ":op!o@h KICK #room [Élan] :tschüss")
        (removal,) = await host.wait_for(RemoteRemoval)
        assert (removal.user, removal.how, removal.reason) == (ALICE, Removal.KICK, "tschüss")


async def test_who_takes_or_gives_up_a_nick_that_reads_like_ours_stands_beside_ours() -> None:
    async with with_an_elan() as (relay, host, peer):
        say_mixed(peer, ":bob!b@h NICK Élan", ":Élan!b@h PRIVMSG #room :hello")
        await host.wait_for(RemoteMessage)
        say_mixed(peer, ":Élan!b@h NICK bill", ":bill!b@h NICK Élan", ":Élan!b@h QUIT :gone")
        await host.wait_for(RemoteLeave)
        await synced(peer)
        assert [one.new.name for one in host.of(RemoteRename)] == ["Élan", "bill", "Élan"]
        assert host.texts == ["Élan: hello"]
        assert relay.seen(chat("#room").id) == {ALICE}


async def test_a_list_of_names_shows_ours_and_who_is_called_alike_in_another_charset() -> None:
    async with with_an_elan() as (relay, host, peer):
        relay.list_again(chat("#room"))
        say_mixed(peer, f":irc.test 353 {peer.nick} = #room :@op +Élan @[Élan] {peer.nick}")
        peer.say(":irc.test 366 {nick} #room :End of names")
        members = (await host.wait_for(RemoteMembers, 2))[1]
        assert [one.name for one in members.users] == ["op", "Élan"]
        await host.wait_for(RemoteRanks, 2)
        theirs = {"op": Rank.MODERATOR, members.users[1].id: Rank.VOICED}
        assert (await told(host, peer))[1] == (theirs, {ALICE: Rank.MODERATOR})
        assert relay.seen(chat("#room").id) == {ALICE}


@pytest.mark.parametrize("mask", ["Élan!*@*", "*É*!*@*", "Él*!*@client.test"])
async def test_a_ban_of_a_nick_in_another_charset_hits_none_of_ours(mask: str) -> None:
    async with with_an_elan() as (_, host, peer):
        say_mixed(peer, f":op!o@h MODE #room +b {mask}", ":op!o@h MODE #room -b+b x!*@* [Él]*!*@*")
        (removal,) = await host.wait_for(RemoteRemoval)
        await synced(peer)
        assert (removal.user, removal.how) == (ALICE, Removal.BAN)
        assert len(host.of(RemoteRemoval)) == 1


async def test_the_relay_stays_where_another_is_put_out_whose_nick_reads_like_its_own() -> None:
    async with a_listener("@op") as (relay, host, peer, _):
        peer.say(":{nick}!t@h NICK Élan")
        say_mixed(
            peer, ":op!o@h KICK #room Élan :out", ":Élan!e@h PART #room", ":Élan!e@h QUIT :gone",
            ":bob!b@h INVITE Élan #room", ":bob!b@h PRIVMSG Élan :optout",
            ":bob!b@h PRIVMSG #room :said",
        )  # fmt: skip
        await host.wait_for(RemoteMessage)
        await synced(peer)
        relay.check_in(chat("#room"))
        assert not [one for one in peer.heard if one.startswith(("JOIN", "NOTICE"))][1:]
        assert host.opted_out == set()
        # What is said to ours in the old charset is heard.
        say_mixed(peer, ":bob!b@h PRIVMSG [Élan] :optout")
        await peer.expect("NOTICE bob :Nothing that you say")
        assert host.opted_out == {"bob"}
        say_mixed(peer, ":op!o@h KICK #room [Élan] :tschüss")
        await synced(peer)
        with pytest.raises(DeliveryError, match="We were put out of #room"):
            relay.check_in(chat("#room"))


async def test_nobody_runs_a_channel_because_an_operators_nick_reads_like_theirs() -> None:
    async with a_listener("@op") as (_, host, peer, _):
        peer.answers["USERHOST Éva"] = ":irc.test 302 {nick} :Éva=+e@h"
        peer.say(":Éva!e@h PRIVMSG {nick} :leave #room")
        await peer.expect("NAMES #room")
        say_mixed(peer, f":irc.test 353 {peer.nick} = #room :@op @Éva [Éva]")
        peer.say(":irc.test 366 {nick} #room :End of names")
        await peer.expect("NOTICE Éva :That cannot be done: the server does not say that you are")
        assert not host.wishes


async def test_whom_the_network_gives_a_nick_in_another_charset_is_known_by_that() -> None:
    async with scripted_server() as server:
        network = Network(server.port)
        async with (
            speaking(server, network) as (_, _, alices, _),
            listening(server, network, "@op Alice") as (relay, host, peer, _),
        ):
            for one in (alices, peer):
                say_mixed(one, ":Alice!alice@client.test NICK Élan")
                await synced(one)
            say_mixed(
                peer, ":Élan!alice@client.test PRIVMSG #room :mine",
                ":[Élan]!e@h PRIVMSG #room :[theirs]", ":op!o@h MODE #room +vo Élan [Élan]",
            )  # fmt: skip
            await host.wait_for(RemoteRanks, 2)
            assert host.texts == ["Élan: theirs"]
            (_, (theirs, ours)) = await told(host, peer)
            assert (list(theirs.values()), ours) == ([Rank.MODERATOR], {ALICE: Rank.VOICED})
            assert relay.seen(chat("#room").id) == {ALICE}
            say_mixed(peer, f":{peer.nick}!t@h NICK Émile", ":op!o@h KICK #room [Émile] :out")
            await synced(peer)
            relay.check_in(chat("#room"))
            say_mixed(peer, ":op!o@h KICK #room Émile :out")
            await synced(peer)
            with pytest.raises(DeliveryError, match="We were put out of #room"):
                relay.check_in(chat("#room"))


async def test_nobody_opts_out_the_account_of_one_whose_nick_reads_like_theirs() -> None:
    async with a_listener("", "account-notify extended-join") as (_, host, peer, _):
        peer.say(":Éva!e@h JOIN #room Eve :E")
        say_mixed(peer, f":Éva!x@x PRIVMSG {peer.nick} :optout")
        await peer.expect("NOTICE Éva :Nothing that you say")
        assert host.opted_out == {"Éva"}
        peer.say(":Éva!e@h PRIVMSG {nick} :optout")
        await peer.expect("NOTICE Éva :Nothing that you say")
        assert host.opted_out == {"Éva", "account!eve"}
