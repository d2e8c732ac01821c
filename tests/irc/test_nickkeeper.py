"""A nick that is got back, and one that is not to be had."""

from tests.irc.stage import Network, let_in_without_mine, running, synced
from tests.rigs.scripted_irc import scripted_server


async def test_a_nick_that_the_server_refuses_for_good_is_watched_no_more() -> None:
    async with scripted_server() as server:
        relay, host = Network(server.port, nick="mine").relay()
        async with running(relay):
            peer = await server.accept()
            await let_in_without_mine(peer, "NICKLEN=30 MONITOR=100")
            await peer.expect("MONITOR + mine")
            peer.say(":irc.test 432 {nick} mine :Services reserved nickname")
            await host.wait_until(lambda one: "refuses the nick mine" in one.states[-1][1])
            peer.say(":irc.test NOTICE {nick} :one", ":irc.test NOTICE {nick} :two")
            await synced(peer)
            watched = [one for one in peer.heard if one.startswith("MONITOR")]
            assert watched == ["MONITOR + mine", "MONITOR - mine"]


async def test_a_watched_nick_is_taken_back_when_the_server_says_it_is_free() -> None:
    async with scripted_server() as server:
        relay, host = Network(server.port, nick="mine").relay()
        async with running(relay):
            peer = await server.accept()
            await let_in_without_mine(peer, "NICKLEN=30 MONITOR=100")
            await peer.expect("NICK mine")
            assert await peer.read() == "MONITOR + mine"
            peer.say(":irc.test 433 {nick} mine :In use", ":irc.test 730 {nick} :mine!u@h")
            await host.wait_until_connected()
            await synced(peer)
            peer.say(":irc.test 731 {nick} :other,MINE")
            await peer.expect("NICK mine")
            peer.say(":mine_!t@h NICK mine", ":irc.test PRIVMSG x :y")
            await peer.expect("MONITOR - mine")


async def test_a_nick_that_others_take_from_us_is_not_taken_back_but_after_a_collision() -> None:
    async with scripted_server() as server:
        relay, host = Network(server.port, nick="mine").relay()
        async with running(relay):
            peer = await server.accept()
            await peer.welcome()
            await host.wait_until_connected()
            peer.say(":mine!t@h NICK 42XAAAAAB", ":mine!other@h QUIT :gone")
            await peer.expect("NICK mine")
            peer.say(":42XAAAAAB!t@h NICK mine", ":mine!t@h NICK Guest1")
            peer.say(":mine!other@h QUIT :gone")
            await synced(peer)
            assert len([one for one in peer.heard if one.startswith("NICK mine")]) == 2
            assert "has taken the nick mine from this connection; Guest1" in host.states[-1][1]
