"""What is done to messages: on InspIRCd where it speaks it, else by the specifications."""

import asyncio
import re
from itertools import pairwise
from typing import Any

import pytest

from bridge.networks.irc.client.client import IrcClient
from bridge.networks.irc.messages.typist import APART_SECONDS, LONGEST_SECONDS, Typist
from bridge.networks.irc.protocol.acts import (
    is_of_network,
    made_up_reaction_id,
    read_answered,
    read_reaction,
    read_unreaction,
    redacting,
)
from bridge.networks.irc.protocol.isupport import Isupport
from bridge.networks.irc.wire import Line
from bridge.sdk.capabilities import Level
from bridge.sdk.errors import Unsupported
from bridge.sdk.events import (
    Reaction,
    Receipt,
    Redaction,
    RemoteMessage,
    RemoteReaction,
    RemoteRedaction,
    RemoteTyping,
    Sender,
    Typing,
)
from bridge.sdk.ids import EventId, RemoteMessageId
from tests.irc.echoes import entered, labelled
from tests.irc.lines import incoming
from tests.irc.loops import SkippingLoop, run_skipping
from tests.irc.stage import (
    Host,
    Network,
    chat,
    listening,
    message,
    refusal,
    running,
    speaking,
    synced,
    user_id,
)
from tests.rigs.inspircd import run_inspircd
from tests.rigs.irc_user import irc_user
from tests.rigs.scripted_irc import scripted_server

ALICE = Sender(user_id=user_id("Alice"), name="Alice")
REDACTS = "message-tags draft/message-redaction echo-message"


@pytest.mark.parametrize(
    ("value", "reactions", "typing"),
    [
        ("", True, True), ("*", False, False), ("*,-draft/react,-draft/reply", True, False),
        ("*,-draft/typing,-typing,-draft/reply", False, True), ("typing,draft/x", True, False),
    ],
)  # fmt: skip
def test_no_tag_is_relied_on_that_the_server_does_not_pass_on(
    value: str, reactions: bool, typing: bool
) -> None:
    limits = Isupport().with_tokens([f"CLIENTTAGDENY={value}"] if value else [])
    assert (limits.allows_reactions, limits.allows_tag("typing")) == (reactions, typing)


def reaction(target: str, key: str = "👍", **more: Any) -> Reaction:
    return Reaction(
        chat=chat("#room").id, event_id=EventId("$reaction"), sender=ALICE, key=key,
        target=RemoteMessageId(target), **more,
    )  # fmt: skip


def redaction(*targets: str, reason: str = "", **more: Any) -> Redaction:
    return Redaction(
        chat=chat("#room").id, event_id=EventId("$redaction"), sender=ALICE, reason=reason,
        targets=tuple(RemoteMessageId(one) for one in targets), **more,
    )  # fmt: skip


def typing(is_typing: bool = True) -> Typing:
    return Typing(chat=chat("#room").id, sender=ALICE, is_typing=is_typing)


# --- on a real server ---


async def test_reactions_answers_and_typing_cross_an_inspircd_both_ways() -> None:
    async with run_inspircd() as server, irc_user(server.port, "bob") as bob:
        bob.say("CAP REQ :message-tags echo-message")
        await bob.join("#room")
        network = Network(server.port)
        alice, _ = network.puppet("Alice")
        relay, host = network.relay()
        async with running(alice, relay):
            await host.wait_until_connected()
            await relay.join(chat("#room"))
            receipt = await alice.send(message("#room", "hello"))
            ours = receipt.remote_ids[0]
            assert f"msgid={ours}" in await bob.expect("PRIVMSG #room :hello")
            bob.say("PRIVMSG #room :hi")
            (said,) = await host.wait_for(RemoteMessage)
            await _to_bob(alice, bob, said.id)
            await _from_bob(bob, host, ours)
            await _taken_back(alice, bob, host, said.id)
            # What our own people do is heard, and is nobody else's.
            assert [one.sender.name for one in host.of(RemoteReaction)] == ["bob"]
            assert not [one for one in host.of(RemoteTyping) if one.user.name != "bob"]
            capabilities = network.connector.capabilities(chat("#room").id)
            assert (capabilities.reactions, capabilities.typing) == (Level.PARTIAL, Level.FULL)
            assert capabilities.redactions is Level.PARTIAL
            # The server has no way to take back a message.
            assert await alice.send_redaction(redaction(ours)) is None


async def _to_bob(alice: IrcClient, bob: Any, target: str) -> None:
    receipt = await alice.send_reaction(reaction(target, "a;b c\\"))
    assert receipt is not None
    heard = incoming(await bob.expect(" TAGMSG ", "+draft/react"))
    assert heard.tags["+draft/react"] == "a;b c\\"
    assert heard.tags["+draft/reply"] == target
    assert heard.tags["msgid"] == receipt.remote_ids[0]
    await alice.send_typing(typing())
    await bob.expect(" TAGMSG ", "+typing=active")
    await alice.send_typing(typing(False))
    await bob.expect(" TAGMSG ", "+typing=done")


async def _from_bob(bob: Any, host: Host, target: str) -> None:
    bob.say(
        f"@+draft/reply={target};+draft/react=lol TAGMSG #room",
        f"@+draft/reply={target} PRIVMSG #room :indeed",
        "@+typing=active TAGMSG #room",
        "@+typing=done TAGMSG #room",
    )
    (reacted,) = await host.wait_for(RemoteReaction)
    assert (reacted.target, reacted.key, reacted.sender.name) == (target, "lol", "bob")
    assert f"msgid={reacted.id}" in await bob.expect("+draft/react=lol")
    answer = (await host.wait_for(RemoteMessage, 2))[1]
    assert answer.reply_to == target
    began, ended = await host.wait_for(RemoteTyping, 2)
    assert (began.is_typing, ended.is_typing) == (True, False)


async def _taken_back(alice: IrcClient, bob: Any, host: Host, target: str) -> None:
    receipt = await alice.send_reaction(reaction(target, "+1"))
    assert receipt is not None
    await alice.send_redaction(redaction(*receipt.remote_ids))
    heard = incoming(await bob.expect(" TAGMSG ", "+draft/unreact"))
    assert (heard.tags["+draft/unreact"], heard.tags["+draft/reply"]) == ("+1", target)
    (reacted,) = host.of(RemoteReaction)
    bob.say(
        f"@+draft/reply={reacted.target};+draft/unreact=other TAGMSG #room",
        f"@+draft/reply={reacted.target};+draft/unreact=lol TAGMSG #room",
    )
    other, own = await host.wait_for(RemoteRedaction, 2)
    assert (own.target, own.sender.name) == (reacted.alias, "bob")
    assert other.target != reacted.alias


# --- the specifications' examples ---


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("@msgid=456;+draft/reply=123;+draft/react=lol :n!u@h PRIVMSG #c", ("123", "lol")),
        ("@msgid=4;+draft/reply=123;+draft/react=👋 :n!u@h TAGMSG #c", ("123", "👋")),
        ("@+reply=123;+react=:) :n!u@h TAGMSG #c", ("123", ":)")),
        ("@+draft/reply=123;+draft/react=lol :n!u@h PRIVMSG #c :lol", ("123", "lol")),
        ("@+draft/reply=123;+draft/react=lol :n!u@h PRIVMSG #c :more words", None),
        ("@+draft/react=lol :n!u@h TAGMSG #c", None),
        ("@+draft/reply=123 :n!u@h TAGMSG #c", None),
        ("@+draft/reply=123;+draft/react= :n!u@h TAGMSG #c", None),
    ],
)
def test_a_reaction_is_read(text: str, found: tuple[str, str] | None) -> None:
    assert read_reaction(incoming(text)) == found


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("@msgid=4;+draft/reply=123;+draft/unreact=👋 :n!u@h TAGMSG #c", ("123", "👋")),
        ("@+reply=123;+unreact=:) :n!u@h PRIVMSG #c", ("123", ":)")),
        ("@+draft/reply=123;+draft/unreact=lol :n!u@h PRIVMSG #c :more words", None),
        ("@+draft/unreact=lol :n!u@h TAGMSG #c", None),
        ("@+draft/reply=123;+draft/react=a;+draft/unreact=b :n!u@h TAGMSG #c", None),
    ],
)
def test_what_takes_a_reaction_back_is_read(text: str, found: tuple[str, str] | None) -> None:
    assert read_unreaction(incoming(text)) == found
    assert read_reaction(incoming(text)) is None


def test_only_ids_of_the_network_are_told_to_it() -> None:
    assert is_of_network("abc")
    for made_up in ("", "0123456789abcdef-7", "h-" + "a" * 32, "r-" + "a" * 32, "x" * 201):
        assert not is_of_network(made_up)
    assert read_answered(incoming("@+draft/reply=0123456789abcdef-7 :n!u@h PRIVMSG #c :x")) is None
    made = made_up_reaction_id("123", "n", "lol")
    assert made == made_up_reaction_id("123", "n", "lol") != made_up_reaction_id("123", "m", "lol")
    assert not is_of_network(made)


def test_a_reason_is_one_line_and_not_endless() -> None:
    (one,) = redacting("#c", ["123"], "a\r\nQUIT " + "ö" * 300)
    assert one.encode().startswith("REDACT #c 123 :a QUIT öö".encode())
    assert one.encode().count(b"\n") == 1


async def test_a_message_is_taken_back_where_the_server_has_a_way_to() -> None:
    """From ``draft/message-redaction``: whose it was, who may not, what the server forgot."""
    labels = f"{REDACTS} labeled-response batch"
    async with entered(labels) as (alice, peer, _, network), asyncio.TaskGroup() as tasks:
        sent = tasks.create_task(alice.send_redaction(redaction("123", reason="bad example")))
        label = await labelled(peer, "REDACT #room 123 :bad example")
        peer.say(f"@label={label};msgid=124 :{{nick}}!a@client.test REDACT #room 123 :bad example")
        assert (await sent) == Receipt(remote_ids=(RemoteMessageId("124"),), sent_at=_any(sent))
        for code, said in (
            ("REDACT_FORBIDDEN #room 123", "You are not authorised to delete this message"),
            ("UNKNOWN_MSGID #room 123", "This message does not exist or is too old"),
        ):
            refused = tasks.create_task(refusal(alice.send_redaction(redaction("123"))))
            label = await labelled(peer, "REDACT #room 123")
            peer.say(f"@label={label} :irc.test FAIL REDACT {code} :{said}")
            assert said in await refused
        capabilities = network.connector.capabilities(chat("#room").id)
        assert capabilities.redactions is Level.PARTIAL
        # Of a message that was split, each line.
        tasks.create_task(alice.send_redaction(redaction("125", "0123456789abcdef-1", "126")))
        for one in ("125", "126"):
            label = await labelled(peer, f"REDACT #room {one}")
            peer.say(f"@label={label} :{{nick}}!a@client.test REDACT #room {one}")


async def test_a_deletion_that_is_refused_says_nothing_of_a_message_on_its_way() -> None:
    async with entered(REDACTS) as (alice, peer, _, _), asyncio.TaskGroup() as tasks:
        refused = tasks.create_task(refusal(alice.send_redaction(redaction("123"))))
        await peer.expect("REDACT #room 123")
        sending = tasks.create_task(alice.send(message("#room", "hello")))
        await peer.expect("PRIVMSG #room :hello")
        peer.say(":irc.test FAIL REDACT REDACT_FORBIDDEN #room 123 :Not yours")
        peer.say(":{nick}!a@client.test PRIVMSG #room :hello")
        assert isinstance(await sending, Receipt)
        assert "Not yours" in await refused


def _any(sent: "asyncio.Task[Receipt | None]") -> Any:
    receipt = sent.result()
    return receipt.sent_at if receipt else None


async def test_what_others_take_back_is_taken_back_in_the_room() -> None:
    async with scripted_server() as server:
        network = Network(server.port)
        async with listening(server, network, capabilities=REDACTS) as (_, host, peer, _):
            peer.say(
                "@msgid=124 :bob!u@h REDACT #room 123 :bad example",
                "@msgid=125 :bob!u@h REDACT #room 122",
                "@msgid=126 :{nick}!u@h REDACT #room 121",
                "@msgid=127 :bob!u@h REDACT #elsewhere 120",
            )
            first, second = await host.wait_for(RemoteRedaction, 2)
            assert (first.target, first.sender.name, first.reason) == ("123", "bob", "bad example")
            assert (second.target, second.reason) == ("122", "")
            await synced(peer)
            assert len(host.of(RemoteRedaction)) == 2


async def test_only_who_reacted_takes_the_reaction_back_by_the_tag() -> None:
    async with (
        entered("message-tags echo-message") as (alice, peer, _, network),
        asyncio.TaskGroup() as tasks,
    ):
        sent = tasks.create_task(alice.send_reaction(reaction("123", "lol")))
        tags = (await peer.expect("@")).partition(" ")[0]
        peer.say(f"{tags};msgid=456 :{{nick}}!alice@client.test TAGMSG #room")
        assert await sent is not None
        kept = network.store
        assert kept.subjects["reacted:456"] == ALICE.user_id
    # A restart changes nothing.
    async with (
        entered("message-tags echo-message") as (alice, peer, _, network),
        asyncio.TaskGroup() as tasks,
    ):
        network.store.rows |= kept.rows
        for one in (
            redaction("456", is_own=False), redaction("456", relayed=True), redaction("457"),
        ):  # fmt: skip
            assert await alice.send_redaction(one) is None
        sent = tasks.create_task(alice.send_redaction(redaction("456")))
        said = await peer.expect("@")
        taken_back = incoming(f"{said.partition(' ')[0]} :n!u@h TAGMSG #c")
        assert read_unreaction(taken_back) == ("123", "lol")
        assert said.endswith(" TAGMSG #room")
        peer.say(f"{said.partition(' ')[0]};msgid=458 :{{nick}}!alice@client.test TAGMSG #room")
        assert await sent is not None
        assert not any("REDACT" in one for one in peer.heard)
        assert "reacted:456" not in network.store.rows
    # Whoever else may take it back does it as with any message, where the server has a way to.
    async with entered(REDACTS) as (alice, peer, _, network), asyncio.TaskGroup() as tasks:
        network.store.rows |= kept.rows
        sent = tasks.create_task(alice.send_redaction(redaction("456", is_own=False)))
        await peer.expect("REDACT #room 456")
        peer.say(":{nick}!alice@client.test REDACT #room 456")
        assert await sent is not None


async def test_without_the_tag_that_takes_a_reaction_back_it_is_not_written() -> None:
    async with entered("message-tags", redactions="text") as (alice, peer, _, network):
        network.store.rows["reacted:456"] = b"123\0lol"
        peer.say(":irc.test 005 {nick} CLIENTTAGDENY=draft/unreact :are supported")
        await synced(peer)
        with pytest.raises(Unsupported):
            await alice.send_redaction(redaction("456"))


@pytest.mark.parametrize("is_shown", [True, False])
async def test_who_writes_is_shown_neither_way_where_the_settings_do_not_want_it(
    is_shown: bool,
) -> None:
    async with scripted_server() as server:
        network = Network(server.port, typing=is_shown)
        async with (
            listening(server, network, capabilities="message-tags") as (_, host, peer, _),
            speaking(server, network, capabilities="message-tags") as (_, own_host, own, _),
        ):
            peer.say("@+typing=active :bob!b@h TAGMSG #room")
            own.say("@+typing=active :bob!b@h TAGMSG Alice")
            await synced(peer)
            await synced(own)
            told = [len(one.of(RemoteTyping)) for one in (host, own_host)]
            assert told == [int(is_shown)] * 2
            level = Level.FULL if is_shown else Level.DROP
            able = network.connector.capabilities
            assert able(chat("#room").id).typing is level
            peer.say(":irc.test 005 {nick} CLIENTTAGDENY=*,-draft/react :are supported")
            await synced(peer)
            assert able(chat("#room").id).typing is Level.DROP


def test_a_message_ends_that_its_author_is_shown_as_writing() -> None:
    async def check(loop: SkippingLoop) -> None:
        async with entered("message-tags") as (alice, peer, _, _):
            await alice.send_typing(typing())
            await peer.expect("@+typing=active TAGMSG #room")
            await alice.send(message("#room", "hi"))
            # A word that it is over would come after it, and is needless.
            await alice.send_typing(typing(False))
            loop.skipped += 2 * APART_SECONDS
            await alice.send(message("#room", "end"))
            await peer.expect("PRIVMSG #room :end")
            await synced(peer)
            assert sum("+typing" in one for one in peer.heard) == 1

    run_skipping(check)


@pytest.mark.parametrize("words", ["text", "nothing"])
async def test_what_the_server_has_no_means_for_is_said_or_left_out_as_set(words: str) -> None:
    async with entered("", reactions=words, redactions=words) as (alice, _, _, network):
        for sent in (
            alice.send_reaction(reaction("123")),
            alice.send_redaction(redaction("123")),
        ):
            if words == "nothing":
                assert await sent is None
            else:
                with pytest.raises(Unsupported):
                    await sent
        found = network.connector.capabilities(chat("#room").id)
        level = Level.FALLBACK if words == "text" else Level.DROP
        assert (found.reactions, found.redactions) == (level, level)
        assert found.typing is Level.DROP
    async with entered("message-tags") as (alice, _, _, _):
        for one in (reaction("0123456789abcdef-7"), reaction("123", relayed=True)):
            with pytest.raises(Unsupported):
                await alice.send_reaction(one)


async def test_showing_that_somebody_writes_confirms_nothing_and_connects_nobody() -> None:
    async with (
        entered("message-tags echo-message") as (alice, peer, _, _),
        asyncio.TaskGroup() as tasks,
    ):
        sent = tasks.create_task(alice.send(message("#room", "hi")))
        await peer.expect("PRIVMSG #room :hi")
        peer.say("@+typing=active :{nick}!alice@client.test TAGMSG #room")
        await synced(peer)
        assert not sent.done()
        peer.say("@msgid=1 :{nick}!alice@client.test PRIVMSG #room :hi")
        assert (await sent).remote_ids == ("1",)
        reacted = tasks.create_task(alice.send_reaction(reaction("abc")))
        await peer.expect("@+draft/re")
        peer.say("@msgid=2;+typing=done :{nick}!alice@client.test TAGMSG #room")
        await synced(peer)
        assert not reacted.done()
        peer.say("@msgid=3;+draft/react=👍 :{nick}!alice@client.test TAGMSG #room")
        receipt = await reacted
        assert receipt is not None
        assert receipt.remote_ids == ("3",)
    async with scripted_server() as server:
        network = Network(server.port, connects_at_once=1)
        alice, host = network.puppet("Alice")
        bob, _ = network.puppet("Bob")
        async with running(alice, bob), asyncio.TaskGroup() as tasks:
            await host.wait_until(lambda one: bool(one.states))
            await alice.send_typing(typing())
            # Were she to connect, she would come first.
            joining = tasks.create_task(bob.join(chat("#room")))
            peer = await server.accept()
            await peer.welcome()
            assert (await peer.admit(), peer.nick) == ("#room", "Bob")
            await joining
            assert len(server.peers) == 1


# --- when it is said ---


class Desk:
    """A typist with a clock that the test moves."""

    def __init__(self) -> None:
        self.time = 100.0
        self.said: list[tuple[float, str]] = []
        self.typist = Typist(self._say, lambda: self.time)

    def _say(self, one: Line) -> None:
        state = re.search(r"typing=(\w+)", one.encode().decode())
        assert state is not None
        self.said.append((self.time - 100, state[1]))

    def run(self, seconds: float) -> None:
        """Let time pass, in steps as the typist asks for them."""
        end = self.time + seconds
        while (pause := self.typist.work()) is not None and self.time + pause <= end:
            self.time += pause
        self.time = end


def test_it_is_said_every_three_seconds_while_somebody_writes_and_once_at_the_end() -> None:
    desk = Desk()
    desk.typist.begin("#c")
    desk.run(7)
    desk.typist.cease("#c")
    desk.run(60)
    assert desk.said == [(0, "active"), (3, "active"), (6, "active"), (9, "done")]


def test_a_message_ends_it_without_a_word_and_who_goes_away_is_not_shown_for_ever() -> None:
    desk = Desk()
    desk.typist.begin("#c")
    desk.run(1)
    desk.typist.spoke("#c")
    desk.typist.cease("#c")
    desk.typist.spoke("#c")
    desk.run(1)
    # Begun anew at once, it waits until it may be said again.
    desk.typist.begin("#c")
    desk.run(500)
    times = [at for at, _ in desk.said]
    assert times[:2] == [0, 3]
    assert all(later - earlier >= APART_SECONDS for earlier, later in pairwise(times))
    assert times[-1] <= LONGEST_SECONDS + 2
    assert {state for _, state in desk.said} == {"active"}
