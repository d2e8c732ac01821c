"""A server that says back what it passed on, or answers each line by its label."""

import asyncio
import logging
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.networks.irc.connections.connection import PATIENCE_SECONDS
from bridge.networks.irc.connections.delivery import Deliveries
from bridge.networks.irc.connections.sending import Means, Sending, is_cut
from bridge.networks.irc.wire import Incoming, Line, Source, decode, line, parse
from bridge.sdk.errors import DeliveryError, DeliveryUncertain, PermanentFailure, TemporaryFailure
from bridge.sdk.events import Receipt, RemoteMessage
from bridge.sdk.ids import RemoteMessageId
from bridge.sdk.rich import Rich, Style, Styled, Text
from tests.irc.echoes import ECHO, LABELS, ME, entered, labelled, outcome
from tests.irc.stage import NOW, Network, a_listener, chat, listening, message, running, synced
from tests.rigs.scale import examples
from tests.rigs.scripted_irc import scripted_server


async def test_the_answer_to_its_label_settles_exactly_that_line() -> None:
    async with (
        entered(LABELS, channels=("#a", "#b")) as (alice, peer, _, _),
        asyncio.TaskGroup() as tasks,
    ):
        first = tasks.create_task(outcome(alice, "#a", "one"))
        label_a = await labelled(peer, "PRIVMSG #a :one")
        second = tasks.create_task(outcome(alice, "#b", "two"))
        label_b = await labelled(peer, "PRIVMSG #b :two")
        peer.say(f"@label={label_b};msgid=m2 {ME} PRIVMSG #b :two")
        assert await second == Receipt(remote_ids=(RemoteMessageId("m2"),), sent_at=NOW)
        assert not first.done()
        peer.say(f"@label={label_a};msgid=m1 {ME} PRIVMSG #a :one")
        assert await first == Receipt(remote_ids=(RemoteMessageId("m1"),), sent_at=NOW)
        assert not any(one.startswith("PING") for one in peer.heard)


async def test_a_refusal_falls_on_the_line_whose_label_it_has() -> None:
    async with (
        entered(LABELS, channels=("#a", "#b")) as (alice, peer, _, _),
        asyncio.TaskGroup() as tasks,
    ):
        first = tasks.create_task(outcome(alice, "#a", "one"))
        label_a = await labelled(peer, "PRIVMSG #a :one")
        second = tasks.create_task(outcome(alice, "#b", "two"))
        label_b = await labelled(peer, "PRIVMSG #b :two")
        # Without the label nobody could tell whose this is.
        peer.say(f"@label={label_b} :irc.test 417 {{nick}} :Input line was too long")
        refused = await second
        assert isinstance(refused, PermanentFailure)
        assert "Input line was too long" in str(refused)
        peer.say(f"@label={label_a} {ME} PRIVMSG #a :one")
        assert isinstance(await first, Receipt)


@pytest.mark.parametrize(
    ("answer", "kind", "said"),
    [
        ("@label={label} :irc.test 404 {nick} #room :Cannot send (+m)", PermanentFailure, r"\+m"),
        ("@label={label} :irc.test 439 {nick} #room :Slow down", TemporaryFailure, "slow down"),
        ("@label={label} :irc.test 415 {nick} #room :Odd", PermanentFailure, "pass it on.*Odd"),
        ("@label={label} :irc.test NOTICE {nick} :Filtered", PermanentFailure, "Filtered"),
        ("@label={label} :irc.test FAIL PRIVMSG NO #room :Bad", PermanentFailure, "Bad"),
        ("@label={label} :irc.test ACK", PermanentFailure, "gave no reason"),
        ("@label={label} :irc.test BATCH +x labeled-response|:irc.test BATCH -x",
         PermanentFailure, "gave no reason"),
        ("@label={label} :irc.test BATCH +x labeled-response|@batch=x :irc.test NOTE * Z :hm|"
         "@batch=x :irc.test 404 {nick} #room :Cannot send (+q)|:irc.test BATCH -x",
         PermanentFailure, r"\+q"),
    ],
)  # fmt: skip
async def test_what_is_not_said_back_was_not_passed_on(
    answer: str, kind: type[DeliveryError], said: str
) -> None:
    async with entered(LABELS) as (alice, peer, _, _), asyncio.TaskGroup() as tasks:
        sending = tasks.create_task(outcome(alice, "#room", "hello"))
        label = await labelled(peer, "PRIVMSG #room :hello")
        peer.say(*answer.replace("{label}", label).split("|"))
        error = await sending
        assert type(error) is kind
        assert re.search(said, str(error))


@pytest.mark.parametrize(
    "lines",
    [
        ("@batch=inner;msgid=m1 {me} PRIVMSG #room :hello", "@batch=outer :irc.test BATCH -inner"),
        # The end of a group within an answer is not the answer's end.
        (":irc.test BATCH -inner", "@batch=outer;msgid=m1 {me} PRIVMSG #room :hello"),
    ],
)
async def test_an_echo_in_a_group_within_an_answer_or_behind_it_is_found(
    lines: tuple[str, ...],
) -> None:
    async with entered(LABELS) as (alice, peer, _, _), asyncio.TaskGroup() as tasks:
        sending = tasks.create_task(outcome(alice, "#room", "hello"))
        label = await labelled(peer, "PRIVMSG #room :hello")
        peer.say(
            f"@label={label} :irc.test BATCH +outer labeled-response",
            "@batch=outer :irc.test BATCH +inner example.org/other",
            "@batch=inner :irc.test 301 {nick} bob :away",
            *(one.replace("{me}", ME) for one in lines),
            ":irc.test BATCH -outer",
        )
        assert await sending == Receipt(remote_ids=(RemoteMessageId("m1"),), sent_at=NOW)


async def test_labels_without_echo_take_any_answer_but_an_error_for_a_yes() -> None:
    async with (
        entered("labeled-response batch") as (alice, peer, _, _),
        asyncio.TaskGroup() as tasks,
    ):
        sending = tasks.create_task(outcome(alice, "#room", "one\ntwo"))
        for text in ("one", "two"):
            peer.say(f"@label={await labelled(peer, f'PRIVMSG #room :{text}')} :irc.test ACK")
        receipt = await sending
        assert isinstance(receipt, Receipt)
        assert len(receipt.remote_ids) == 1
        again = tasks.create_task(outcome(alice, "#room", "no"))
        label = await labelled(peer, "PRIVMSG #room :no")
        peer.say(f"@label={label} :irc.test 415 {{nick}} #room :Unknown trouble")
        assert isinstance(await again, PermanentFailure)


async def test_every_line_has_its_id_and_its_own_refusal() -> None:
    async with entered(LABELS) as (alice, peer, _, _), asyncio.TaskGroup() as tasks:
        sending = tasks.create_task(outcome(alice, "#room", "one\ntwo"))
        for number, text in enumerate(("one", "two")):
            label = await labelled(peer, f"PRIVMSG #room :{text}")
            peer.say(f"@label={label};msgid=m{number} {ME} PRIVMSG #room :{text}")
        receipt = await sending
        assert isinstance(receipt, Receipt)
        assert receipt.remote_ids == ("m0", "m1")
        again = tasks.create_task(outcome(alice, "#room", "three\nfour"))
        label, other = [await labelled(peer, f"PRIVMSG #room :{n}") for n in ("three", "four")]
        peer.say(f"@label={label} :irc.test 404 {{nick}} #room :No colours")
        await synced(peer)
        assert not again.done()
        peer.say(f"@label={other} {ME} PRIVMSG #room :four")
        assert "1 of its 2 lines were taken" in str(await again)


async def test_echoes_confirm_in_order_for_each_target() -> None:
    async with (
        entered(ECHO, channels=("#a", "#b")) as (alice, peer, _, _),
        asyncio.TaskGroup() as tasks,
    ):
        first = tasks.create_task(outcome(alice, "#a", "one\ntwo"))
        await peer.expect("PRIVMSG #a :two")
        second = tasks.create_task(outcome(alice, "#b", "three"))
        await peer.expect("PRIVMSG #b :three")
        peer.say(f"@msgid=m3 {ME} PRIVMSG #B :three")
        assert await second == Receipt(remote_ids=(RemoteMessageId("m3"),), sent_at=NOW)
        peer.say(f"@msgid=m1 {ME} PRIVMSG #a :one", ":eve!e@h PRIVMSG #a :two")
        await synced(peer)
        assert not first.done()
        # The server took the colours out: it is still the next line of ours.
        peer.say(f"@msgid=m2 {ME} PRIVMSG #a :t-w-o")
        receipt = await first
        assert isinstance(receipt, Receipt)
        assert receipt.remote_ids == ("m1", "m2")


async def test_what_was_swallowed_is_not_confirmed_by_what_comes_back_after_it() -> None:
    async with entered(ECHO) as (alice, peer, _, _), asyncio.TaskGroup() as tasks:
        swallowed = tasks.create_task(outcome(alice, "#room", "swallowed"))
        await peer.expect("PRIVMSG #room :swallowed")
        heard = tasks.create_task(outcome(alice, "#room", "heard"))
        await peer.expect("PRIVMSG #room :heard")
        peer.say(f"@msgid=m2 {ME} PRIVMSG #room :heard")
        assert await heard == Receipt(remote_ids=(RemoteMessageId("m2"),), sent_at=NOW)
        assert "did not pass it on" in str(await swallowed)


async def test_a_line_whose_codes_the_server_takes_out_is_not_mistaken_for_the_next() -> None:
    bold = Rich((Styled(Style.BOLD, (Text("ok"),)),))
    async with entered(ECHO) as (alice, peer, _, _), asyncio.TaskGroup() as tasks:
        styled = tasks.create_task(alice.send(message("#room", bold)))
        await peer.expect("PRIVMSG #room :\x02ok")
        plain = tasks.create_task(outcome(alice, "#room", "ok"))
        await peer.expect("PRIVMSG #room :ok")
        peer.say(*(f"@msgid=m{number} {ME} PRIVMSG #room :ok" for number in (1, 2)))
        assert (await styled).remote_ids == ("m1",)
        assert await plain == Receipt(remote_ids=(RemoteMessageId("m2"),), sent_at=NOW)


async def test_nobody_is_taken_for_us_by_a_nick_that_reads_as_ours_in_another_charset() -> None:
    async with entered(ECHO) as (alice, peer, _, _), asyncio.TaskGroup() as tasks:
        peer.say(f"{ME} NICK Élan")
        sending = tasks.create_task(outcome(alice, "#room", "hello"))
        await peer.expect("PRIVMSG #room :hello")
        other = f"{ME.replace('Alice', 'Élan')} PRIVMSG #room :hello"
        peer.say_bytes(other.encode("cp1252") + b"\r\n")
        await synced(peer)
        assert not sending.done()
        assert [
            alice.network.is_ours(one.source)
            for charset in ("utf-8", "cp1252")
            if (one := parse(other.encode(charset))) and one.source
        ] == [True, False]
        peer.say(other)
        assert isinstance(await sending, Receipt)


async def test_who_is_called_so_in_another_charset_is_heard() -> None:
    async with a_listener() as (_, host, peer, _):
        peer.say(":{nick}!t@h NICK Élan", ":Élan!t@h PRIVMSG #room :of our own")
        other = ":Élan!e@h PRIVMSG #room :of another".encode("cp1252")
        peer.say_bytes(other + b"\r\n")
        await host.wait_for(RemoteMessage)
        assert host.texts == ["Élan: of another"]


async def test_what_the_client_answers_by_itself_confirms_no_message_to_the_same_person() -> None:
    async with entered(ECHO) as (alice, peer, _, _), asyncio.TaskGroup() as tasks:
        sent = tasks.create_task(outcome(alice, "bob", "hello"))
        await peer.expect("PRIVMSG bob :hello")
        peer.say(":bob!b@h PRIVMSG {nick} :\x01PING 1\x01")
        said = await peer.expect("NOTICE bob :\x01PING")
        peer.say(f"{ME} {said}")
        await synced(peer)
        assert not sent.done()
        peer.say(":irc.test 486 {nick} bob :You must be registered")
        assert "bob did not take it" in str(await sent)


async def test_a_server_that_reads_and_does_not_say_back_has_kept_it_to_itself() -> None:
    for capabilities in (ECHO, LABELS):
        async with entered(capabilities) as (alice, peer, run, _), asyncio.TaskGroup() as tasks:
            loop = asyncio.get_running_loop()
            began = loop.time()
            error = await tasks.create_task(outcome(alice, "#room", "swallowed"))
            assert isinstance(error, PermanentFailure)
            assert "has read it and did not pass it on" in str(error)
            assert loop.time() - began >= PATIENCE_SECONDS
            again = tasks.create_task(outcome(alice, "#room", "heard"))
            line_back = (await peer.expect("@" if capabilities == LABELS else "PRIVMSG"), ME)
            while "heard" not in line_back[0]:
                line_back = (await peer.read(), ME)
            tags = line_back[0].partition(" ")[0] if capabilities == LABELS else "@msgid=m"
            peer.say(f"{tags} {ME} PRIVMSG #room :heard")
            assert isinstance(await again, Receipt)
            assert not run.ended.is_set()


async def test_a_history_of_our_own_words_confirms_nothing() -> None:
    async with entered(ECHO) as (alice, peer, _, _), asyncio.TaskGroup() as tasks:
        sending = tasks.create_task(outcome(alice, "#room", "hello"))
        await peer.expect("PRIVMSG #room :hello")
        peer.say(
            ":irc.test BATCH +h chathistory #room",
            f"@batch=h {ME} PRIVMSG #room :hello",
            ":irc.test BATCH -h",
        )
        await synced(peer)
        assert not sending.done()
        peer.say(f"{ME} PRIVMSG #room :hello")
        assert isinstance(await sending, Receipt)


async def test_a_connection_lost_before_the_echo_leaves_it_uncertain() -> None:
    async with entered(LABELS) as (alice, peer, run, _), asyncio.TaskGroup() as tasks:
        sending = tasks.create_task(outcome(alice, "#room", "one\ntwo"))
        label = await labelled(peer, "PRIVMSG #room :one")
        await labelled(peer, "PRIVMSG #room :two")
        peer.say(f"@label={label} {ME} PRIVMSG #room :one")
        await synced(peer)
        peer.reset()
        assert isinstance(await sending, DeliveryUncertain)
        await run.wait_for_error()


async def test_a_line_that_the_server_cut_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    async with entered(LABELS) as (alice, peer, _, _), asyncio.TaskGroup() as tasks:
        sending = tasks.create_task(outcome(alice, "#room", "not the whole"))
        label = await labelled(peer, "PRIVMSG #room :not the whole")
        with caplog.at_level(logging.WARNING, "tests.irc"):
            peer.say(f"@label={label} {ME} PRIVMSG #room :not the")
            assert isinstance(await sending, Receipt)
    assert "passed on only the beginning of 1 of 1 lines" in caplog.text
    assert "not the whole" not in caplog.text


@pytest.mark.parametrize(
    ("sent", "kept", "cut"),
    [("abc", 3, False), ("abc", 2, True), ("aé", 2, True), ("éé", 3, True), ("x€", 3, True)],
)
def test_a_cut_is_seen_at_any_byte(sent: str, kept: int, cut: bool) -> None:
    assert is_cut(sent, decode(sent.encode()[:kept])) is cut


def test_a_line_without_its_colours_is_not_cut() -> None:
    assert not is_cut("\x0304red\x0f", "red")


async def test_the_network_acknowledges_where_all_its_servers_do() -> None:
    chat_id = chat("#room").id
    async with scripted_server() as server:
        network = Network(server.port)
        acknowledges = network.connector.capabilities
        assert not acknowledges(chat_id).acknowledges
        async with listening(server, network, capabilities=LABELS):
            assert acknowledges(chat_id).acknowledges
            alice, _ = network.puppet("Alice")
            async with running(alice), asyncio.TaskGroup() as tasks:
                joining = tasks.create_task(alice.join(chat("#room")))
                peer = await server.accept()
                await peer.welcome()
                await peer.admit()
                await joining
                assert not acknowledges(chat_id).acknowledges
            assert acknowledges(chat_id).acknowledges
        assert not acknowledges(chat_id).acknowledges


async def test_no_echo_of_ours_is_a_message_of_anybody() -> None:
    async with scripted_server() as server:
        network = Network(server.port, mode="relay")
        async with (
            listening(server, network, capabilities=LABELS) as (relay, host, peer, _),
            asyncio.TaskGroup() as tasks,
        ):
            sending = tasks.create_task(outcome(relay, "#room", "ours"))
            label = await labelled(peer, "PRIVMSG #room :ours")
            peer.say(f"@label={label};msgid=m1 :TRESTLE!t@h PRIVMSG #room :ours")
            assert isinstance(await sending, Receipt)
            peer.say(":trestle!t@h NOTICE #room :unasked", ":bob!b@h PRIVMSG #room :his")
            await host.wait_for(RemoteMessage)
        assert host.texts == ["bob: his"]


class Model:
    """A server that does with each line what it is told to, and answers by these means."""

    def __init__(self, means: Means) -> None:
        self.deliveries = Deliveries("irc.test")
        self.deliveries.use(means)
        self.sent: list[tuple[Sending, list[str]]] = []
        self.replies: list[tuple[Incoming, bool]] = []

    def say(self, target: str, fates: list[str]) -> None:
        """Write a message whose lines are taken, refused or swallowed."""
        sending = self.deliveries.begin(target, len(fates))
        for number, fate in enumerate(fates):
            said = self.deliveries.speak(sending, line("PRIVMSG", target, f"{number}"))
            self._answer(said, target, fate)
        self.deliveries.finish(sending)
        self.sent.append((sending, fates))

    def _answer(self, said: Line, target: str, fate: str) -> None:
        tags = dict(said.tags)
        if fate == "taken" and self.deliveries.means.echoes:
            echo = Incoming("PRIVMSG", (target, said.params[-1]), Source("us", "u"), tags)
            self.replies.append((echo, True))
        elif fate == "refused":
            self.replies.append((Incoming("404", ("us", target, "No"), None, tags), False))
        elif tags:
            self.replies.append((Incoming("ACK", (), Source("irc.test"), tags), False))

    def ask(self) -> None:
        """Write a PING."""
        self.replies.append((Incoming("PONG", ("irc.test", self.deliveries.ask())), False))

    def hear(self) -> None:
        """Have all the replies read."""
        for reply, own in self.replies:
            if reply.command == "PONG":
                self.deliveries.hear_pong(reply)
            else:
                self.deliveries.hear(reply, own=own, fold=str.lower)
        self.replies.clear()


@examples(60)
@given(
    means=st.sampled_from([Means.ECHO, Means.LABELS, Means.LABELS_AND_ECHO]),
    steps=st.lists(
        st.tuples(
            st.lists(st.sampled_from(["taken", "refused", "swallowed"]), min_size=1, max_size=3),
            st.booleans(),
        ),
        max_size=10,
    ),
)
async def test_every_line_is_told_from_every_other(
    means: Means, steps: list[tuple[list[str], bool]]
) -> None:
    model = Model(means)
    for number, (fates, hears) in enumerate(steps):
        model.say(f"#{number}", fates)
        if hears:
            model.hear()
    model.ask()
    model.hear()
    good = {"taken"} if means.echoes else {"taken", "swallowed"}
    for sending, fates in model.sent:
        told = sending.answer.result()
        assert (told is None) == good.issuperset(fates)
        taken = [one.refusal is None for one in sending.lines]
        # A refusal without a label says not which line of its message it refuses.
        order = (lambda one: one) if means.labels else sorted
        assert order(taken) == order([fate in good for fate in fates])
    assert not model.deliveries.must_ask
    assert model.deliveries.waiting_since is None
