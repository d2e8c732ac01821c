"""A nick that is got back, and one that is not to be had."""

from tests.irc.stage import Network, running, synced
from tests.rigs.scripted_irc import scripted_server


async def test_a_nick_that_the_server_refuses_for_good_is_watched_no_more() -> None:
    async with scripted_server() as server:
        relay, host = Network(server.port, nick="mine").relay()
        async with running(relay):
            peer = await server.accept()
            await peer.expect("USER")
            peer.say(":irc.test CAP * LS :")
            await peer.expect("CAP END")
            peer.say(":irc.test 433 * mine :In use")
            peer.nick = (await peer.expect("NICK mine_")).removeprefix("NICK ")
            peer.let_in("NICKLEN=30 MONITOR=100")
            await peer.expect("MONITOR + mine")
            peer.say(":irc.test 432 {nick} mine :Services reserved nickname")
            await host.wait_until(lambda one: "refuses the nick mine" in one.states[-1][1])
            peer.say(":irc.test NOTICE {nick} :one", ":irc.test NOTICE {nick} :two")
            await synced(peer)
            watched = [one for one in peer.heard if one.startswith("MONITOR")]
            assert watched == ["MONITOR + mine", "MONITOR - mine"]
