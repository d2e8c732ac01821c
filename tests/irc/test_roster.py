"""Who is known to be in the channels, and what of them."""

import asyncio

from bridge.networks.irc.network.people import Person
from bridge.networks.irc.wire import Source
from bridge.sdk.events import RemoteMembers, RemoteMessage, RemoteRanks, RemoteUser
from tests.irc.stage import Network, a_listener, chat, list_names, listening, running, synced
from tests.rigs.scripted_irc import scripted_server


async def test_whom_the_relay_could_not_see_for_a_while_it_knows_no_more() -> None:
    async with scripted_server() as server, asyncio.TaskGroup() as tasks:
        network = Network(server.port, rejoin_seconds=0.05)
        capabilities = "account-notify extended-join"
        async with listening(server, network, "dora", capabilities) as (relay, host, peer, _):

            async def account_of(nick: str, prefix: str) -> str | None:
                told = len(host.of(RemoteMessage))
                peer.say(f":{prefix} PRIVMSG #room :hi")
                sender: RemoteUser = (await host.wait_for(RemoteMessage, told + 1))[-1].sender
                assert sender.id == nick
                return sender.account

            joining = tasks.create_task(relay.join(chat("#other")))
            await peer.admit("eve")
            await joining
            peer.say(":alice!a@home JOIN #room Alice :A", ":dora!d@d ACCOUNT Dora")
            peer.say(":eve!e@e JOIN #room Eve :E", ":fay!f@f JOIN #room Fay :F")
            for nick in ("alice", "dora", "eve", "fay"):
                assert await account_of(nick, f"{nick}!x@x") == f"account!{nick}"
            # Who is there is asked anew: that is no time out of sight.
            relay.list_again(chat("#room"))
            peer.say(
                ":irc.test 353 {nick} = #room :alice dora eve", ":irc.test 366 {nick} #room :"
            )
            await host.wait_for(RemoteMembers, 3)
            assert await account_of("alice", "alice!x@x") == "account!alice"
            # But who is found to be gone then may have gone at any time.
            assert await account_of("fay", "fay!m@m") is None
            peer.say(":op!o@h KICK #room {nick} :out")
            await peer.admit("alice dora eve")
            await host.wait_for(RemoteMembers, 4)
            for nick in ("alice", "dora"):
                assert await account_of(nick, f"{nick}!m@evil") is None
                assert relay.network.find_person(nick) == Person(Source(nick))
            assert await account_of("eve", "eve!e@e") == "account!eve"
            peer.say(":alice!m@evil PRIVMSG {nick} :optout")
            await peer.expect("NOTICE alice :Nothing that you say")
            assert host.opted_out == {"alice"}


async def test_who_is_in_a_channel_that_is_listed_anew_is_known_until_the_list_says_else() -> None:
    async with scripted_server() as server, asyncio.TaskGroup() as tasks:
        network = Network(server.port)
        capabilities = "account-notify extended-join"
        async with listening(server, network, "", capabilities) as (relay, host, peer, _):
            joining = tasks.create_task(relay.join(chat("#other")))
            await peer.admit("")
            await joining
            for nick in ("alice", "bea", "carl", "dora"):
                peer.say(*(f":{nick}!x@x JOIN {name} {nick} :X" for name in ("#room", "#other")))
            await synced(peer)

            def known() -> list[str | None]:
                people = map(relay.network.find_person, ("alice", "bea", "bee", "carl", "dora"))
                return [one.account if one is not None else None for one in people]

            assert known() == ["alice", "bea", None, "carl", "dora"]
            relay.list_again(chat("#room"))
            peer.say(":dora!x@x PART #room", ":bea!x@x NICK bee", ":carl!x@x QUIT :gone")
            peer.say(":op!o@h KICK #other {nick} :out")
            await synced(peer)
            assert known() == ["alice", None, "bea", None, None]
            peer.say(":irc.test 353 {nick} = #room :alice", ":irc.test 366 {nick} #room :")
            await host.wait_for(RemoteMembers, 3)
            assert known() == ["alice", None, None, None, None]


async def test_what_a_server_lists_to_one_outside_is_not_who_is_there_nor_who_runs_it() -> None:
    async with scripted_server() as server:
        network = Network(server.port, rejoin_seconds=3600)
        async with listening(server, network, "@op +alice bob") as (relay, host, peer, _):
            peer.say(":op!o@h KICK #room {nick} :out", ":eve!e@h PRIVMSG {nick} :status #room")
            await peer.expect("NAMES #room")
            list_names(peer, "")
            await peer.expect("NOTICE eve :That cannot be done: the server does not say")
            await synced(peer)
            assert relay.seen(chat("#room").id) is None
            assert not relay.network.ranks
            assert [len(host.of(one)) for one in (RemoteMembers, RemoteRanks)] == [1, 1]


async def test_who_ran_a_channel_is_not_known_any_more_from_another_connection() -> None:
    async with scripted_server() as server:
        network = Network(server.port)
        async with listening(server, network, "@op bob") as (relay, _, peer, run):
            assert relay.network.ranks == {"#room": {"op": "o"}}
            peer.reset()
            await run.wait_for_error()
            async with running(relay):
                again = await server.accept()
                await again.welcome()
                await again.expect("JOIN #room")
                assert not relay.network.ranks


async def test_who_was_cut_off_by_a_netsplit_is_there_or_not_as_the_next_list_says() -> None:
    async with a_listener("bob carl") as (relay, host, peer, _):
        peer.say(":bob!b@h QUIT :a.test b.test")
        await synced(peer)
        ears = relay._ears
        assert ears is not None
        assert ears.splits._held
        relay.list_again(chat("#room"))
        list_names(peer, "carl")
        members = (await host.wait_for(RemoteMembers, 2))[1]
        assert [one.id for one in members.users] == ["carl"]
        # The room is made like that: nobody's coming or going is held back any more.
        assert not ears.splits._held
