"""Modes are read as the server says, and what a channel is becomes what the room is told."""

import asyncio

import pytest

from bridge.networks.irc.protocol.isupport import Isupport
from bridge.networks.irc.protocol.modes import Change, rank_of, read_changes
from bridge.networks.irc.wire import Source
from bridge.sdk.events import (
    Rank,
    RemoteAccess,
    RemoteRanks,
    RemoteRemoval,
    RemoteTopic,
    Removal,
)
from tests.irc.stage import (
    Network,
    a_listener,
    chat,
    listening,
    refusal,
    speaking,
    synced,
    user_id,
)
from tests.rigs.scripted_irc import scripted_server

LIMITS = Isupport({"PREFIX": "(qaohv)~&@%+", "CHANMODES": "beI,k,lH,imnpst"})


@pytest.mark.parametrize(
    ("said", "changes"),
    [
        ("+o bob", [Change(True, "o", "bob")]),
        ("+kl-i sesame 5", [Change(True, "k", "sesame"), Change(True, "l", "5"),
                            Change(False, "i")]),
        ("-kl sesame", [Change(False, "k", "sesame"), Change(False, "l")]),
        ("+v-v+b a b *!*@c", [Change(True, "v", "a"), Change(False, "v", "b"),
                              Change(True, "b", "*!*@c")]),
        # One value too few takes nothing of another's (CVE-2022-39202 was of this kind).
        ("+oos bob", [Change(True, "o", "bob"), Change(True, "o"), Change(True, "s")]),
        ("+b", [Change(True, "b")]),
        ("ntX", [Change(True, "n"), Change(True, "t"), Change(True, "X")]),
        ("", []),
    ],
)  # fmt: skip
def test_who_owns_a_value_is_the_servers_to_say(said: str, changes: list[Change]) -> None:
    assert read_changes(said.split(), LIMITS) == changes


def test_the_highest_of_somebodys_ranks_counts() -> None:
    assert [rank_of(letters) for letters in ("", "v", "hv", "vo", "q", "Y")] == [
        Rank.NONE, Rank.VOICED, Rank.HELPER, Rank.MODERATOR, Rank.OWNER, Rank.NONE,
    ]  # fmt: skip


async def test_what_a_channel_is_and_who_runs_it_is_told_as_it_changes() -> None:
    async with a_listener("@bob +eve carl") as (_, host, peer, _):
        await peer.expect("MODE #room")
        peer.say(
            ":irc.test 324 {nick} #room +nkt sesame", ":irc.test 332 {nick} #room :\x02old\x02"
        )
        peer.say(":bob!b@h TOPIC #room :new", ":bob!b@h MODE #room -k+s sesame")
        peer.say(":bob!b@h MODE #room +vo-v carl carl eve", ":carl!c@h NICK karl")
        peer.say(":karl!c@h QUIT :gone", ":karl!stranger@h JOIN #room")
        peer.say(":bob!b@h QUIT :gone", ":eve!e@h NICK bob")
        peer.say(":dan!d@h TOPIC #elsewhere :x", ":dan!d@h MODE dan +i")
        await synced(peer)
        await host.wait_for(RemoteRanks, 5)
    assert [(one.listed, one.open) for one in host.of(RemoteAccess)] == [
        (True, False), (False, True),
    ]  # fmt: skip
    assert [(one.topic, one.is_news) for one in host.of(RemoteTopic)] == [
        ("old", False), ("new", True),
    ]  # fmt: skip
    told = [(dict(one.ranks), one.is_all) for one in host.of(RemoteRanks)]
    assert told == [
        ({"bob": Rank.MODERATOR, "eve": Rank.VOICED}, True),
        ({"carl": Rank.MODERATOR, "eve": Rank.NONE}, False),
        ({"carl": Rank.NONE, "karl": Rank.MODERATOR}, False),
        # Who takes the nick next holds nothing of what it held.
        ({"karl": Rank.NONE}, False),
        ({"bob": Rank.NONE}, False),
    ]


async def test_who_is_heard_in_a_channel_is_told_as_it_changes() -> None:
    async with scripted_server() as server:
        network = Network(server.port)
        async with (
            speaking(server, network),
            listening(server, network, "@bob Alice") as (_, host, peer, _),
        ):
            await peer.expect("MODE #room")
            peer.say(":irc.test 324 {nick} #room +nm", ":bob!b@h MODE #room +v {nick}")
            peer.say(":bob!b@h MODE #room +vo Alice carl", ":bob!b@h MODE #room -v {nick}")
            peer.say(":bob!b@h MODE #room -mv Alice", ":bob!b@h MODE #room +v {nick}")
            peer.say(":bob!b@h MODE #room +mo Alice", ":Alice!Alice@client.test JOIN #room")
            await synced(peer)
            await host.wait_for(RemoteAccess, 5)
    assert [(one.moderated, one.relay_heard) for one in host.of(RemoteAccess)] == [
        (True, False), (True, True), (True, False), (False, True), (True, True),
    ]  # fmt: skip
    told = [(dict(one.ranks), dict(one.own)) for one in host.of(RemoteRanks)]
    alice = user_id("Alice")
    assert told == [
        ({"bob": Rank.MODERATOR}, {}),
        ({"carl": Rank.MODERATOR}, {alice: Rank.VOICED}),
        ({}, {alice: Rank.NONE}),
        ({}, {alice: Rank.MODERATOR}),
        # Who comes anew has no rank yet.
        ({}, {alice: Rank.NONE}),
    ]


@pytest.mark.parametrize("taken", [":bob!x@x JOIN #room", ":eve!x@x NICK bob"])
async def test_the_rank_of_one_of_ours_goes_with_the_nick_that_another_takes(taken: str) -> None:
    async with scripted_server() as server:
        network = Network(server.port)
        async with listening(server, network, "@op eve") as (_, host, peer, _):
            async with speaking(server, network, "bob"):
                peer.say(":bob!bob@h JOIN #room", ":op!o@h MODE #room +v bob")
                await synced(peer)
            # While it idles, they may still say what brings it back.
            peer.say(":bob!bob@h QUIT :idle")
            await synced(peer)
            await host.wait_for(RemoteRanks, 2)
            peer.say(taken)
            await host.wait_for(RemoteRanks, 3)
        told = [dict(one.own) for one in host.of(RemoteRanks)]
        bob = user_id("bob")
        assert told == [{}, {bob: Rank.VOICED}, {bob: Rank.NONE}]


@pytest.mark.parametrize(
    "taken", [":bob!bobby@client.test JOIN #room", ":bobby!bobby@client.test NICK bob"]
)
async def test_the_rank_of_a_stranger_goes_with_the_nick_that_one_of_ours_takes(
    taken: str,
) -> None:
    async with scripted_server() as server:
        network = Network(server.port)
        async with (
            listening(server, network, "@op @bob") as (_, host, peer, _),
            speaking(server, network, "bobby") as (_, _, bobs, _),
        ):
            peer.say(":bobby!bobby@client.test JOIN #room", ":bob!b@x QUIT :gone")
            bobs.say(":bobby!bobby@client.test NICK bob")
            await synced(bobs)
            peer.say(taken)
            await synced(peer)
            # Who has it next would come into the room with it.
            await host.wait_for(RemoteRanks, 2)
        told = [(dict(one.ranks), dict(one.own)) for one in host.of(RemoteRanks)]
        assert told == [
            ({"op": Rank.MODERATOR, "bob": Rank.MODERATOR}, {}), ({"bob": Rank.NONE}, {}),
        ]  # fmt: skip


async def test_of_ours_who_takes_another_nick_the_relay_may_hear_first() -> None:
    async with scripted_server() as server:
        network = Network(server.port)
        alice = user_id("Alice")
        async with (
            speaking(server, network) as (_, _, alices, _),
            listening(server, network, "@op Alice") as (_, host, peer, _),
        ):
            peer.say(":op!o@h MODE #room +o Alice", ":Alice!Alice@client.test NICK Ally")
            await synced(peer)
            alices.say(":Alice!Alice@client.test NICK Ally")
            await synced(alices)
            peer.say(":op!o@h MODE #room -o Ally")
            await synced(peer)
            await host.wait_until(lambda host: host.of(RemoteRanks)[-1].own == {alice: Rank.NONE})
        told = [dict(one.ranks) for one in host.of(RemoteRanks)]
        assert told == [{"op": Rank.MODERATOR}, {}, {}]


async def test_who_of_ours_comes_back_by_another_nick_has_no_rank_by_the_old_one() -> None:
    async with scripted_server() as server:
        network = Network(server.port)
        bob = user_id("bob")
        async with (
            listening(server, network, "@op") as (_, host, peer, _),
            speaking(server, network, "bob") as (_, _, bobs, _),
        ):
            peer.say(":bob!bob@h JOIN #room", ":op!o@h MODE #room +v bob")
            await synced(peer)
            peer.say(":bob!bob@h PART #room")
            bobs.say(":bob!bob@h NICK bob_")
            await synced(bobs)
            peer.say(":bob_!bob@h JOIN #room", ":op!o@h MODE #room +v bob_")
            await host.wait_for(RemoteRanks, 4)
            # Of a nick that nobody of ours goes by any more nothing is told.
            peer.say(":bob_!bob@h NICK bobby", ":eve!x@x JOIN #room", ":eve!x@x NICK bob")
            peer.say(":op!o@h MODE #room +v eve")
            await host.wait_for(RemoteRanks, 5)
        assert [dict(one.own) for one in host.of(RemoteRanks) if one.own] == [
            {bob: Rank.VOICED}, {bob: Rank.NONE}, {bob: Rank.VOICED}
        ]  # fmt: skip


async def test_our_own_are_kicked_and_banned_by_others_and_what_we_do_is_no_news() -> None:
    async with scripted_server() as server:
        network = Network(server.port)
        async with (
            speaking(server, network) as (_, _, alices, _),
            listening(server, network, "@bob Alice") as (_, host, peer, _),
        ):
            alices.say(":Alice!alice@10.0.0.6 JOIN #other", ":irc.test 396 Alice 10.0.0.7 :host")
            await synced(alices)
            known = network.connector._network
            assert known.people() == [(user_id("Alice"), Source("Alice", "alice", "10.0.0.7"))]
            # Some servers say the user name, too.
            alices.say(":irc.test 396 Alice ~al@10.0.0.7 :host")
            await synced(alices)
            assert known.people() == [(user_id("Alice"), Source("Alice", "~al", "10.0.0.7"))]
            peer.say(":bob!b@h MODE #room +b *!*@10.0.0.*", ":bob!b@h MODE #room +b *!*@*")
            peer.say(":bob!b@h KICK #room Alice :enough", ":bob!b@h KICK #room carl :no")
            peer.say(
                ":bob!b@h MODE #room -b *!*@10.0.0.*", ":Alice!alice@10.0.0.7 MODE #room +o bob"
            )
            await synced(peer)
            await host.wait_for(RemoteRemoval, 3)
        assert [(one.user, one.by.id, one.how, one.reason) for one in host.of(RemoteRemoval)] == [
            (user_id("Alice"), "bob", Removal.BAN, ""),
            (user_id("Alice"), "bob", Removal.KICK, "enough"),
            (user_id("Alice"), "bob", Removal.UNBAN, ""),
        ]


async def test_a_topic_that_one_of_us_sets_is_news_unless_the_room_has_set_it() -> None:
    async with scripted_server() as server:
        network = Network(server.port)
        async with (
            speaking(server, network),
            listening(server, network, "@bob Alice") as (relay, host, peer, _),
        ):
            peer.say(":Alice!alice@10.0.0.7 TOPIC #room :by a command")
            await host.wait_for(RemoteTopic)
            # Twice quickly: the network says both again when the room has the second already.
            await relay.set_topic(chat("#room"), "first  words")
            await relay.set_topic(chat("#room"), "second words")
            for topic in ("first words", "second words", "by hand", "second words"):
                peer.say(f":{{nick}}!{{nick}}@client.test TOPIC #room :{topic}")
            await host.wait_for(RemoteTopic, 3)
            # What the room sets before another is none of its own after that.
            await relay.set_topic(chat("#room"), "of the room")
            peer.say(":bob!b@h TOPIC #room :bob's", ":{nick}!t@h TOPIC #room :of the room")
            await host.wait_for(RemoteTopic, 5)
            peer.pong = None
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(refusal(relay.set_topic(chat("#room"), "refused")))
                await peer.expect("TOPIC #room refused")
                marker = (await peer.expect("PING ")).removeprefix("PING ")
                peer.say(":irc.test 482 {nick} #room :No", f":irc.test PONG irc.test :{marker}")
            peer.say(":{nick}!t@h TOPIC #room :refused")
            await host.wait_for(RemoteTopic, 6)
        assert [one.topic for one in host.of(RemoteTopic)] == [
            "by a command", "by hand", "second words", "bob's", "of the room", "refused",
        ]  # fmt: skip


async def test_the_modes_of_a_channel_that_put_us_out_at_once_are_asked_when_we_are_back() -> None:
    async with scripted_server() as server:
        network = Network(server.port, rejoin_seconds=0.05)
        async with listening(server, network) as (_, _, peer, _):
            await peer.expect("MODE #room b")
            peer.say(":op!o@h KICK #room {nick} :out")
            await peer.expect("JOIN #room")
            lines = (
                f":{peer.nick}!t@h JOIN #room", f":irc.test 366 {peer.nick} #room :End of names",
                f":op!o@h KICK #room {peer.nick} :out",
            )  # fmt: skip
            peer.say_bytes("".join(f"{one}\r\n" for one in lines).encode())
            await peer.admit()
            await peer.expect("MODE #room b")
            told = [one for one in peer.heard if one.startswith(("JOIN", "MODE #room"))]
            asked = ["MODE #room", "MODE #room b"]
            assert told == ["JOIN #room", *asked, "JOIN #room", "JOIN #room", *asked]
