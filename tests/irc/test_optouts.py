"""Who on the network wants no part in it: by nick, by its next one, by account."""

import asyncio

from bridge.networks.irc.optouts import MOST_FOLLOWED
from bridge.sdk.events import RemoteJoin, RemoteMembers, RemoteMessage, RemoteRename
from tests.irc.stage import Network, chat
from tests.irc.test_client import listening, speaking, synced
from tests.rigs.scripted_irc import scripted_server

ACCOUNTS = "account-notify account-tag extended-join message-tags"


async def test_who_says_optout_privately_is_not_bridged_until_optin() -> None:
    async with (
        scripted_server() as server,
        speaking(server, Network(server.port)) as (_, host, peer, _),
    ):
        # In a channel it is a word like others, and a nick has one spelling.
        peer.say(":eve!e@h PRIVMSG #room :optout", ":B[ob!b@h PRIVMSG Alice : OptOut ")
        await synced(peer)
        assert host.opted_out == {"b{ob"}
        peer.say(":b{ob!b@h PRIVMSG Alice :optin")
        await synced(peer)
        assert host.opted_out == set()
    notices = [one for one in peer.heard if one.startswith("NOTICE")]
    assert [one.split(" ")[1] for one in notices] == ["B[ob", "b{ob"]
    assert "Nothing that you say is carried" in notices[0]
    assert "is carried to Matrix again" in notices[1]


async def test_who_opted_out_is_out_under_the_next_nick_too_and_is_told_so_once() -> None:
    async with (
        scripted_server() as server,
        listening(server, Network(server.port), "carl dora") as (relay, host, peer, _),
        asyncio.TaskGroup() as tasks,
    ):
        joined = tasks.create_task(relay.join(chat("#other")))
        await peer.admit("carl")
        await joined
        await host.wait_for(RemoteMembers, 2)
        peer.say(":carl!c@h PRIVMSG trestle :optout")
        await peer.expect("NOTICE carl :Nothing that you say is carried")
        # Both channels tell of it.
        peer.say(":carl!c@h NICK Carl_", ":dora!d@h NICK dory")
        renames = await host.wait_for(RemoteRename, 3)
        await peer.expect("NOTICE Carl_ :Nothing was carried to Matrix of what you said as carl")
        assert {one.new.id for one in renames} == {"carl_", "dory"}
        assert host.opted_out == {"carl", "carl_"}
        await synced(peer)
    assert len([one for one in peer.heard if one.startswith("NOTICE Carl_")]) == 1


async def test_nobody_opts_out_more_nicks_than_a_person_has() -> None:
    async with (
        scripted_server() as server,
        listening(server, Network(server.port), "n0 dora") as (_, host, peer, _),
    ):
        peer.say(":n0!c@h PRIVMSG trestle :optout")
        await peer.expect("NOTICE n0 :Nothing that you say is carried")
        for number in range(MOST_FOLLOWED + 3):
            peer.say(f":n{number}!c@h NICK n{number + 1}")
        await peer.expect(f"NOTICE n{MOST_FOLLOWED + 1} :I follow nobody through so many")
        await host.wait_for(RemoteRename, MOST_FOLLOWED + 3)
        assert host.opted_out == {f"n{number}" for number in range(MOST_FOLLOWED + 1)}


async def test_an_opt_out_is_of_the_account_where_it_is_known_and_undone_by_that_alone() -> None:
    async with (
        scripted_server() as server,
        listening(server, Network(server.port), "dora", ACCOUNTS) as (_, host, peer, _),
    ):

        async def say(prefix: str, word: str, answer: str) -> None:
            peer.say(f"{prefix} PRIVMSG trestle :{word}")
            await peer.expect(f"NOTICE {prefix.partition(':')[2].partition('!')[0]} :{answer}")

        await say("@account=Dora :dora!d@h", "optout", "Nothing that you say")
        assert host.opted_out == {"dora", "account!dora"}
        peer.say(":dora!d@h NICK dory")
        await peer.expect("NOTICE dory :Nothing was carried")
        # Whoever has the nick next does not speak for the person, nor does another account.
        for prefix in (":dora!x@x", "@account=eve :dora!x@x", ":dory!x@x"):
            await say(prefix, "optin", "That was said by somebody")
        assert host.opted_out == {"dora", "dory", "account!dora"}
        assert not any("dor" in f"{one}" for one in host.store.rows.items())
        await say("@account=dora :dory!d@h", "optin", "What you say")
        assert host.opted_out == {"dora"}
        # Whose nick it is by account is not kept out by whom had it meanwhile.
        await say("@account=eve :bob!x@x", "optout", "Nothing that you say")
        await say("@account=bob :bob!b@b", "optin", "What you say")
        await say("@account=dora :dora!d@h", "optin", "What you say")
        assert host.opted_out == {"account!eve"}
        assert not await host.store.find("declined:")


async def test_it_is_told_by_which_account_somebody_speaks_and_which_is_ones_own() -> None:
    async with scripted_server() as server:
        network = Network(server.port)
        async with listening(server, network, "dora", ACCOUNTS) as (_, host, peer, _):
            peer.say("@account=Do[ra :dora!d@h PRIVMSG #room :one", ":dora!d@h PRIVMSG #room :two")
            peer.say(":zoe!z@h JOIN #room Zoe :Zoe Z", ":dora!d@h ACCOUNT Other")
            peer.say(":dora!d@h NICK dory", ":yves!y@h JOIN #room * :Yves")
            one, two = await host.wait_for(RemoteMessage, 2)
            assert (one.sender.account, two.sender.account) == ("account!do{ra", None)
            zoe, yves = await host.wait_for(RemoteJoin, 2)
            assert (zoe.user.account, yves.user.account) == ("account!zoe", None)
            (renamed,) = await host.wait_for(RemoteRename)
            assert renamed.new.account == "account!other"
        async with speaking(server, network) as (_, host, peer, _):
            assert host.accounts == []
            peer.say(":irc.test 900 {nick} {nick}!a@h A[lice :You are now logged in as A[lice")
            await host.wait_until(lambda one: one.accounts == ["account!a{lice"])
