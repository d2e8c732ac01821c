"""What answers a command, and what is said meanwhile and is somebody else's."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from bridge.networks.irc.client.client import IrcClient
from bridge.networks.irc.wire import line
from bridge.sdk.errors import DeliveryUncertain, PermanentFailure, TemporaryFailure
from bridge.sdk.events import RemoteMessage
from tests.irc.commands import refused, say
from tests.irc.questions import asked, pong, settled
from tests.irc.stage import (
    Host,
    Network,
    a_listener,
    chat,
    direct,
    listening,
    running,
    speaking,
    synced,
    user_id,
)
from tests.rigs.scripted_irc import Peer, ScriptedServer, scripted_server


@asynccontextmanager
async def a_puppet() -> AsyncIterator[tuple[ScriptedServer, IrcClient, IrcClient, Host, Peer]]:
    """Have a person's connection to a server of its own, beside a relay that has none."""
    async with scripted_server() as server:
        network = Network(server.port)
        relay, _ = network.relay()
        async with speaking(server, network) as (puppet, host, peer, _):
            yield server, relay, puppet, host, peer


async def test_what_a_person_answers_is_for_a_direct_chat_and_a_services_for_who_asked() -> None:
    async with a_puppet() as (_, relay, puppet, host, peer), asyncio.TaskGroup() as tasks:
        told = tasks.create_task(say("msg bob hi", relay, puppet))
        await peer.expect("PRIVMSG bob :hi")
        peer.say(":bob!b@h PRIVMSG Alice :for you alone", ":bob!b@h PRIVMSG Alice :optout")
        await host.wait_for(RemoteMessage)
        await peer.expect("NOTICE bob :Nothing that you say is carried")
        assert host.opted_out == {"bob"}
        assert (await told).startswith("Said to bob. What is answered in private comes")
        assert direct(host) == [("bob", "text", "for you alone")]

        asked = tasks.create_task(say("msg NickServ info bob", relay, puppet))
        await peer.expect("PRIVMSG NickServ :info bob")
        peer.say(":NickServ!s@h NOTICE Alice :bob is registered")
        assert await asked == "Said to NickServ.\nNickServ: bob is registered"
        assert len(host.of(RemoteMessage)) == 1
        for name in ("alice", "Alice@services.test"):
            with pytest.raises(PermanentFailure, match="own connection: write to them in"):
                await say(f"msg {name} hi", relay, puppet)


async def test_what_is_said_of_another_channel_or_message_is_no_answer() -> None:
    async with a_listener() as (relay, _, peer, _), asyncio.TaskGroup() as tasks:
        await settled(peer)
        refused = ":irc.test 404 trestle #room :Cannot send to channel"
        for said, wrong, right, answer in (
            (
                "names",
                (":irc.test 353 trestle = #secret :eve", ":irc.test 366 trestle #secret :End"),
                (":irc.test 353 trestle = #Room :bob", ":irc.test 366 trestle #ROOM :End"),
                "1 in #room:\nbob",
            ),
            (
                "topic",
                (":irc.test 332 trestle #secret :of eve",),
                (":irc.test 332 trestle #room :of bob",),
                "#room: of bob",
            ),
            ("kick bob", (":x!x@h KICK #secret bob",), (), "bob is out of #room."),
        ):
            told = tasks.create_task(say(said, relay, channel="#room"))
            await peer.expect(f"{said.split()[0].upper()} #room")
            peer.say(*wrong, refused, *right)
            if said != "names":
                await pong(peer)
            assert await told == answer
        told = tasks.create_task(say("modes", relay, channel="#room"))
        await peer.expect("MODE #room")
        peer.say(":irc.test 324 trestle #secret +s", ":irc.test 324 trestle #room +n")
        await pong(peer)
        await peer.expect("MODE #room b")
        for name in ("#secret", "#room"):
            peer.say(f":irc.test 367 trestle {name} {name[1:]}!*@*")
            peer.say(f":irc.test 368 trestle {name} :End")
        assert await told == "#room has the modes +n. Banned: room!*@*."


async def test_a_value_that_the_server_does_not_take_is_told_in_its_words() -> None:
    async with a_listener() as (relay, _, peer, _), asyncio.TaskGroup() as tasks:
        await settled(peer)
        told = tasks.create_task(refused("mode +l 20", relay, "#room"))
        await peer.expect("MODE #room +l 20")
        peer.say(":irc.test 696 trestle #room l 20 :At most 10")
        await pong(peer)
        assert await told == (
            "#room l 20: the mode's value is not accepted (the server: At most 10)"
        )


@pytest.mark.parametrize("answer", ["PONG", ":irc.test PONG irc.test"])
async def test_a_pong_that_does_not_say_what_it_answers_ends_a_question_too(answer: str) -> None:
    async with a_listener(join_seconds=5) as (relay, _, peer, _), asyncio.TaskGroup() as tasks:
        await settled(peer)
        told = tasks.create_task(say("kick bob", relay, channel="#room"))
        await peer.expect("KICK #room bob")
        marker = await asked(peer)
        peer.say(f":bob!b@h PONG {marker}")
        await synced(peer)
        assert not told.done()
        peer.say(answer)
        assert await told == "bob is out of #room."


async def test_no_pattern_is_longer_than_a_channels_name() -> None:
    network = Network(1)
    (relay, _), (puppet, _) = network.relay(), network.puppet("Ann")
    with pytest.raises(PermanentFailure, match="at most 200 bytes"):
        await say("list " + "*a" * 101, relay, puppet)


async def test_each_list_of_bans_answers_the_question_it_was_asked_by() -> None:
    async with scripted_server() as server:
        network = Network(server.port)
        relay, _ = network.relay()
        async with running(relay), asyncio.TaskGroup() as tasks:
            peer = await server.accept()
            await peer.welcome()
            joined = tasks.create_task(relay.join(chat("#room")))
            await peer.expect("JOIN #room")
            peer.pong = None
            peer.say(":{nick}!t@h JOIN #room", ":irc.test 366 {nick} #room :End of names")
            await joined
            await peer.expect("MODE #room b")
            marker = await asked(peer)
            told = tasks.create_task(say("modes", relay, channel="#room"))
            await synced(peer)
            assert [one for one in peer.heard if one.startswith("MODE")] == [
                "MODE #room", "MODE #room b"
            ]  # fmt: skip
            banned(peer, "of.old")
            peer.say(f":irc.test PONG irc.test :{marker}")
            await peer.expect("MODE #room")
            peer.say(":irc.test 324 trestle #room +n")
            await pong(peer)
            await peer.expect("MODE #room b")
            banned(peer, "of.now")
            assert await told == "#room has the modes +n. Banned: *!*@of.now."


async def test_what_is_refused_after_a_question_that_is_never_answered_is_told() -> None:
    async with (
        a_listener(join_seconds=60) as (relay, _, peer, _),
        relay.at_hand() as (_, _, inquiries),
        asyncio.TaskGroup() as tasks,
    ):
        await settled(peer)
        asking = tasks.create_task(inquiries.bans("#room"))
        await peer.expect("MODE #room b")
        asking.cancel()
        await pong(peer)
        told = tasks.create_task(refused("kick bob", relay, "#room"))
        await peer.expect("KICK #room bob")
        peer.say(":irc.test 482 trestle #room :You're not channel operator")
        await pong(peer)
        assert "operator" in await told


async def test_what_is_left_of_a_question_that_was_given_up_answers_no_other() -> None:
    async with a_listener() as (relay, _, peer, _), asyncio.TaskGroup() as tasks:
        await settled(peer)
        for first, asked in (("ban eve", "USERHOST eve"), ("names", "NAMES #room")):
            given_up = tasks.create_task(say(first, relay, channel="#room"))
            await peer.expect(asked)
            given_up.cancel()
            late = (await peer.expect("PING ")).removeprefix("PING ")
            banned = tasks.create_task(say("ban bob", relay, channel="#room"))
            await peer.expect("USERHOST bob")
            peer.say(":irc.test 302 trestle :bob=+x@wrong.test")
            peer.say(f":irc.test PONG irc.test :{late}")
            peer.say(":irc.test 302 trestle :eve=+e@eve.test", ":irc.test 302 trestle :")
            peer.say(":irc.test 302 trestle :eve=+e@eve.test B{ob*=-b@bob.test")
            peer.say(":irc.test 302 trestle :Bob*=-b@bob.test")
            await pong(peer)
            await peer.expect("MODE #room +b *!*@bob.test")
            await pong(peer)
            assert await banned == "*!*@bob.test is banned from #room."


async def test_what_a_list_in_pieces_still_brings_is_none_of_the_next() -> None:
    async with a_puppet() as (_, relay, puppet, _, peer), asyncio.TaskGroup() as tasks:
        await synced(peer)
        peer.pong = None
        given_up = tasks.create_task(say("list *old*", relay, puppet))
        await peer.expect("LIST")
        given_up.cancel()
        await pong(peer)
        # What else is asked meanwhile is answered.
        told = tasks.create_task(say("whois bob", relay, puppet))
        await peer.expect("WHOIS bob")
        peer.say(":irc.test 322 Alice #older 9 :of old")
        peer.say(":irc.test 311 Alice Bob b bob.test * :Bob", ":irc.test 318 Alice bob :End")
        assert await told == "Bob is Bob (b@bob.test)."
        told = tasks.create_task(say("list *ne*", relay, puppet))
        await peer.expect("LIST")
        peer.say(":irc.test 322 Alice #one-of-old 9 :old", ":irc.test 323 Alice :End of LIST")
        peer.say(":irc.test 322 Alice #new 2 :of now", ":irc.test 323 Alice :End of LIST")
        assert await told == "#new (2): of now"


async def test_where_the_server_knows_no_userhost_it_is_asked_who_somebody_is() -> None:
    async with a_listener() as (relay, _, peer, _), asyncio.TaskGroup() as tasks:
        for nick in ("bob", "eve"):
            peer.answers[f"USERHOST {nick}"] = ":irc.test 421 trestle USERHOST :Unknown command"
        banned = tasks.create_task(say("ban bob", relay, channel="#room"))
        await peer.expect("WHOIS bob")
        peer.say(":irc.test 311 trestle Bob b bob.test * :Bob", ":irc.test 318 trestle bob :End")
        assert await banned == "*!*@bob.test is banned from #room."
        failing = tasks.create_task(refused("ban eve", relay, "#room"))
        await peer.expect("WHOIS eve")
        peer.say(":irc.test 401 trestle eve :No such nick", ":irc.test 318 trestle eve :End")
        assert "there is nobody called eve" in await failing


async def test_who_somebody_is_is_said_by_what_the_server_says_of_that_nick() -> None:
    async with a_puppet() as (_, relay, puppet, _, peer), asyncio.TaskGroup() as tasks:
        asked = tasks.create_task(refused("whois gone", relay, "", puppet))
        await peer.expect("WHOIS gone")
        peer.say(":irc.test 401 Alice gone :No such nick", ":irc.test 318 Alice gone :End")
        assert "there is nobody of that name" in await asked
        told = tasks.create_task(say("whois bob", relay, puppet))
        await peer.expect("WHOIS bob")
        # The rest of the answer before, in which somebody else is.
        peer.say(":irc.test 311 Alice eve e eve.test * :Eve")
        peer.say(
            ":irc.test 311 Alice Bob b bob.test * :\x02Bob", ":irc.test 319 Alice Bob :@#\x1dy"
        )
        peer.say(":irc.test 318 Alice bob :End")
        assert await told == "Bob is Bob (b@bob.test); in @#y."


async def test_a_reconnect_that_did_not_come_about_may_be_said_again_at_once() -> None:
    async with a_puppet() as (server, relay, puppet, _, peer), asyncio.TaskGroup() as tasks:
        given_up = tasks.create_task(say("reconnect", relay, puppet))
        await peer.expect("QUIT")
        second = await server.accept()
        given_up.cancel()
        await second.welcome()
        async with puppet.at_hand():
            pass
        told = tasks.create_task(say("reconnect", relay, puppet))
        await second.expect("QUIT")
        third = await server.accept()
        await third.welcome()
        assert (await told).startswith("You are connected anew, as Alice on")
        assert "once a minute" in await refused("reconnect", relay, "", puppet)


@pytest.mark.parametrize(
    ("refusal", "is_relays_turn"),
    [
        ("482 {nick} #room :You're not channel operator", True),
        ("442 {nick} #room :You're not on that channel", True),
        ("441 {nick} bob #room :They aren't on that channel", False),
    ],
)
async def test_what_a_persons_own_connection_may_not_do_the_relay_does_and_nothing_else(
    refusal: str, is_relays_turn: bool
) -> None:
    async with scripted_server() as server:
        network = Network(server.port)
        async with (
            listening(server, network, "bob Alice") as (relay, _, relays, _),
            speaking(server, network) as (alice, _, own, _),
            asyncio.TaskGroup() as tasks,
        ):
            await synced(own)
            own.answers["KICK #room bob loud"] = f":irc.test {refusal}"
            told = tasks.create_task(
                say("kick bob loud", relay, alice, "#room")
                if is_relays_turn
                else refused("kick bob loud", relay, "#room", alice)
            )
            await own.expect("KICK #room bob loud")
            if is_relays_turn:
                await relays.expect(f"KICK #room bob :loud ({user_id('Alice')})")
                assert await told == "bob is out of #room."
            else:
                assert "aren't on that channel" in await told
                await synced(relays)
                assert not any(one.startswith("KICK") for one in relays.heard)


def banned(peer: Peer, *hosts: str) -> None:
    """Say which hosts the room bans."""
    peer.say(*(f":irc.test 367 trestle #room *!*@{host}" for host in hosts))
    peer.say(":irc.test 368 trestle #room :End")


@pytest.mark.parametrize(
    ("said", "written"),
    [
        ("topic tea at five", "TOPIC #room :tea at five"), ("kick bob", "KICK #room bob"),
        ("ban *!*@h", "MODE #room +b *!*@h"), ("op bob", "MODE #room +o bob"),
        ("mode +m", "MODE #room +m"), ("invite carl", "INVITE carl #room"),
    ],
)  # fmt: skip
async def test_of_what_was_written_and_not_answered_nobody_says_that_it_was_not_done(
    said: str, written: str
) -> None:
    async with a_listener(join_seconds=2) as (relay, _, peer, _), asyncio.TaskGroup() as tasks:
        await settled(peer)
        told = tasks.create_task(unanswered(DeliveryUncertain, said, relay))
        await peer.expect(written)
        assert "did not answer within 2 seconds" in await told


@pytest.mark.parametrize(
    ("said", "written", "kind"),
    [("topic tea", "TOPIC #room tea", DeliveryUncertain),
     ("names", "NAMES #room", TemporaryFailure)],
)  # fmt: skip
async def test_where_the_connection_breaks_a_change_may_be_done_and_a_question_is_asked_again(
    said: str, written: str, kind: type[Exception]
) -> None:
    async with a_listener() as (relay, _, peer, _), asyncio.TaskGroup() as tasks:
        await settled(peer)
        told = tasks.create_task(unanswered(kind, said, relay))
        await peer.expect(written)
        peer.close()
        assert "broke" in await told


async def test_what_was_written_may_be_done_where_the_connection_breaks_before_its_ping() -> None:
    async with scripted_server() as server:
        network = Network(server.port, flood_burst=8, flood_rate=0.5)
        async with (
            listening(server, network) as (relay, _, peer, _),
            asyncio.TaskGroup() as tasks,
        ):
            await settled(peer)
            async with relay.at_hand() as (connection, _, _):
                while connection.answer(line("PING", "room")):
                    pass
            told = tasks.create_task(unanswered(DeliveryUncertain, "topic tea", relay))
            await peer.expect("TOPIC #room tea")
            # Flood control has no room for the PING after it.
            peer.close()
            assert "broke" in await told


async def unanswered(kind: type[Exception], said: str, relay: IrcClient) -> str:
    """Say it in #room; give why it failed in that way."""
    with pytest.raises(kind) as caught:
        await say(said, relay, channel="#room")
    return str(caught.value)
