"""A message is sent when the server has said that it read it, and not before."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.networks.irc.client.client import IrcClient
from bridge.networks.irc.connections.delivery import Deliveries
from bridge.networks.irc.connections.sending import Sending
from bridge.networks.irc.wire import Incoming, line
from bridge.sdk.errors import (
    DeliveryError,
    DeliveryUncertain,
    ModuleNotReady,
    PermanentFailure,
    TemporaryFailure,
)
from bridge.sdk.events import RemoteMessage
from tests.irc.stage import Network, Run, listening, outcome, running, speaking, synced
from tests.rigs.scale import examples
from tests.rigs.scripted_irc import Peer, scripted_server

Sent = asyncio.Task[DeliveryError | None]


@asynccontextmanager
async def one_on_its_way(
    *, channel: str = "#room", text: str = "hello", **settings: object
) -> AsyncIterator[tuple[Sent, str, Peer, Run, IrcClient]]:
    """Have said something that the server has read and not answered for: its PING is given."""
    async with scripted_server() as server:
        network = Network(server.port, **settings)
        async with (
            speaking(server, network) as (alice, _, peer, run),
            asyncio.TaskGroup() as tasks,
        ):
            if channel != "#room":
                entering = tasks.create_task(outcome(alice, channel, "I enter"))
                await peer.admit()
                await entering
            peer.pong = None
            sending = tasks.create_task(outcome(alice, channel, text))
            for one in text.split("\n"):
                await peer.expect(f"PRIVMSG {channel} :{one}")
            marker = (await peer.expect("PING ")).removeprefix("PING ")
            yield sending, marker, peer, run, alice


async def test_a_message_is_sent_when_the_server_says_that_it_was_read() -> None:
    async with one_on_its_way() as (sending, marker, peer, _, _):
        await synced(peer)
        assert not sending.done()
        peer.say(f":irc.test PONG irc.test :{marker}")
        assert await sending is None


@pytest.mark.parametrize(
    "pong",
    [
        ":irc.test PONG irc.test :{marker}",
        "PONG irc.test :{marker}",
        "PONG :{marker}",
        ":irc.test PONG {marker} irc.test",
        ":irc.test PONG irc.test :{MARKER}",
        ":irc.test PONG irc.test",
        "PONG",
    ],
)
async def test_a_pong_of_any_form_is_an_answer(pong: str) -> None:
    async with one_on_its_way() as (sending, marker, peer, _, _):
        peer.say(pong.replace("{marker}", marker).replace("{MARKER}", marker.upper()))
        assert await sending is None


async def test_what_only_looks_like_an_answer_is_none() -> None:
    async with one_on_its_way() as (sending, marker, peer, _, alice):
        peer.say(f":bob!b@h PONG alice :{marker}", f":bob!b@h PRIVMSG alice :PONG {marker}")
        await synced(peer)
        assert not sending.done()
        peer.say(f"PONG {marker}")
        assert await sending is None
        async with asyncio.TaskGroup() as tasks:
            again = tasks.create_task(outcome(alice, "#room", "next"))
            following = (await peer.expect("PING ")).removeprefix("PING ")
            peer.say(f"PONG {marker}")
            await synced(peer)
            assert not again.done()
            peer.say(f"PONG {following}")
            assert await again is None


@pytest.mark.parametrize(
    ("reply", "kind", "said"),
    [
        ("404 {nick} #room :Cannot send to channel (+m)", PermanentFailure, r"not let.*\(\+m\)"),
        (
            "401 {nick} #ROOM :No such nick or channel name",
            PermanentFailure,
            "no channel has that",
        ),
        ("486 {nick} :Cannot send to user (+b)", PermanentFailure, r"other side .*registered"),
        ("493 {nick} :You must share a channel", PermanentFailure, "shares no channel"),
        ("716 {nick} #room :is in +g mode", PermanentFailure, "#room did not take it: .*allowed"),
        ("403 {nick} #room :No such channel", PermanentFailure, "no such channel"),
        ("477 {nick} #room :You need a registered nick", PermanentFailure, "registered nicks"),
        ("439 {nick} #room :Target change too fast", TemporaryFailure, "slow down"),
        ("263 {nick} PRIVMSG :Try again", TemporaryFailure, "too busy"),
        ("412 {nick} :No text to send", PermanentFailure, "No text to send"),
        ("421 {nick} PRIVMSG :Unknown command", PermanentFailure, "Unknown command"),
        ("FAIL PRIVMSG RATE #room :Not from here", PermanentFailure, "Not from here"),
    ],
)
async def test_a_refusal_before_the_answer_is_the_messages(
    reply: str, kind: type[DeliveryError], said: str
) -> None:
    async with one_on_its_way() as (sending, marker, peer, run, alice):
        peer.say(f":irc.test {reply}")
        await synced(peer)
        assert not sending.done()
        peer.say(f"PONG {marker}")
        error = await sending
        assert type(error) is kind
        with pytest.raises(kind, match=said):
            raise error
        assert not run.ended.is_set()
        peer.pong = "PONG {marker}"
        assert await outcome(alice, "#room", "the next one is heard") is None


@pytest.mark.parametrize(
    "reply",
    [
        "404 {nick} #other :Cannot send to channel (+m)",
        "421 {nick} WHATEVER :Unknown command",
        "432 {nick} nick :Erroneous nickname",
        "FAIL JOIN NO #room :Not about this",
        # Of what shows that somebody writes, and of a deletion.
        "421 {nick} TAGMSG :Unknown command",
        "FAIL REDACT UNKNOWN_MSGID #room 123 :Too old",
    ],
)
async def test_a_refusal_of_something_else_is_not_the_messages(reply: str) -> None:
    async with one_on_its_way() as (sending, marker, peer, _, _):
        peer.say(f":irc.test {reply}", f"PONG {marker}")
        assert await sending is None


async def test_of_two_messages_on_their_way_the_refused_one_is_told() -> None:
    async with (
        one_on_its_way(channel="#other") as (first, marker, peer, _, alice),
        asyncio.TaskGroup() as tasks,
    ):
        second = tasks.create_task(outcome(alice, "#room", "me too"))
        await peer.expect("PRIVMSG #room :me too")
        following = (await peer.expect("PING ")).removeprefix("PING ")
        peer.say(":irc.test 404 {nick} #room :Cannot send to channel (+m)")
        peer.say(f"PONG {marker}")
        assert await first is None
        assert not second.done()
        peer.say(f"PONG {following}")
        assert isinstance(await second, PermanentFailure)


async def test_an_answer_to_a_later_question_answers_the_earlier_ones() -> None:
    async with (
        one_on_its_way(channel="#other") as (first, _, peer, _, alice),
        asyncio.TaskGroup() as tasks,
    ):
        second = tasks.create_task(outcome(alice, "#room", "me too"))
        following = (await peer.expect("PING ")).removeprefix("PING ")
        peer.say(f"PONG {following}")
        assert (await first, await second) == (None, None)


async def test_a_refusal_that_could_be_of_either_leaves_both_uncertain() -> None:
    async with (
        one_on_its_way(channel="#other") as (first, _, peer, _, alice),
        asyncio.TaskGroup() as tasks,
    ):
        second = tasks.create_task(outcome(alice, "#room", "me too"))
        following = (await peer.expect("PING ")).removeprefix("PING ")
        peer.say(":irc.test 417 {nick} :Input line was too long", f"PONG {following}")
        for error in (await first, await second):
            assert isinstance(error, DeliveryUncertain)
            assert "this message or another" in str(error)


async def test_the_first_message_asks_by_itself_and_those_behind_it_share_a_question() -> None:
    async with scripted_server() as server:
        network = Network(server.port, flood_burst=50, flood_rate=50)
        async with (
            speaking(server, network) as (alice, _, peer, _),
            asyncio.TaskGroup() as tasks,
        ):
            for number in range(4):
                entering = tasks.create_task(outcome(alice, f"#r{number}", "I enter"))
                await peer.admit()
                assert await entering is None
            peer.pong = None
            sent = [tasks.create_task(outcome(alice, f"#r{n}", "all at once")) for n in range(4)]
            asked = [await peer.expect("PING "), await peer.expect("PING ")]
            order = [one.partition(" ")[0] for one in peer.heard[-6:]]
            assert order == ["PRIVMSG", "PING", *["PRIVMSG"] * 3, "PING"]
            for one in asked:
                peer.say(f"PONG {one.removeprefix('PING ')}")
            assert [await one for one in sent] == [None] * 4


async def test_a_question_counts_as_a_line_of_the_flood() -> None:
    async with scripted_server() as server:
        network = Network(server.port, flood_burst=3, flood_rate=10)
        # The burst is the join, the first message and its question.
        async with speaking(server, network) as (alice, _, _, _):
            loop = asyncio.get_running_loop()
            began = loop.time()
            assert await outcome(alice, "#room", "a") is None
            assert await outcome(alice, "#room", "b") is None
            assert loop.time() - began > 0.25


async def test_a_connection_lost_before_the_answer_leaves_it_uncertain() -> None:
    async with one_on_its_way() as (sending, _, peer, run, _):
        peer.reset()
        error = await sending
        assert isinstance(error, DeliveryUncertain)
        assert "broke before it said that it has the message" in str(error)
        await run.wait_for_error()


async def test_what_was_refused_before_the_connection_was_lost_is_no_matter_of_doubt() -> None:
    async with one_on_its_way() as (sending, _, peer, run, _):
        peer.say(":irc.test 404 {nick} #room :Cannot send to channel (+b)")
        await synced(peer)
        peer.reset()
        assert isinstance(await sending, PermanentFailure)
        await run.wait_for_error()


async def test_a_server_that_never_answers_is_not_spoken_to() -> None:
    async with scripted_server() as server:
        relay, host = Network(server.port, connect_seconds=10).relay()
        async with running(relay) as run:
            peer = await server.accept()
            peer.pong = None
            await peer.welcome()
            error = await run.wait_for_error()
        assert isinstance(error, ModuleNotReady)
        assert "did not answer a PING within 10 seconds" in str(error)
        assert not host.states


async def test_a_server_that_answers_no_more_is_left_and_the_message_uncertain() -> None:
    async with one_on_its_way(confirm_seconds=5) as (sending, _, peer, run, _):
        async with asyncio.timeout(60):
            while not sending.done():  # It talks about other things meanwhile.
                peer.say(":bob!b@h PRIVMSG #room :hi")
                await asyncio.sleep(0.05)
        assert isinstance(await sending, DeliveryUncertain)
        error = await run.wait_for_error()
        assert "did not say within 5 seconds that it has read a message" in str(error)


async def test_an_answer_that_we_are_slow_to_read_is_not_missed() -> None:
    async with scripted_server() as server:
        network = Network(server.port, confirm_seconds=5)
        async with listening(server, network) as (relay, host, peer, run):
            host.failures = [TemporaryFailure("away", retry_after=6)]
            peer.say(*(f":bob!b@h PRIVMSG #room :{number}" for number in range(2500)))
            await asyncio.sleep(0)
            assert await outcome(relay, "#room", "hello") is None
            await host.wait_for(RemoteMessage, 2500)
            assert await outcome(relay, "#room", "still here") is None
            assert not run.ended.is_set()


async def test_when_some_lines_are_refused_the_sender_learns_how_many_were_taken() -> None:
    for code, kind in (("404", PermanentFailure), ("439", DeliveryUncertain)):
        async with one_on_its_way(text="one\ntwo\nthree") as (sending, marker, peer, _, _):
            peer.say(f":irc.test {code} {{nick}} #room :No", f"PONG {marker}")
            error = await sending
            assert type(error) is kind
            assert "2 of its 3 lines were taken" in str(error)


async def test_after_a_refusal_the_rest_of_the_message_stays_unsaid() -> None:
    async with scripted_server() as server:
        network = Network(server.port, flood_burst=4, flood_rate=5)
        async with (
            speaking(server, network) as (alice, _, peer, _),
            asyncio.TaskGroup() as tasks,
        ):
            sending = tasks.create_task(outcome(alice, "#room", "one\ntwo\nthree"))
            await peer.expect("PRIVMSG #room :one")
            peer.say(":irc.test 404 {nick} #room :Cannot send to channel (+m)")
            assert isinstance(await sending, PermanentFailure)
        assert not any("three" in one for one in peer.heard)


async def test_the_refusal_of_a_message_given_up_does_not_fall_on_the_next() -> None:
    async with one_on_its_way() as (sending, marker, peer, _, alice):
        sending.cancel()
        async with asyncio.TaskGroup() as tasks:
            second = tasks.create_task(outcome(alice, "#room", "the next"))
            following = (await peer.expect("PING ")).removeprefix("PING ")
            peer.say(":irc.test 404 {nick} #room :Blocked word", f"PONG {marker}")
            peer.say(f"PONG {following}")
            assert await second is None


async def test_at_a_stop_the_last_answer_is_still_heard() -> None:
    async with scripted_server() as server:
        network = Network(server.port, flood_burst=4, flood_rate=0.01)
        # The burst is the join, the first message, its question and the second message.
        alice, _ = network.puppet("Alice")
        async with asyncio.TaskGroup() as tasks:
            async with running(alice):
                first = tasks.create_task(outcome(alice, "#room", "first"))
                peer = await server.accept()
                await peer.welcome()
                await peer.admit()
                assert await first is None
                last = tasks.create_task(outcome(alice, "#room", "last"))
                await peer.expect("PRIVMSG #room :last")
            assert await last is None


class Model:
    """A server that reads in order, refuses what it is told to, and answers each PING."""

    def __init__(self) -> None:
        self.deliveries = Deliveries("irc.test")
        self.sent: list[tuple[Sending, list[bool]]] = []
        self.unread: dict[str, None] = {}
        """Targets of messages that are on their way."""
        self._replies: list[Incoming] = []

    def say(self, target: str, refusals: list[bool]) -> None:
        """Write a message whose lines are refused or not."""
        sending = self.deliveries.begin(target, len(refusals))
        for refused in refusals:
            self.deliveries.speak(sending, line("PRIVMSG", target, "text"))
            if refused:
                self._replies.append(Incoming("404", ("us", target.upper(), "No")))
        self.deliveries.finish(sending)
        self.sent.append((sending, refusals))
        self.unread[target] = None

    def ask(self) -> None:
        """Write a PING."""
        self._replies.append(Incoming("PONG", ("irc.test", self.deliveries.ask())))

    def hear(self) -> None:
        """Have all the replies read."""
        for reply in self._replies:
            self.deliveries.hear_pong(reply) if reply.command == "PONG" else (
                self.deliveries.hear(reply, own=False, fold=str.lower)
            )
        self._replies.clear()
        if not self.deliveries.is_asking and not self.deliveries.must_ask:
            self.unread.clear()


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["#a", "#b", "#c"]),
        st.lists(st.booleans(), min_size=1, max_size=3),
        st.booleans(),
        st.booleans(),
    ),
    max_size=12,
)


@examples(60)
@given(steps=STEPS, broken=st.booleans())
async def test_every_message_learns_of_its_own_refusals_and_of_no_others(
    steps: list[tuple[str, list[bool], bool, bool]], broken: bool
) -> None:
    model = Model()
    for target, refusals, asks, hears in steps:
        if target not in model.unread:  # A lane has one message at a time.
            model.say(target, refusals)
        if asks:
            model.ask()
        if hears:
            model.hear()
    if not broken:
        model.ask()
    model.hear()
    model.deliveries.end()
    for sending, refusals in model.sent:
        told = sending.answer.result()
        if isinstance(told, DeliveryUncertain):
            assert broken
            assert not all(refusals)
        else:
            assert isinstance(told, PermanentFailure) == any(refusals)
