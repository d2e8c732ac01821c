"""One's own modes on IRC."""

import asyncio

from tests.irc.commands import Person
from tests.irc.questions import pong
from tests.irc.stage import Network, message, running
from tests.rigs.ircd import IrcServer
from tests.rigs.scripted_irc import scripted_server


async def test_own_modes_are_seen_and_set_and_set_again_before_all_else_on_the_next_connect(
    server: IrcServer,
) -> None:
    network = Network(server.port)
    relay, _ = network.relay()
    uma = Person(network, "Uma", relay)
    async with running(uma.client):
        assert await uma.say("umode") == "You have no modes."
        now = "Your modes are +i. On each connect +i-w is set."
        assert await uma.say("umode +i-w") == now
        assert "You are connected anew" in await uma.say("reconnect")
        assert await uma.say("umode") == now

        changed = "You have no modes. On each connect -iw is set."
        assert await uma.say("umode -i") == changed
        assert await uma.say("umode +i") == now
        assert "None are set when you connect" in await uma.say("umode off")
        assert uma.host.kept == {}
        assert await uma.say("umode") == "Your modes are +i."


async def test_what_the_server_says_to_modes_that_it_does_not_take_is_told_and_they_are_not_kept(
    server: IrcServer,
) -> None:
    network = Network(server.port)
    relay, _ = network.relay()
    una = Person(network, "Una", relay)
    async with running(una.client):
        why = await una.refused("umode +o")
        assert why.startswith("+o was not taken.\nIt is for operators of the network only (the ")
        assert (
            "the network has no such mode (the server" in (await una.refused("umode +Y")).lower()
        )
        assert (await una.refused("umode -Y")).startswith("-Y was not taken.\n")
        assert una.host.kept == {}
        partly = await una.say("umode +iY")
        assert partly.startswith("+Y was not taken.\n")
        assert partly.endswith("\nYour modes are +i. On each connect +i is set.")
        for typed in ("i", "+", "+s +cC", "+i 1", f"+{'i' * 400}\n-x", "-ö"):
            assert "say which modes are set or taken" in await una.refused(f"umode {typed}")


async def test_nobody_shows_where_the_bridge_is_unless_the_settings_let_them() -> None:
    async with scripted_server() as server, asyncio.TaskGroup() as tasks:
        for allowed in (False, True):
            network = Network(server.port, allow_raw=True, allow_uncloak=allowed)
            relay, _ = network.relay()
            una = Person(network, "Una", relay)
            await una.client.keepsakes.keep("modes", "+R-xw")
            async with running(una.client):
                sent = tasks.create_task(una.client.send(message("#room", "first")))
                peer = await server.accept()
                await peer.welcome()
                kept = await peer.expect("MODE")
                assert kept == ("MODE Una +R-xw" if allowed else "MODE Una +R-w")
                await peer.admit()
                await sent
                typed = ("umode -x", "umode -h", "umode +i-wx", "umode -x+x", "raw MODE Una +i -x",
                         "autocommand raw MODE Una -x")  # fmt: skip
                if not allowed:
                    for one in typed:
                        assert "would show everybody the address" in await una.refused(one)
                    continue
                peer.pong = None
                asked = tasks.create_task(una.say("umode -x"))
                assert await peer.expect("MODE Una -x")
                asked.cancel()


async def test_modes_go_to_whatever_nick_the_connection_has_and_a_silent_server_sets_none() -> (
    None
):
    async with scripted_server() as server, asyncio.TaskGroup() as tasks:
        network = Network(server.port)
        relay, _ = network.relay()
        uta = Person(network, "Uta", relay)
        await uta.client.keepsakes.keep("modes", "+R")
        async with running(uta.client):
            sent = tasks.create_task(uta.client.send(message("#room", "first")))
            peer = await server.accept()
            await peer.expect("USER")
            peer.say(":irc.test CAP * LS :")
            await peer.expect("CAP END")
            peer.say(":irc.test 433 * Uta :In use")
            peer.nick = (await peer.expect("NICK ")).removeprefix("NICK ")
            assert peer.nick != "Uta"
            peer.let_in()
            assert await peer.expect("MODE") == f"MODE {peer.nick} +R"
            assert await peer.expect("NICK") == "NICK Uta"  # Not before: it may get that.
            await peer.admit()
            await sent

            peer.pong = None
            # What is said to what is set on each connect is about no command.
            asked = tasks.create_task(uta.refused("whois nobody"))
            await peer.expect("WHOIS nobody")
            peer.say(
                ":irc.test 501 {nick} :Unknown MODE flag",
                ":irc.test 401 {nick} nobody :No such nick",
            )
            await pong(peer)
            assert "flag" not in await asked
            told = tasks.create_task(uta.refused("umode +x"))
            await peer.expect(f"MODE {peer.nick} +x")
            await peer.expect(f"MODE {peer.nick}")
            await pong(peer)
            assert await told == "the server does not say which you have"
            assert uta.client.keepsakes.read("modes") == "+R"
