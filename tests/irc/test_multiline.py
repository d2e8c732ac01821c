"""Several lines as one message, by the specification's own examples (draft/multiline)."""

import asyncio
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.networks.irc.messages.speech import compose, read_text
from bridge.networks.irc.protocol.batches import Batches
from bridge.networks.irc.protocol.isupport import Isupport
from bridge.networks.irc.protocol.multiline import (
    MOST_BYTES,
    MOST_LINES,
    MOST_OPEN,
    Assembler,
    Limits,
    group,
    pack,
    separate,
)
from bridge.networks.irc.wire import Incoming, Line, Source, line, parse
from bridge.sdk.errors import PermanentFailure
from bridge.sdk.events import MessageKind, Receipt, RemoteMessage
from bridge.sdk.rich import Code, LineBreak, Rich, Style, Styled, Text
from tests.irc.echoes import ME, entered, outcome
from tests.irc.lines import incoming
from tests.irc.stage import Network, a_listener, message
from tests.rigs.scale import examples

OFFER = "batch message-tags draft/multiline=max-bytes=4000,max-lines=4"
ECHO = f"{OFFER} echo-message"
LABELS = f"{ECHO} labeled-response"


def feed(*texts: str) -> list[Incoming]:
    batches, assembler = Batches(), Assembler()
    made = []
    for text in texts:
        whole = assembler.feed(batches.place(incoming(text)))
        if whole is not None:
            made.append(whole)
    return made


def test_the_specifications_example_is_one_message() -> None:
    (one,) = feed(
        "@msgid=xxx;account=account :n!u@h BATCH +123 draft/multiline #channel",
        "@batch=123 :n!u@h PRIVMSG #channel hello",
        "@batch=123 :n!u@h PRIVMSG #channel :how is ",
        "@batch=123;draft/multiline-concat :n!u@h PRIVMSG #channel :everyone?",
        "BATCH -123",
    )
    assert (one.command, one.params) == ("PRIVMSG", ("#channel", "hello\nhow is everyone?"))
    assert (one.tags["msgid"], one.source and one.source.nick) == ("xxx", "n")


def test_a_group_without_a_name_is_around_nothing() -> None:
    _, begun, one = feed(
        ":s BATCH + chathistory #c", ":s BATCH +1 example.org/other",
        "@batch=1 :n!u@h PRIVMSG #c :now",
    )  # fmt: skip
    assert not begun.is_replayed
    assert not one.is_replayed


def test_what_is_never_ended_or_begun_is_no_message_and_takes_no_room() -> None:
    assert feed("@batch=1 :n!u@h PRIVMSG #c :never begun")[0].param(1) == "never begun"
    assert feed(":n!u@h BATCH +1 draft/multiline #c", ":n!u@h BATCH -1", "BATCH -1") == [
        Incoming("BATCH", ("-1",))
    ]
    many = [f":n!u@h BATCH +{number} draft/multiline #c" for number in range(MOST_OPEN + 10)]
    assert feed(*many, "@batch=5 :n!u@h PRIVMSG #c x", "BATCH -5") == []
    # Those that never end are in nobody's way.
    (newest,) = feed(
        *many, f"@batch={MOST_OPEN + 5} :n!u@h PRIVMSG #c x", f"BATCH -{MOST_OPEN + 5}"
    )
    assert newest.param(1) == "x"
    (long,) = feed(
        ":n!u@h BATCH +1 draft/multiline #c",
        *["@batch=1 :n!u@h PRIVMSG #c x"] * (MOST_LINES + 10),
        ":s BATCH -1",
    )
    assert long.param(1).count("\n") == MOST_LINES - 1
    # Also where all are one line, or each is long.
    for text, most in (("x", MOST_LINES), ("x" * 4000, MOST_BYTES)):
        (joined,) = feed(
            ":n!u@h BATCH +1 draft/multiline #c",
            *[f"@batch=1;draft/multiline-concat :n!u@h PRIVMSG #c {text}"] * (MOST_LINES + 10),
            ":s BATCH -1",
        )
        assert len(text) <= len(joined.param(1)) <= most


@examples(100)
@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\r\n\0")), min_size=1))
def test_what_we_group_reads_back_as_it_was(texts: list[str]) -> None:
    lines = [line("PRIVMSG", "#c", text[:100]) for text in texts[:20]]
    raw = [b":n!u@h " + one.encode() if one.command == "BATCH" else one.encode()
           for one in group(lines)]  # fmt: skip
    (whole,) = feed(*(one.decode().removesuffix("\r\n") for one in raw))
    assert whole.param(1) == "\n".join(one.params[1] for one in lines)


def test_whom_a_group_is_for_is_known_with_the_charset_of_the_nick() -> None:
    batches, assembler, wholes = Batches(), Assembler(), []
    for text in (
        ":n!u@h BATCH +1 draft/multiline Élan", "@batch=1 :n!u@h PRIVMSG Élan one",
        "@batch=1 :n!u@h PRIVMSG Élan two", "BATCH -1",
    ):  # fmt: skip
        message = parse(text.encode("cp1252"))
        assert message is not None
        wholes.append(assembler.feed(batches.place(message)))
    assert [one.named(0) for one in wholes if one is not None] == [Source("Élan", is_utf8=False)]
    assert wholes[-1] is not None
    assert wholes[-1].params == ("Élan", "one\ntwo")


def test_a_group_of_notices_is_one_notice() -> None:
    (one,) = feed(
        "@msgid=xxx :s.test BATCH +1 draft/multiline #c",
        "@batch=1;account=acc :n!u@h NOTICE #c :one",
        "@batch=1 :n!u@h NOTICE #c :two ",
        "@batch=1;draft/multiline-concat :n!u@h NOTICE #c :rest", "BATCH -1",
    )  # fmt: skip
    assert (one.command, one.params) == ("NOTICE", ("#c", "one\ntwo rest"))
    # This server tells who it is from with the lines alone.
    assert (one.tags["msgid"], one.tags["account"]) == ("xxx", "acc")


LONG = "word " * 150 + "end"


def composed(
    body: str | Rich, *, relayed: bool = False, kind: MessageKind = MessageKind.TEXT
) -> list[Line]:
    settings = Network(1).connector._settings
    own = Source("Alice", "~alice", "host.test")
    return compose(
        message("#c", body, relayed=relayed, kind=kind),
        "#c", own=own, limits=Isupport(), settings=settings,
    )  # fmt: skip


def test_a_line_that_is_cut_for_its_length_is_one_line_again() -> None:
    bold = Rich((Text("first"), LineBreak(), Styled(Style.BOLD, (Text(LONG),))))
    lines = composed(bold)
    assert len(lines) > 2
    raw = [b":n!u@h " + one.encode() if one.command == "BATCH" else one.encode()
           for one in group(lines)]  # fmt: skip
    assert [b"draft/multiline-concat" in one for one in raw] == [
        False, False, False, *[True] * (len(lines) - 2), False
    ]  # fmt: skip
    (whole,) = feed(*(one.decode().removesuffix("\r\n") for one in raw))
    read = read_text(whole)
    assert read is not None
    assert read[1] == bold
    # Each byte counts, and a break where there is one.
    size = sum(len(one.params[1].encode()) for one in lines) + 1
    assert Limits(size, 10).allow(lines)
    assert not Limits(size - 1, 10).allow(lines)
    # Where they go one by one, nothing is said of it.
    assert [one.tags for one in separate(lines)] == [()] * len(lines)


def test_what_has_a_name_before_each_piece_stays_in_lines() -> None:
    said = composed(LONG, relayed=True)
    assert len(said) > 1
    assert all(one.params[1].startswith("<Alice> ") and not one.tags for one in said)


@pytest.mark.parametrize(
    ("value", "lines", "allowed"),
    [
        ("max-bytes=40000,max-lines=10", ["a", "b"], True),
        ("max-bytes=3", ["a", "b"], True),
        ("max-bytes=2", ["a", "b"], False),
        ("max-bytes=40000,max-lines=2", ["a", "b", "c"], False),
        ("max-bytes=40000", ["a"], False),
        ("max-bytes=40000", ["a", "\x01ACTION b\x01"], False),
        ("max-lines=10", ["a", "b"], False),
        ("", ["a", "b"], False),
        ("max-bytes=²,other=1", ["a", "b"], False),
    ],
)
def test_only_what_the_server_takes_goes_as_one(
    value: str, lines: list[str], allowed: bool
) -> None:
    assert Limits.parse(value).allow([line("PRIVMSG", "#c", one) for one in lines]) is allowed


def test_notices_do_not_go_as_one() -> None:
    limits = Limits.parse("max-bytes=40000")
    assert not limits.allow([line("NOTICE", "#c", "a"), line("NOTICE", "#c", "b")])


@pytest.mark.parametrize("capabilities", [LABELS, ECHO, OFFER])
async def test_a_message_of_several_lines_is_confirmed_as_one(capabilities: str) -> None:
    async with entered(capabilities) as (alice, peer, _, _), asyncio.TaskGroup() as tasks:
        sending = tasks.create_task(outcome(alice, "#room", "one\ntwo"))
        first = await peer.read()
        found = re.fullmatch(r"(?:@label=(\S+) )?BATCH \+(\w+) draft/multiline #room", first)
        assert found is not None
        for text in ("one", "two"):
            assert await peer.read() == f"@batch={found[2]} PRIVMSG #room :{text}"
        assert await peer.read() == f"BATCH -{found[2]}"
        if capabilities != OFFER:
            tags = f"@msgid=xxx;label={found[1]}" if found[1] else "@msgid=xxx"
            peer.say(
                f"{tags} {ME} BATCH +9 draft/multiline #room",
                f"@batch=9 {ME} PRIVMSG #room :one",
                f"@batch=9 {ME} PRIVMSG #room :two",
                ":irc.test BATCH -9",
            )
        receipt = await sending
        assert isinstance(receipt, Receipt)
        assert len(receipt.remote_ids) == 1
        assert (receipt.remote_ids == ("xxx",)) == (capabilities != OFFER)


CODE = Rich((Text("so:"), Code("one\n\n\ntwo\n")))


def test_empty_lines_stand_only_within_a_group() -> None:
    lines = composed(CODE)
    texts = ["so:", "\x11one\x0f", "", "", "\x11two\x0f"]
    (grouped,) = pack(lines, Limits(100, 10), 10)
    assert [one.params[-1] for one in grouped[1:-1]] == texts
    assert {one.command for one in grouped[1:-1]} == {"PRIVMSG"}
    # Where they do not fit, it goes as one without them; and line by line there are none.
    said = [one for one in texts if one]
    for limits, burst in ((Limits(100, 4), 10), (Limits(100, 10), 6)):
        (grouped,) = pack(lines, limits, burst)
        assert [one.params[-1] for one in grouped[1:-1]] == said
    assert [one.params[-1] for (one,) in pack(lines, None, 10)] == said
    for kind in (MessageKind.EMOTE, MessageKind.NOTICE):
        assert all(one.params[-1] for one in composed(CODE, kind=kind))
    assert all(one.params[-1] for one in composed(CODE, relayed=True))
    assert [one.params[-1] for one in composed("\n\none\n\n \n")] == ["one"]


@pytest.mark.parametrize("capabilities", [OFFER, "message-tags"])
async def test_a_long_line_is_whole_where_the_server_has_it(capabilities: str) -> None:
    async with entered(capabilities) as (alice, peer, _, _), asyncio.TaskGroup() as tasks:
        sending = tasks.create_task(outcome(alice, "#room", LONG))
        said = [await peer.expect(start) for start in ("", "")]
        if capabilities == OFFER:
            said = [said[1], await peer.read()]
        begins = [one.partition("PRIVMSG")[0] for one in said]
        assert ["draft/multiline-concat" in one for one in begins] == [
            False, capabilities == OFFER
        ]  # fmt: skip
        assert ("".join(one.partition(" :")[2] for one in said)) == LONG
        assert isinstance(await sending, Receipt)


@pytest.mark.parametrize("code", ["MULTILINE_MAX_BYTES 1", "TIMEOUT x", "UNKNOWN_TYPE x y"])
@pytest.mark.parametrize("label", [True, False])
async def test_a_refused_group_is_refused_once(label: bool, code: str) -> None:
    async with (
        entered(LABELS if label else OFFER) as (alice, peer, _, _),
        asyncio.TaskGroup() as tasks,
    ):
        peer.pong = None  # Servers answer in order.
        sending = tasks.create_task(outcome(alice, "#room", "one\ntwo"))
        first = await peer.read()
        tags = first.partition(" ")[0] + " " if label else ""
        peer.say(f"{tags}:irc.test FAIL BATCH {code} :Too much")
        if not label:
            marker = (await peer.expect("PING")).removeprefix("PING ")
            peer.say(f":irc.test PONG irc.test :{marker}")
        error = await sending
        assert isinstance(error, PermanentFailure)
        assert "Too much" in str(error)


async def test_what_does_not_fit_into_one_burst_goes_line_by_line() -> None:
    async with entered(LABELS, flood_burst=3) as (alice, peer, _, _), asyncio.TaskGroup() as tasks:
        sending = tasks.create_task(outcome(alice, "#room", "one\ntwo"))
        for text in ("one", "two"):
            said = await peer.read()
            label = said.partition(" ")[0]
            assert said.endswith(f" PRIVMSG #room :{text}")
            peer.say(f"{label} {ME} PRIVMSG #room :{text}")
        assert isinstance(await sending, Receipt)


async def test_a_message_of_several_lines_is_one_in_the_room() -> None:
    async with a_listener(capabilities=OFFER) as (_, host, peer, _):
        peer.say(
            "@msgid=m1 :bob!b@h BATCH +1 draft/multiline #room",
            "@batch=1 :bob!b@h PRIVMSG #room :\x02one",
            ":eve!e@h PRIVMSG #room :in between",
            "@batch=1 :bob!b@h PRIVMSG #room :",
            "@batch=1 :bob!b@h PRIVMSG #room :two",
            ":irc.test BATCH -1",
        )
        said = await host.wait_for(RemoteMessage, 2)
        assert host.texts == ["eve: in between", "bob: one\n\ntwo"]
        assert said[1].id == "m1"


async def test_an_answer_names_what_it_answers_where_that_has_an_id() -> None:
    async with entered("message-tags") as (alice, peer, _, _):
        for reply_to, tag in (
            ("abc;1", "@+draft/reply=abc\\:1 "), ("0123456789abcdef-7", ""), ("x" * 300, ""),
        ):  # fmt: skip
            one = message("#room", "hi\nthere")
            await alice.send(type(one)(**{
                **{name: getattr(one, name) for name in one.__slots__}, "reply_to": reply_to
            }))  # fmt: skip
            assert await peer.expect(tag or "PRIVMSG") == f"{tag}PRIVMSG #room :hi"
            # It is one answer, of however many lines.
            assert await peer.read() == "PRIVMSG #room :there"
