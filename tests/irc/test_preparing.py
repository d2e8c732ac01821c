"""A message whose lines are made before it may be said."""

from bridge.sdk.rich import Mention, Rich, Text
from tests.irc.stage import Network, message, speaking, synced, user_id
from tests.rigs.scripted_irc import scripted_server


async def test_what_was_prepared_is_said_as_it_would_be_without() -> None:
    async with (
        scripted_server() as server,
        speaking(server, Network(server.port)) as (alice, _, peer, _),
    ):
        alice.prepare(message("#room", "this is never said"))
        await alice.send(message("#room", "one\ntwo"))
        alice.prepare(message("#room", "three\nfour"))
        await alice.send(message("#room", "three\nfour"))
        await alice.send(message("#room", "three\nfour"))
        for text in ["one", "two", *(["three", "four"] * 2)]:
            assert await peer.expect("PRIVMSG") == f"PRIVMSG #room :{text}"


async def test_what_the_server_takes_since_it_was_prepared_counts() -> None:
    async with (
        scripted_server() as server,
        speaking(server, Network(server.port)) as (alice, _, peer, _),
    ):
        long = message("#room", "word " * 150)
        alice.prepare(long)
        peer.say(":irc.test 005 {nick} LINELEN=2048 :are supported by this server")
        await synced(peer)
        await alice.send(long)
        assert len(await peer.expect("PRIVMSG")) > 700


async def test_whoever_changes_their_nick_meanwhile_is_called_by_the_new_one() -> None:
    async with scripted_server() as server:
        network = Network(server.port)
        async with (
            speaking(server, network, "Bob") as (_, _, bob, _),
            speaking(server, network) as (alice, _, peer, _),
        ):
            called = message("#room", Rich((Mention(user_id("Bob"), "Bob"), Text(": hi"))))
            alice.prepare(called)
            bob.say(":{nick}!b@h NICK :Robert")
            await synced(bob)
            await alice.send(called)
            assert await peer.expect("PRIVMSG") == "PRIVMSG #room :Robert: hi"
