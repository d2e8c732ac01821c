"""Modes are read as the server says, and what a channel is becomes what the room is told."""

import pytest

from bridge.networks.irc.isupport import Isupport
from bridge.networks.irc.modes import Change, rank_of, read_changes
from bridge.sdk.events import (
    Rank,
    RemoteAccess,
    RemoteRanks,
    RemoteRemoval,
    RemoteTopic,
    Removal,
)
from tests.irc.stage import Network, user_id
from tests.irc.test_client import listening, speaking, synced
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
    async with (
        scripted_server() as server,
        listening(server, Network(server.port), "@bob +eve carl") as (_, host, peer, _),
    ):
        await peer.expect("MODE #room")
        peer.say(
            ":irc.test 324 {nick} #room +nkt sesame", ":irc.test 332 {nick} #room :\x02old\x02"
        )
        peer.say(":bob!b@h TOPIC #room :new", ":bob!b@h MODE #room -k+s sesame")
        peer.say(":bob!b@h MODE #room +vo-v carl carl eve", ":carl!c@h NICK karl")
        peer.say(":karl!c@h QUIT :gone", ":karl!stranger@h JOIN #room")
        peer.say(":bob!b@h TOPIC #elsewhere :x", ":bob!b@h MODE bob +i")
        await synced(peer)
        await host.wait_for(RemoteRanks, 4)
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
    ]


async def test_our_own_are_kicked_and_banned_by_others_and_what_we_do_is_no_news() -> None:
    async with scripted_server() as server:
        network = Network(server.port)
        async with (
            speaking(server, network) as (_, _, alices, _),
            listening(server, network, "@bob Alice") as (_, host, peer, _),
        ):
            alices.say(":Alice!alice@10.0.0.7 JOIN #other", ":irc.test 396 Alice 10.0.0.7 :host")
            await synced(alices)
            peer.say(":Alice!alice@10.0.0.7 TOPIC #room :ours")
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
        assert not host.of(RemoteTopic)
