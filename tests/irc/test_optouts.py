"""Who on the network wants no part in it: by nick, by its next one, by account."""

import asyncio

from bridge.networks.irc.private.optouts import MOST_FOLLOWED, MOST_UNDONE, MOST_WAITING
from bridge.sdk.events import RemoteJoin, RemoteMembers, RemoteMessage, RemoteRename
from tests.irc.stage import Network, a_listener, a_speaker, chat, listening, speaking, synced
from tests.rigs.scripted_irc import Peer, scripted_server

ACCOUNTS = "account-notify account-tag extended-join message-tags"


async def undo(
    peer: Peer, prefix: str, whom: str = "trestle", answer: str = "What you say in the channels"
) -> None:
    """Have somebody say optin, when what was said before is done, and hear the answer."""
    await synced(peer)
    peer.say(f"{prefix} PRIVMSG {whom} :optin")
    nick = prefix.rpartition(":")[2].partition("!")[0]
    await peer.expect(f"NOTICE {nick} :{answer}")


async def test_who_says_optout_privately_is_not_bridged_until_optin() -> None:
    async with a_speaker() as (_, host, peer, _):
        # In a channel it is a word like others, and a nick has one spelling.
        peer.say(":eve!e@h PRIVMSG #room :optout", ":B[ob!b@h PRIVMSG Alice : OptOut ")
        await peer.expect("NOTICE B[ob :Nothing that you say is carried")
        assert host.opted_out == {"b{ob"}
        await undo(peer, ":b{ob!b@h", "Alice")
        assert host.opted_out == set()
    assert len([one for one in peer.heard if one.startswith("NOTICE")]) == 2


async def test_who_opted_out_is_out_under_the_next_nick_too_and_is_told_so_once() -> None:
    async with a_listener("carl dora") as (relay, host, peer, _), asyncio.TaskGroup() as tasks:
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
    async with a_listener("n0 dora") as (_, host, peer, _):
        peer.say(":n0!c@h PRIVMSG trestle :optout")
        await peer.expect("NOTICE n0 :Nothing that you say is carried")
        for number in range(MOST_FOLLOWED + 3):
            peer.say(f":n{number}!c@h NICK n{number + 1}")
        await peer.expect(f"NOTICE n{MOST_FOLLOWED + 1} :I follow nobody through so many")
        await host.wait_for(RemoteRename, MOST_FOLLOWED + 3)
        assert host.opted_out == {f"n{number}" for number in range(MOST_FOLLOWED + 1)}


async def test_who_goes_back_to_the_first_nick_in_between_is_followed_no_further() -> None:
    async with a_listener("mal dora") as (_, host, peer, _):
        peer.say(":mal!m@h PRIVMSG trestle :optout")
        await peer.expect("NOTICE mal :Nothing that you say is carried")
        for number in range(MOST_FOLLOWED + 3):
            peer.say(f":mal!m@h NICK victim{number}", f":victim{number}!m@h NICK mal")
        await peer.expect(f"NOTICE victim{MOST_FOLLOWED} :I follow nobody through so many")
        await host.wait_for(RemoteRename, 2 * (MOST_FOLLOWED + 3))
        assert host.opted_out == {"mal", *(f"victim{one}" for one in range(MOST_FOLLOWED))}


async def test_nobody_who_reads_waits_until_it_is_noted_and_what_is_said_next_waits() -> None:
    async with a_listener("n0 dora") as (_, host, peer, _):
        host.noting.clear()
        for number in range(MOST_WAITING + 10):
            peer.say(f":n{number}!c@h{number} PRIVMSG trestle :optout")
        peer.say(":m!c@h1 PRIVMSG trestle :optout", ":n0!c@h0 NICK n0_", ":n0_!c@h0 NICK n0__")
        # One from each host waits, and of all no more than so many.
        for nick in (f"n{MOST_WAITING + 9}", "m"):
            await peer.expect(f"NOTICE {nick} :That could not be noted just now")
        await synced(peer)
        assert host.opted_out == set()
        host.noting.set()
        await peer.expect("NOTICE n0 :Nothing that you say is carried")
        await host.wait_for(RemoteRename, 2)
        await peer.expect(f"NOTICE n{MOST_WAITING - 1} :Nothing that you say is carried")
        assert host.opted_out >= {"n0_", "n0__", *(f"n{one}" for one in range(MOST_WAITING))}


async def test_it_is_undone_no_more_than_some_times_an_hour_from_one_place() -> None:
    async with a_listener("dora") as (_, host, peer, _):
        for number in range(MOST_UNDONE):
            peer.say(f":n{number}!c@h PRIVMSG trestle :optout")
            await peer.expect(f"NOTICE n{number} :Nothing that you say is carried")
            await undo(peer, f":n{number}!c@h")
        await synced(peer)
        peer.say(":dora!c@h PRIVMSG trestle :optout")
        await peer.expect("NOTICE dora :Nothing that you say is carried")
        await undo(peer, ":dora!c@h", answer="From where you are that was undone 5 times")
        assert host.opted_out == {"dora"}
        # What was not said is not undone; and from elsewhere it is.
        await undo(peer, ":eve!c@h")
        await undo(peer, ":dora!c@elsewhere")
        assert host.opted_out == set()


async def test_an_opt_out_is_of_the_account_where_it_is_known_and_undone_by_that_alone() -> None:
    async with a_listener("dora", ACCOUNTS) as (_, host, peer, _):

        async def say(prefix: str, word: str, answer: str) -> None:
            peer.say(f"{prefix} PRIVMSG trestle :{word}")
            await peer.expect(f"NOTICE {prefix.partition(':')[2].partition('!')[0]} :{answer}")

        await say("@account=Dora :dora!d@h", "optout", "Nothing that you say")
        assert host.opted_out == {"dora", "account!dora"}
        peer.say(":dora!d@h NICK dory")
        await peer.expect("NOTICE dory :Nothing was carried")
        # Whoever has the nick next does not speak for the person, nor does another account.
        for prefix in (":dora!x@x", "@account=eve :dora!x@x"):
            await say(prefix, "optin", "That was said by somebody")
        assert host.opted_out == {"dora", "dory", "account!dora"}
        assert not any("dor" in f"{one}" for one in host.store.rows.items())
        await say("@account=dora :dory!d@h", "optin", "What you say")
        assert host.opted_out == {"dora"}
        # Who had the nick of others for a while keeps nobody out, whatever their account.
        await say("@account=eve :bob!x@x", "optout", "Nothing that you say")
        await say(":bob!b@b", "optin", "What you say")
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
