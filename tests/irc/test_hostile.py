"""Servers and people that mean ill: what they say ends no connection and fills no memory."""

import asyncio
import logging
import random
import time
from itertools import pairwise

import pytest

from bridge.demo.matrix_user import PATIENCE
from bridge.networks.irc.channels.members import MOST_MEMBERS
from bridge.networks.irc.connections.connection import MOST_HELD
from bridge.networks.irc.connections.delivery import Deliveries
from bridge.networks.irc.connections.sending import Means
from bridge.networks.irc.protocol.isupport import MOST_TOKENS, Isupport
from bridge.networks.irc.protocol.offers import Offers
from bridge.networks.irc.wire import Incoming, line
from bridge.sdk.errors import ModuleNotReady
from bridge.sdk.events import RemoteMembers, RemoteMessage
from tests.irc.stage import (
    NOW,
    Network,
    a_listener,
    a_speaker,
    chat,
    listening,
    message,
    outcome,
    running,
    speaking,
    synced,
)
from tests.rigs.scale import chance, scaled
from tests.rigs.scripted_irc import scripted_server

CAPABILITIES = (
    "message-tags batch draft/multiline=max-bytes=4000 server-time "
    "account-tag extended-join chghost setname away-notify invite-notify cap-notify "
    "draft/chathistory draft/message-redaction"
)
ANSWERS = "echo-message labeled-response"
STRANGE = [
    f"PING :{'x' * 507}",
    ":!u@h PRIVMSG {nick} :hello",
    ":!u@h INVITE {nick} #elsewhere",
    ":{nick}!u@h JOIN",
    ":{nick}!u@h JOIN :",
    ":{nick}!u@h JOIN :#one two",
    ":eve!e@h PRIVMSG {nick} :\x01PING\x01",
    f":{'e' * 500}!e@h PRIVMSG {{nick}} :hello",
    ":eve!e@h PRIVMSG",
    ":!u@h PRIVMSG {nick} :help",
    f":{'e' * 199}!e@h PRIVMSG {{nick}} :help",
    f":{'e' * 199}!e@h PRIVMSG {{nick}} :optout",
    f":eve!e@h PRIVMSG {{nick}} :status #{'é' * 190}",
    ":bob!b@h NICK",
    ":bob!b@h NICK :b o b",
    ":{nick}!u@h NICK :b o b",
]


@pytest.mark.parametrize("strange", STRANGE)
async def test_a_line_that_cannot_be_answered_is_passed_over(strange: str) -> None:
    async with a_listener() as (_, host, peer, run):
        peer.say(strange, ":bob!b@h PRIVMSG #room :still here")
        await host.wait_until(lambda one: bool(one.of(RemoteMessage)) or run.ended.is_set())
        assert host.texts == ["bob: still here"]


async def test_many_such_lines_are_one_line_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        async with a_listener() as (_, host, peer, _):
            peer.say(*[STRANGE[0], STRANGE[1]] * 20, ":bob!b@h PRIVMSG #room :still here")
            await host.wait_for(RemoteMessage)
    told = [one.getMessage() for one in caplog.records if "passed over" in one.getMessage()]
    assert len(told) == 1
    assert "A line (PING) from 127.0.0.1" in told[0]


@pytest.mark.parametrize("means", [Means.LABELS, Means.LABELS_AND_ECHO])
async def test_an_error_that_says_nothing_refuses_the_line_of_its_label(means: Means) -> None:
    deliveries = Deliveries("irc.test")
    deliveries.use(means)
    sending = deliveries.begin("#room", 1)
    label = deliveries.speak(sending, line("PRIVMSG", "#room", "hello")).tags[0][1]
    deliveries.finish(sending)
    deliveries.hear(Incoming("499", tags={"label": label}), own=False, fold=str.lower)
    assert str(sending.refusal).startswith("irc.test ")


@pytest.mark.parametrize("said", ["005 {nick} HOSTLEN=8192 USERLEN=8192 :", "396 {nick} {host} :"])
async def test_a_host_of_any_length_leaves_a_line_or_is_refused(said: str) -> None:
    async with a_speaker() as (alice, _, peer, _):
        peer.say(f":irc.test {said.replace('{host}', 'h' * 600)}hidden")
        await synced(peer)
        async with asyncio.TaskGroup() as tasks:
            saying = tasks.create_task(outcome(alice, "#room", "hello " * 100))
            if "396" in said:
                assert "no room for a text" in str(await saying)
            else:
                await peer.expect("PRIVMSG #room :hello")
                assert await saying is None


def _words(*rows: str) -> list[str]:
    return " ".join(rows).split()


def strange_line(dice: random.Random) -> str:
    """A line of a known command with whatever parameters, from whomever."""
    commands = _words(
        "PING PONG JOIN PART KICK QUIT NICK MODE TOPIC PRIVMSG NOTICE TAGMSG INVITE CAP BATCH",
        "ACCOUNT AWAY CHGHOST SETNAME REDACT FAIL WARN 005 311 315 318 319 324 329 330 332 333",
        "352 353 354 366 367 368 381 396 401 403 404 433 437 442 470 471 473 474 475 477 482",
        "600 716 730 731 732 733 734 900 903 904 001 221 301 305 306 331 341 376 422",
    )
    words = _words(
        "{nick} #room #ROOM #other bob Bob eve * +o -o +ovb +k -k +b-b ACK NEW DEL LS +a -a +b",
        "draft/multiline netsplit chathistory = @ @bob +bob!b@h *!*@* 0 1 99999999999999999999",
        "CASEMAPPING=ascii -CASEMAPPING NICKLEN=0 PREFIX=( CHANMODES= MONITOR=x : :: [] é",
    )
    sources = ("", "", ":", ":! ", ":bob!b@h ", ":eve!e@h ", ":{nick}!u@h ", ":irc.test ", ":@ ")
    tags = ("", "", "@batch=a ", "@batch=b;msgid=1 ", "@label=t ", "@time=never;account= ", "@ ")
    count = dice.randrange(5)
    params = [dice.choice(words) for _ in range(count)]
    if count and dice.random() < 0.5:
        params[-1] = f":{dice.choice(words)} {dice.choice(words)}"
    source = dice.choice(sources)
    said = " ".join([dice.choice(commands), *params])
    return f"{dice.choice(tags)}{source}{said}"


@pytest.mark.parametrize("is_relay", [True, False], ids=["relay", "puppet"])
async def test_no_line_of_any_shape_ends_a_connection(is_relay: bool) -> None:
    dice, cases = chance(f"strange {is_relay}"), scaled(100_000)
    async with scripted_server() as server:
        network = Network(server.port)
        connected = (
            listening(server, network, capabilities=f"{CAPABILITIES} {ANSWERS}")
            if is_relay
            else speaking(server, network, capabilities=CAPABILITIES)
        )
        async with connected as (_, _, peer, run):
            for number in range(cases):
                peer.say(said := strange_line(dice))
                if number % 20 == 19:
                    peer.say(f"PING :mark{number}")
                    await peer.expect(f"PONG mark{number}")
                    assert not run.ended.is_set(), said


async def test_a_server_that_asks_for_ever_and_reads_nothing_is_left() -> None:
    async with a_listener() as (_, _, peer, run):
        peer.stop_reading()
        async with asyncio.timeout(PATIENCE):
            while not (run.ended.is_set() or peer.ended.is_set()):
                peer.say(*[f"PING :{'x' * 500}"] * 500)
                await peer.drain()
        await run.wait_for_error()
    assert isinstance(run.error, ModuleNotReady)
    assert "does not read what is written to it" in str(run.error)


@pytest.mark.parametrize(
    ("capabilities", "said"),
    [
        ("", ":irc.test NOTICE * x"),
        ("", f":irc.test NOTICE * {'x' * 4000}"),
        # What bears the time of the moment is no playback.
        (
            "message-tags server-time",
            f"@time={NOW:%Y-%m-%dT%H:%M:%S}.000Z :eve!e@h PRIVMSG {{nick}} :x",
        ),
    ],
)
async def test_a_server_that_says_anything_but_what_was_asked_is_left(
    capabilities: str, said: str
) -> None:
    async with scripted_server() as server:
        relay, _ = Network(server.port).relay()
        async with running(relay) as run:
            peer = await server.accept()
            peer.pong = None
            await peer.welcome(capabilities=capabilities)
            peer.stays = True
            async with asyncio.timeout(PATIENCE):
                while not (run.ended.is_set() or peer.ended.is_set()):
                    peer.say(*[said] * 500)
                    await peer.drain()
            await run.wait_for_error()
        assert isinstance(run.error, ModuleNotReady)
        assert "said too much before it answered a PING" in str(run.error)


@pytest.mark.parametrize(
    ("first", "tags"),
    [
        ("BATCH +p znc.in/playback #room", "@batch=p "),
        ("BATCH +p chathistory #room", "@batch=p;time=2026-11-20T10:00:00.000Z "),
        ("NOTICE * :Playback", "@time=2026-11-20T10:00:00.000Z "),
    ],
)
async def test_a_bouncer_that_says_much_again_before_it_answers_is_no_such_server(
    first: str, tags: str
) -> None:
    async with scripted_server() as server:
        puppet, _ = Network(server.port).puppet("Alice")
        async with running(puppet) as run, asyncio.TaskGroup() as tasks:
            sent = tasks.create_task(puppet.send(message("#room", "hi")))
            peer = await server.accept()
            peer.pong = None
            await peer.welcome(capabilities="batch message-tags server-time")
            marker = (await peer.expect("PING ")).removeprefix("PING ")
            peer.say(f":irc.test {first}")
            for _ in range(0, MOST_HELD + 2000, 1000):
                peer.say(*[f"{tags}:bob!b@h PRIVMSG #room :said before"] * 1000)
                await peer.drain()
            await peer.admit()
            # What comes after the playback is read, too.
            peer.say(f":irc.test PONG irc.test :{marker}")
            await peer.expect("PRIVMSG #room :hi")
            marker = (await peer.expect("PING ")).removeprefix("PING ")
            peer.say(f":irc.test PONG irc.test :{marker}")
            await sent
            assert not run.ended.is_set()


async def test_a_server_that_lists_people_without_end_is_left() -> None:
    async with a_listener() as (relay, _, peer, run), asyncio.TaskGroup() as tasks:
        again = tasks.create_task(relay.join(chat("#other")))
        await peer.expect("JOIN #other")
        peer.say(":{nick}!u@h JOIN #other")
        await again
        for start in range(0, MOST_MEMBERS + 2000, 2000):
            names = " ".join(f"{number:x}" for number in range(start, start + 2000))
            peer.say(f":irc.test 353 {{nick}} = #other :{names}")
            await peer.drain()
        error = await run.wait_for_error()
        assert isinstance(error, ModuleNotReady)
        assert "people in the channels" in str(error)


def test_what_a_server_says_of_itself_without_end_is_not_kept() -> None:
    limits = Isupport()
    for number in range(0, 5000, 10):
        limits = limits.with_tokens(f"T{one}=x" for one in range(number, number + 10))
    assert len(limits.tokens) == MOST_TOKENS
    limits = limits.with_tokens(["T1=y", "-T2", "NICKLEN=20", f"CHANMODES={'b' * 9000}"])
    assert (limits.tokens["T1"], limits.nick_length, len(limits.tokens)) == ("y", 20, MOST_TOKENS)
    assert limits.channel_modes == Isupport().channel_modes


def test_what_a_server_offers_and_nobody_wants_is_not_kept() -> None:
    offers = Offers()
    for number in range(5000):
        offers.learn(f"example.org/{number} batch SASL=PLAIN")
        offers.take(f"example.org/{number} batch")
    assert offers.values == {"batch": "", "sasl": "PLAIN"}
    assert offers.held == {"batch"}


async def test_however_much_a_server_says_at_once_others_have_their_turn() -> None:
    async with a_listener() as (_, host, peer, _), asyncio.TaskGroup() as tasks:
        told: list[int] = []

        async def take_turns() -> None:
            while True:
                told.append(len(host.events))
                await asyncio.sleep(0)

        turns = tasks.create_task(take_turns())
        peer.say_bytes(b"".join(b":p%d!u@h JOIN #room\r\n" % one for one in range(20_000)))
        await host.wait_until(lambda one: len(one.events) >= 20_000)
        turns.cancel()
    assert max(later - sooner for sooner, later in pairwise(told)) < 2500


async def test_names_that_no_line_could_hold_are_nobodys() -> None:
    long = "x" * 600
    async with a_listener("bob") as (relay, host, peer, _):
        relay.list_again(chat("#room"))
        peer.say(
            f":irc.test 353 {{nick}} = #room :{{nick}} @bob @{long} eve!e@{long}",
            ":irc.test 366 {nick} #room :End",
            f":bob!b@h NICK {long}",
            f":bob!b@h MODE #room +o {long}",
            f":bob!b@h KICK #room {long}",
            ":bob!b@h PRIVMSG #room :still here",
        )
        await host.wait_for(RemoteMessage)
    assert [one.name for one in host.of(RemoteMembers)[-1].users] == ["bob"]
    assert not [one for one in host.events if long in str(one)]


async def test_a_server_that_gives_us_other_nicks_without_end_takes_no_time() -> None:
    async with a_listener() as (_, host, peer, _):
        began = time.process_time()
        for number in range(5000):
            peer.say(f":{{nick}}!u@h NICK me{number}", f":me{number}!u@h NICK {{nick}}")
        peer.say(":bob!b@h PRIVMSG #room :still here")
        await host.wait_for(RemoteMessage)
    # Once it grew with the square of the nicks: eight seconds, of the processor alone.
    assert (took := time.process_time() - began) < 4.0, took
