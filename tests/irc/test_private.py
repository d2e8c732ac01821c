"""What is answered to those who say something to one of us alone."""

import asyncio

import pytest

from bridge.demo.matrix_user import PATIENCE
from bridge.networks.irc.private.desk import WISHES
from bridge.networks.irc.private.once import FORGET_SECONDS, MOST, MOST_EACH, Once
from bridge.networks.irc.private.optouts import WORDS
from bridge.sdk.errors import PermanentFailure
from bridge.sdk.events import RemoteMessage
from tests.irc.commands import refused, say
from tests.irc.stage import (
    Network,
    a_listener,
    a_speaker,
    direct,
    list_names,
    listening,
    speaking,
    synced,
)
from tests.rigs.scripted_irc import Peer, scripted_server


def notices_to(peer: Peer, nick: str) -> list[str]:
    """What somebody was told."""
    start = f"NOTICE {nick} :"
    return [one.removeprefix(start) for one in peer.heard if one.startswith(start)]


async def test_help_says_each_word_of_the_relay_in_a_line_that_fits() -> None:
    async with a_listener("@olga", own_network=False, contact="c" * 100) as (_, host, peer, _):
        peer.say(":bob!b@h PRIVMSG {nick} : HELP me", ":bob!b@h PRIVMSG {nick} :help")
        await peer.expect("NOTICE bob :no ")
        # Asked again when it was said, it is said again.
        peer.say(":bob!b@h PRIVMSG {nick} :help")
        peer.heard.clear()
        await peer.expect("NOTICE bob :no ")
        said = notices_to(peer, "bob")
        words = {one.partition(" ")[0].rstrip(":") for one in said}
        assert words >= {*WISHES, *WORDS}
        assert len(said) == len(WISHES) + len(WORDS) + 2
        assert "Say /msg trestle and one of these. Contact: ccc" in said[0]
        assert all(len(one.encode()) <= 400 for one in peer.heard)
    assert host.wishes == []


async def test_on_the_admins_own_network_nobody_is_told_words_for_questions_never_asked() -> None:
    async with a_listener() as (_, _, peer, _):
        peer.say(":bob!b@h PRIVMSG {nick} :help")
        await peer.expect("NOTICE bob :unblock <the same>: ")
        await synced(peer)
    assert not [one for one in notices_to(peer, "bob") if one.startswith(("yes", "no"))]


async def test_strangers_who_ask_for_help_again_and_again_do_not_delay_an_operator() -> None:
    async with a_listener("@olga", flood_burst=5, flood_rate=5) as (_, _, peer, _):
        peer.say(*(f":s{n}!u@h{n % 30} PRIVMSG {{nick}} :help" for n in range(300)))
        await synced(peer)
        peer.say(":olga!o@h PRIVMSG {nick} :leave")
        await peer.expect("NAMES #room")
        list_names(peer, "@olga", olga="o@h")
        peer.heard.clear()
        await peer.expect("NOTICE olga :leave is done")
        await peer.expect("NOTICE olga :and more")
        helped = [one for one in peer.heard if not one.startswith("NOTICE olga")]
        assert len(helped) <= 10, helped


async def test_hello_is_answered_with_the_words_of_those_who_run_channels() -> None:
    async with scripted_server() as server:
        network = Network(server.port, private_messages=False, nick="carrier")
        async with listening(server, network) as (_, _, peer, _):
            peer.say(":bob!b@h PRIVMSG {nick} :hello", ":bob!b@h PRIVMSG {nick} :hello?")
            answer = await peer.expect("NOTICE bob :I am a connection to Matrix.")
            assert "status, leave, block, unblock. More: /msg carrier help" in answer
            async with speaking(server, network) as (_, _, own, _):
                own.say(":bob!b@h PRIVMSG Alice :help")
                assert "More: /msg carrier help" in await own.expect("NOTICE bob :I am a")
            await synced(peer)
            assert len(notices_to(peer, "bob")) == 1


async def test_one_answer_does_not_silence_another() -> None:
    async with a_listener() as (_, _, peer, _):
        peer.say(":bob!b@h PRIVMSG {nick} :hello", *[":bob!b@h INVITE {nick} #den"] * 2)
        peer.say(":bob!b@h INVITE {nick} #nook")
        await synced(peer)
        hello, den, nook = notices_to(peer, "bob")
        assert hello.startswith("I am a connection to Matrix")
        assert den.endswith("bridge test #den.")
        assert nook.endswith("bridge test #nook.")
        # Nobody can have us talk for ever.
        peer.say(*(f":bob!b@h INVITE {{nick}} #den{number}" for number in range(50)))
        await synced(peer)
        assert len(notices_to(peer, "bob")) == MOST_EACH


@pytest.mark.parametrize("own_network", [True, False])
async def test_who_invites_us_is_told_that_operators_are_asked_where_they_are(
    own_network: bool,
) -> None:
    async with a_listener(own_network=own_network) as (_, _, peer, _):
        peer.say(":bob!b@h INVITE {nick} #den")
        told = await peer.expect("NOTICE bob :")
        assert ("operators are asked" in told) != own_network


async def test_a_second_refusal_is_told_like_the_first() -> None:
    async with a_speaker() as (_, host, peer, _):
        whys = ("they take none", "they take none", "the room is shared")
        host.failures = [PermanentFailure(why) for why in whys]
        peer.say(*[":bob!b@h PRIVMSG Alice :hi"] * 4)
        await host.wait_for(RemoteMessage)
        await synced(peer)
        told = [one.partition(": ")[2] for one in notices_to(peer, "bob")]
        assert told == ["they take none.", "the room is shared."]


async def test_an_answer_for_which_there_was_no_room_is_given_the_next_time() -> None:
    async with (
        a_listener(flood_burst=1, flood_rate=2) as (_, _, peer, _),
        asyncio.timeout(PATIENCE),
    ):
        peer.say(*[":bob!b@h PRIVMSG {nick} :\x01PING 1\x01"] * 9)
        peer.say(":eve!e@h PRIVMSG {nick} :hello")
        await synced(peer)
        assert not notices_to(peer, "eve")
        while not notices_to(peer, "eve"):
            peer.say(":eve!e@h PRIVMSG {nick} :hello")
            await synced(peer)


def test_what_was_said_is_forgotten_after_an_hour_and_the_oldest_first() -> None:
    at = 0.0
    once = Once(lambda: at)

    def say(who: str, what: str) -> bool:
        may = once.may_say(who, what)
        if may:
            once.note(who, what)
        return may

    assert [say("bob", "a"), say("bob", "a"), say("bob", "b"), say("eve", "a")] == [
        True, False, True, True,
    ]  # fmt: skip
    at = FORGET_SECONDS + 1
    assert say("bob", "a")
    assert all(say(f"n{number}", "a") for number in range(MOST))
    assert say("bob", "a")
    assert not say(f"n{MOST - 1}", "a")


async def test_people_who_are_called_like_some_networks_services_are_heard() -> None:
    async with scripted_server() as server:
        network = Network(
            server.port,
            servers=[
                {"host": "127.0.0.1", "port": server.port, "tls": False},
                {"host": "irc.under.test"},
            ],
        )
        async with speaking(server, network) as (_, host, peer, _):
            peer.say(
                ":Q!TheQBot@CServe.quake.test NOTICE Alice :you are known",
                ":X!cservice@under.test NOTICE Alice :you too",
                ":ALIS!alis@services.libera.test NOTICE Alice :here is a list",
            )
            names = ("q", "X", "global", "alis")
            for nick in names:
                peer.say(f":{nick}!u@home.test PRIVMSG Alice :it is me")
            await synced(peer)
            assert direct(host) == [(one.lower(), "text", "it is me") for one in names]
        assert not notices_to(peer, "q")


async def test_who_has_a_name_of_services_is_told_that_it_is_not_carried() -> None:
    async with a_speaker() as (_, host, peer, _):
        peer.say(":GameServ!g@home.test NOTICE Alice :beep")
        peer.say(*[":GameServ!g@home.test PRIVMSG Alice :hi"] * 2)
        await synced(peer)
        assert direct(host) == []
    (told,) = notices_to(peer, "GameServ")
    assert "was not carried to Matrix: yours is a name of services" in told


async def test_clientinfo_names_what_is_answered_and_each_is() -> None:
    async with a_listener() as (_, _, peer, _):
        peer.say(":bob!b@h PRIVMSG {nick} :\x01CLIENTINFO\x01")
        answer = await peer.expect("NOTICE bob :\x01CLIENTINFO ")
        asked = answer.strip("\x01").split()[3:]
        assert asked == ["ACTION", "CLIENTINFO", "PING", "TIME", "VERSION"]
        for one in asked[1:]:
            peer.say(f":bob!b@h PRIVMSG {{nick}} :\x01{one.lower()}")
            await peer.expect(f"NOTICE bob :\x01{one}")
        peer.say(":bob!b@h PRIVMSG {nick} :\x01FINGER\x01", ":bob!b@h NOTICE {nick} :\x01TIME\x01")
        await synced(peer)
        assert len(notices_to(peer, "bob")) == 5


async def test_where_the_settings_let_nobody_only_services_are_written_to_alone() -> None:
    async with scripted_server() as server:
        network = Network(server.port, private_messages=False)
        async with (
            listening(server, network) as (relay, _, _, _),
            speaking(server, network) as (own, _, peer, _),
            asyncio.TaskGroup() as tasks,
        ):
            for said in ("msg bob hi", "autocommand msg bob hi"):
                assert "in their channels alone" in await refused(said, relay, "", own)
            saying = tasks.create_task(say("msg NickServ help", relay, own))
            await peer.expect("PRIVMSG NickServ :help")
            peer.say(":NickServ!n@services.test NOTICE {nick} :Say REGISTER")
            assert "NickServ: Say REGISTER" in await saying
            assert await say("autocommand msg NickServ help", relay, own)
            not_done: list[PermanentFailure] = []  # Kept from before.
            done = own.read_autocommands(
                "msg bob hi\nmsg NickServ help\nraw INFO\naway at lunch", not_done.append
            )
            assert [one.params for one in done] == [("NickServ", "help"), ("at lunch",)]
            assert len(not_done) == 2
        assert not [one for one in peer.heard if one.startswith("PRIVMSG bob")]
