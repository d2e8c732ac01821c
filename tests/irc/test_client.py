"""The client against a scripted server: what real ones do rarely, and at a bad moment."""

import asyncio
import base64
from datetime import UTC, datetime

import pytest

from bridge.demo.processes import free_port
from bridge.networks.irc.client.client import IrcClient
from bridge.sdk.errors import (
    DeliveryUncertain,
    LoginRequired,
    ModuleNotReady,
    PermanentFailure,
    TemporaryFailure,
)
from bridge.sdk.events import (
    RemoteJoin,
    RemoteLeave,
    RemoteMembers,
    RemoteMessage,
    RemoteRename,
)
from bridge.sdk.login import LoginState
from bridge.sdk.rich import Mention, Rich, Text
from tests.irc.stage import (
    NOW,
    Network,
    a_listener,
    a_speaker,
    chat,
    listening,
    message,
    refusal_of_join,
    running,
    speaking,
    synced,
    until,
    user_id,
)
from tests.rigs.scripted_irc import scripted_server


async def test_an_invitation_into_whatever_is_answered_by_one_line_or_not_at_all() -> None:
    async with a_listener() as (_, _, peer, run):
        peer.say(":eve!e@h INVITE {nick} den", f":mallory!m@h INVITE {{nick}} #{'a' * 440}")
        peer.say(f":bob!b@h INVITE {{nick}} #{'a' * 190}")
        await peer.expect("NOTICE bob :")
        assert not any(one.startswith(("NOTICE eve", "NOTICE mallory")) for one in peer.heard)
        assert not run.ended.is_set()


async def test_a_puppet_connects_with_its_first_message_and_not_before() -> None:
    async with scripted_server() as server:
        alice, host = Network(server.port).puppet("Alice")
        async with running(alice):
            await host.wait_until(lambda one: bool(one.states))
            assert host.states == [(LoginState.STARTING, "It connects with the next message.")]
            assert not server.peers
        async with speaking(server, Network(server.port)) as (_, _, peer, _):
            assert "USER alice 0 * :@alice:example.org (Trestle, a bridge to Matrix)" in peer.heard


async def test_a_first_connection_takes_the_full_name_once_the_limit_is_known() -> None:
    async with scripted_server() as server:
        network = Network(server.port)
        async with speaking(server, network, "Alexandrine") as (_, _, peer, _):
            assert "NICK Alexandri" in peer.heard
            assert "NICK Alexandrine" in peer.heard
        async with speaking(server, network, "Alexandrine") as (_, _, peer, _):
            assert [one for one in peer.heard if one.startswith("NICK")] == ["NICK Alexandrine"]


async def test_a_server_that_falls_silent_is_left() -> None:
    async with scripted_server() as server:
        network = Network(server.port, ping_seconds=0.5, ping_timeout_seconds=5)
        async with listening(server, network) as (_, host, peer, run):
            peer.pong = None
            await peer.expect("PING")
            error = await run.wait_for_error()
            assert isinstance(error, ModuleNotReady)
            assert "no sign of life for 5.5 seconds" in str(error)
            assert host.states[-1][0] is LoginState.RECONNECTING


async def test_an_answer_to_our_ping_keeps_the_connection() -> None:
    async with scripted_server() as server:
        network = Network(server.port, ping_seconds=0.05, ping_timeout_seconds=5)
        async with listening(server, network) as (_, _, peer, run):
            peer.pong = None
            for _ in range(3):
                peer.say("PONG :" + (await peer.expect("PING ")).removeprefix("PING "))
            assert not run.ended.is_set()


async def test_a_server_that_does_not_let_us_in_is_left_in_time() -> None:
    async with scripted_server() as server:
        relay, _ = Network(server.port, connect_seconds=5).relay()
        async with running(relay) as run:
            error = await run.wait_for_error()
    assert "did not let us in within 5 seconds" in str(error)


async def test_nobody_at_home_is_a_sentence() -> None:
    port = free_port()
    relay, _ = Network(port).relay()
    async with running(relay) as run:
        error = await run.wait_for_error()
    assert isinstance(error, ModuleNotReady)
    assert f"127.0.0.1:{port} cannot be reached: Connection refused" in str(error)


@pytest.mark.parametrize(
    ("said", "kind"),
    [("K-Lined: spam", LoginRequired), ("Server shutting down", ModuleNotReady)],
)
async def test_the_servers_last_words_decide_what_comes_next(said: str, kind: type) -> None:
    async with a_speaker() as (alice, _, peer, run):
        peer.say(f"ERROR :Closing Link: {said}")
        peer.close()
        error = await run.wait_for_error()
        assert isinstance(error, kind)
        assert said in str(error)
        expected = PermanentFailure if kind is LoginRequired else TemporaryFailure
        with pytest.raises(expected, match=said):
            await alice.send(message("#room", "anybody there?"))


async def test_sasl_signs_the_relay_in() -> None:
    async with scripted_server() as server:
        relay, host = Network(server.port, sasl_account="acc", sasl_password="pw").relay()
        async with running(relay):
            peer = await server.accept()
            await peer.expect("USER")
            peer.say(":irc.test CAP * LS :sasl=PLAIN server-time")
            await peer.expect("CAP REQ")
            peer.say(":irc.test CAP * ACK :sasl server-time")
            await peer.expect("AUTHENTICATE PLAIN")
            peer.say("AUTHENTICATE +")
            token = (await peer.expect("AUTHENTICATE")).removeprefix("AUTHENTICATE ")
            assert base64.b64decode(token) == b"acc\0acc\0pw"
            peer.say(":irc.test 903 * :SASL successful")
            await peer.expect("CAP END")
            peer.let_in()
            await host.wait_until_connected()


async def test_a_refused_account_asks_a_person_and_is_not_tried_without() -> None:
    async with scripted_server() as server:
        relay, host = Network(server.port, sasl_account="acc", sasl_password="pw").relay()
        async with running(relay) as run:
            peer = await server.accept()
            await peer.expect("USER")
            peer.say(":irc.test CAP * LS :sasl")
            await peer.expect("CAP REQ")
            peer.say(":irc.test CAP * ACK :sasl")
            await peer.expect("AUTHENTICATE PLAIN")
            peer.say(":irc.test 904 * :SASL authentication failed")
            error = await run.wait_for_error()
            await peer.expect("QUIT")
    assert isinstance(error, LoginRequired)
    assert "refused the account acc: SASL authentication failed" in str(error)
    assert not host.states


async def test_ids_and_times_of_the_network_are_used_where_it_has_them() -> None:
    async with scripted_server() as server:
        async with listening(server, Network(server.port)) as (_, host, peer, _):
            peer.say("@msgid=abc;time=2026-11-23T10:00:00.500Z :bob!b@h PRIVMSG #ROOM :one")
            peer.say("@time=nonsense :bob!b@h PRIVMSG #room :two", ":bob!b@h PRIVMSG #room :three")
            one, two, three = await host.wait_for(RemoteMessage, 3)
        assert (one.id, one.at) == ("abc", datetime(2026, 11, 23, 10, 0, 0, 500_000, UTC))
        assert two.id != three.id
        assert (two.at, three.at) == (NOW, NOW)


async def test_what_is_not_for_the_room_stays_out_of_it() -> None:
    async with a_listener() as (_, host, peer, _):
        peer.say(
            ":bob!b@h PRIVMSG @#room :for operators only",
            ":bob!b@h NOTICE +#room :for those with a voice",
            ":bob!b@h PRIVMSG #other :another channel",
            ":irc.test NOTICE #room :the server speaks",
            ":bob!b@h PRIVMSG #room :\x01VERSION\x01",
            ":bob!b@h NOTICE #room :\x01VERSION secret client\x01",
            ":bob!b@h PRIVMSG #room :\x02\x02",
            ":bob!b@h PRIVMSG",
            ":trestle!t@h PRIVMSG #room :an echo of ours",
            "@only-tags",
            ":only-source",
            ":bob!b@h PRIVMSG #room :heard",
        )
        await host.wait_for(RemoteMessage)
        assert host.texts == ["bob: heard"]
        # Nor is a question to all of a channel answered.
        await synced(peer)
        assert not any(one.startswith("NOTICE") for one in peer.heard)


async def test_what_another_relay_says_for_somebody_is_theirs_if_it_is_known_as_one() -> None:
    async with scripted_server() as server:
        network = Network(server.port, relays=["Tele[gram"])
        async with listening(server, network) as (_, host, peer, _):
            for nick, text in (
                ("tele{gram", "<Ann> hi"), ("tele{gram", "no name"), ("bob", "<Ann> hi"),
            ):  # fmt: skip
                peer.say(f":{nick}!b@h PRIVMSG #room :{text}")
            said = await host.wait_for(RemoteMessage, 3)
        assert [one.profile.name if one.profile else None for one in said] == ["Ann", None, None]
        assert host.texts == ["tele{gram: hi", "tele{gram: no name", "bob: <Ann> hi"]


async def test_private_messages_are_answered_once_and_questions_about_us_briefly() -> None:
    async with a_speaker(private_messages=False) as (_, _, peer, _):
        peer.say(":bob!b@h PRIVMSG alice :hi", ":BOB!b@h PRIVMSG Alice :\x01ACTION pokes\x01")
        peer.say(":bob!b@h NOTICE Alice :never answered", ":irc.test PRIVMSG Alice :nor this")
        peer.say(":bob!b@h PRIVMSG Alice :\x01PING 12 3\x01", ":eve!e@h PRIVMSG Alice :hi")
        peer.say(":bob!b@h PRIVMSG Alice :\x01VERSION\x01", ":bob!b@h PRIVMSG Alice :\x01TIME\x01")
        await synced(peer)
    notices = [one for one in peer.heard if one.startswith("NOTICE")]
    assert [one.split(" ")[1] for one in notices] == ["bob", "bob", "eve", "bob", "bob"]
    assert "Private messages are not carried" in notices[0]
    assert notices[1] == "NOTICE bob :\x01PING 12 3\x01"
    assert notices[3].startswith("NOTICE bob :\x01VERSION Trestle")
    assert notices[4] == "NOTICE bob :\x01TIME 2026-11-23T12:00:00Z\x01"


async def test_of_a_netsplit_that_ends_the_room_sees_nothing() -> None:
    people = [f"p{number}" for number in range(300)]
    async with a_listener(" ".join(people)) as (_, host, peer, _):
        peer.say(*(f":{one}!u@h QUIT :a.test b.test" for one in people))
        peer.say(*(f":{one}!u@h JOIN #room" for one in people))
        peer.say(":new!u@h JOIN #room", ":p0!u@h QUIT :Quit: a.test b.test")
        await host.wait_for(RemoteLeave)
    assert [one.user.id for one in host.of(RemoteJoin)] == ["new"]
    assert [one.user.id for one in host.of(RemoteLeave)] == ["p0"]


async def test_who_does_not_come_back_after_a_netsplit_goes_later() -> None:
    async with scripted_server() as server:
        network = Network(server.port, netsplit_seconds=0.05)
        async with listening(server, network, "bob eve") as (_, host, peer, _):
            peer.say(":bob!u@h QUIT :*.net *.split", ":eve!u@h QUIT :*.net *.split")
            leaves = await host.wait_for(RemoteLeave, 2)
            assert {one.user.id for one in leaves} == {"bob", "eve"}
            peer.say(":bob!u@h JOIN #room")
            await host.wait_for(RemoteJoin)


async def test_whose_name_another_has_after_a_netsplit_goes_without_a_word() -> None:
    async with scripted_server() as server:
        network = Network(server.port, netsplit_seconds=2)
        async with listening(server, network, "bob eve dora carl") as (relay, host, peer, _):
            for nick in ("bob", "dora"):
                peer.say(f":{nick}!u@h QUIT :a.test b.test")
            # The ghost in the room is the other's now.
            peer.say(":eve!u@h NICK bob", ":carl!u@h QUIT :a.test b.test")
            await synced(peer)
            ears = relay._ears
            assert ears is not None
            assert len(ears.splits._held) == 2
            await until(lambda: len(host.of(RemoteLeave)) >= 2 and not ears.splits._held)
            assert {one.user.id for one in host.of(RemoteLeave)} == {"carl", "dora"}


async def test_our_own_people_are_no_guests_of_the_room_whatever_they_do() -> None:
    async with scripted_server() as server:
        network = Network(server.port)
        async with (
            speaking(server, network) as (_, _, alices, _),
            listening(server, network, "@bob +Alice") as (_, host, peer, _),
        ):
            # The listener may see the new nick before its owner does, or after.
            peer.say(":Alice!Alice@h NICK Ally", ":Ally!Alice@h PRIVMSG #room :mine")
            alices.say(":Alice!Alice@h NICK Ally")
            await synced(alices)
            peer.say(":Ally!Alice@h PART #room", ":Ally!Alice@h JOIN #room")
            alices.say(":Ally!Alice@h NICK Alma")
            await synced(alices)
            peer.say(":Ally!Alice@h PRIVMSG #room :late", ":Ally!Alice@h NICK Alma")
            peer.say(":Alma!Alice@h PRIVMSG #room :mine", ":Alma!Alice@h QUIT :bye")
            peer.say(":Alice!stranger@h JOIN #room", ":Alice!stranger@h PRIVMSG #room :I am new")
            await host.wait_for(RemoteMessage)
        assert host.texts == ["Alice: I am new"]
        assert [user.id for user in host.of(RemoteMembers)[0].users] == ["bob"]
        assert [one.user.id for one in host.of(RemoteJoin)] == ["alice"]
        assert not host.of(RemoteLeave)
        assert not host.of(RemoteRename)


async def test_a_nick_that_services_force_on_a_puppet_is_still_ours() -> None:
    async with scripted_server() as server:
        network = Network(server.port)
        async with (
            speaking(server, network) as (alice, _, alices, _),
            listening(server, network, "Alice") as (_, host, peer, _),
        ):
            alices.say(":Alice!alice@client.test NICK Guest123")
            await synced(alices)
            peer.say(":Alice!alice@client.test NICK Guest123")
            peer.say(":Guest123!alice@client.test PRIVMSG #room :mine")
            peer.say(":bob!b@h PRIVMSG #room :done")
            await alice.send(message("#room", "still here"))
            await alices.expect("PRIVMSG #room :still here")
            await host.wait_for(RemoteMessage)
        assert host.texts == ["bob: done"]


async def test_being_sent_to_another_channel_is_refused_and_left() -> None:
    async with a_listener() as (relay, _, peer, _), asyncio.TaskGroup() as tasks:
        joining = tasks.create_task(refusal_of_join(relay, "#wanted"))
        await peer.expect("JOIN #wanted")
        peer.say(":irc.test 470 {nick} #wanted ##wanted :Forwarding to another channel")
        peer.say(":{nick}!t@h JOIN ##wanted")
        await peer.expect("PART ##wanted")
        assert "sends us to another channel" in await joining


async def test_a_join_without_an_answer_fails_for_now() -> None:
    async with scripted_server() as server:
        relay, host = Network(server.port, join_seconds=0.1).relay()
        async with running(relay):
            await (await server.accept()).welcome()
            await host.wait_until_connected()
            with pytest.raises(TemporaryFailure, match=r"did not answer the join of #mute"):
                await relay.join(chat("#mute"))


async def test_a_connection_that_breaks_while_joining_fails_for_now() -> None:
    async with a_listener() as (relay, _, peer, run), asyncio.TaskGroup() as tasks:
        joining = tasks.create_task(failure_of_join(relay, "#other"))
        await peer.expect("JOIN #other")
        peer.reset()
        assert "broke" in await joining
        await run.wait_for_error()


async def failure_of_join(client: IrcClient, name: str) -> str:
    with pytest.raises(TemporaryFailure) as caught:
        await client.join(chat(name))
    return str(caught.value)


async def test_after_a_reconnect_all_channels_are_joined_again_and_compared() -> None:
    async with scripted_server() as server, asyncio.TaskGroup() as tasks:
        network = Network(server.port)
        async with listening(server, network) as (relay, host, peer, run):
            peer.say(":bob!b@h PRIVMSG #room :last words")
            peer.reset()
            await run.wait_for_error()
            assert host.texts == ["bob: last words"]
            again = tasks.create_task(relay.run())
            other = await server.accept()
            await other.welcome()
            assert await other.admit("eve") == "#room"
            lists = await host.wait_for(RemoteMembers, 2)
            again.cancel()
    assert [[user.id for user in one.users] for one in lists] == [["bob"], ["eve"]]


async def test_after_a_ban_the_relay_does_not_knock_again() -> None:
    async with scripted_server() as server:
        network = Network(server.port, rejoin_seconds=0.01)
        async with listening(server, network) as (_, host, peer, _):
            peer.say(":op!o@h KICK #room {nick} :out")
            await peer.expect("JOIN #room")
            peer.say(":irc.test 474 {nick} #room :Cannot join channel (+b)")
            await host.wait_until(lambda one: "banned" in one.states[-1][1])
            heard = len(peer.heard)
            await synced(peer)
            assert peer.heard[heard:] == ["PONG sync"]


async def test_a_connection_that_breaks_between_two_lines_leaves_it_uncertain() -> None:
    async with scripted_server() as server:
        # Room for what was said to get there, and for the first line.
        network = Network(server.port, flood_burst=4, flood_rate=0.05)
        async with (
            speaking(server, network) as (alice, _, peer, run),
            asyncio.TaskGroup() as tasks,
        ):
            sending = tasks.create_task(failure_of(alice, "one\ntwo\nthree"))
            await peer.expect("PRIVMSG #room :one")
            peer.reset()
            await run.wait_for_error()
            error = await sending
    assert isinstance(error, DeliveryUncertain)
    assert "after 1 of 3 lines" in str(error)


async def failure_of(client: IrcClient, text: str) -> Exception:
    with pytest.raises((DeliveryUncertain, TemporaryFailure, PermanentFailure)) as caught:
        await client.send(message("#room", text))
    return caught.value


async def test_a_message_that_finds_no_connection_waits_for_another_try() -> None:
    async with scripted_server() as server:
        network = Network(server.port)
        async with speaking(server, network) as (alice, _, peer, run):
            peer.reset()
            await run.wait_for_error()
            error = await failure_of(alice, "hello?")
            assert isinstance(error, TemporaryFailure)
            assert error.retry_after
        never, _ = Network(server.port, connect_seconds=0.05).puppet("Bob")
        with pytest.raises(TemporaryFailure, match=r"not reached within 0.1 seconds"):
            await never.send(message("#room", "nobody runs me"))


async def test_a_message_that_is_empty_or_too_long_is_refused_whole() -> None:
    async with scripted_server() as server:
        network = Network(server.port, most_lines=3)
        async with speaking(server, network) as (alice, _, peer, _):
            for text in ("", "\n \n", "\x02\x01"):
                with pytest.raises(PermanentFailure, match="no text that IRC could show"):
                    await alice.send(message("#room", text))
            with pytest.raises(PermanentFailure, match="4 lines on IRC; at most 3"):
                await alice.send(message("#room", "1\n2\n3\n4"))
            for text in ("1\n" * 30_000, "x" * 60_000):
                with pytest.raises(PermanentFailure, match="over 6 lines on IRC; at most 3"):
                    await alice.send(message("#room", text))
            await alice.send(message("#room", "ok"))
            await peer.expect("PRIVMSG #room :ok")
        assert [one for one in peer.heard if one.startswith("PRIVMSG")] == [
            "PRIVMSG #room :first", "PRIVMSG #room :ok"
        ]  # fmt: skip


@pytest.mark.parametrize("text", ["a\rQUIT :x", "a\nQUIT :x", "\0QUIT", "\x01DCC\x01", "\u2028Q"])
async def test_no_message_makes_a_line_of_its_own(text: str) -> None:
    async with a_speaker() as (alice, _, peer, _):
        before = len(peer.heard)
        await alice.send(message("#room", Rich((Text(text),))))
        await synced(peer)
    *said, end = [one for one in peer.heard[before:] if not one.startswith("QUIT :The bridge")]
    assert end == "PONG sync"
    assert said
    assert all(one.startswith("PRIVMSG #room :") and "\x01" not in one for one in said)


async def test_a_mention_of_a_matrix_user_is_the_nick() -> None:
    async with scripted_server() as server:
        network = Network(server.port)
        async with speaking(server, network) as (alice, _, peer, _):
            mention = Mention(user_id("Alice"), "Alice the Great")
            await alice.send(message("#room", Rich((mention, Text(": hi")))))
            await peer.expect("PRIVMSG #room :Alice: hi")


async def test_the_relay_says_that_it_is_a_program_and_new_limits_are_learnt() -> None:
    async with scripted_server() as server:
        network = Network(server.port)
        relay, host = network.relay()
        async with running(relay):
            peer = await server.accept()
            await peer.welcome("NICKLEN=30 BOT=B")
            assert await peer.expect("MODE") == "MODE trestle +B"
            await host.wait_until_connected()
            peer.say(":irc.test 005 {nick} CASEMAPPING=ascii CHANTYPES=& :are supported")
            await synced(peer)
        found = await network.connector.find_chat("&Room[1]")
        assert found.id == "&room[1]"
