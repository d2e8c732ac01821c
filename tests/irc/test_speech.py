"""Messages to lines: within every budget, whole, and nobody's words in another's mouth."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.networks.irc.connections.flood import Flood
from bridge.networks.irc.format import from_irc, strip_codes
from bridge.networks.irc.messages.speech import compose, read_relayed, read_text, relayed_name
from bridge.networks.irc.protocol.isupport import Isupport
from bridge.networks.irc.protocol.multiline import separate
from bridge.networks.irc.protocol.times import read_time
from bridge.networks.irc.settings import IrcSettings
from bridge.networks.irc.wire import Line, Source, parse
from bridge.sdk.errors import PermanentFailure
from bridge.sdk.events import Message, MessageKind, Sender
from bridge.sdk.graphemes import graphemes
from bridge.sdk.ids import UserId
from bridge.sdk.rich import Colour, LineBreak, Rich, Style, Styled, Text
from tests.irc.lines import incoming
from tests.irc.stage import message
from tests.rigs.scale import examples

SETTINGS = IrcSettings.model_validate({"servers": [{"host": "irc.test"}], "most_lines": 200})
OWN = Source("Alice", "~alice", "gateway/matrix/alice")


def composed(one: Message, limits: Isupport | None = None) -> list[Line]:
    return compose(one, "#room", own=OWN, limits=limits or Isupport(), settings=SETTINGS)


TEXT = st.text(max_size=60) | st.sampled_from(
    ["\U0001f468\u200d\U0001f469\u200d\U0001f467" * 40, "e\u0301" * 300, "x" * 700, "", " "]
)
NODES = st.one_of(
    TEXT.map(Text),
    st.builds(Styled, st.sampled_from(Style), st.tuples(TEXT.map(Text))),
    st.builds(Colour, st.just("#ff0000"), st.none(), st.tuples(TEXT.map(Text))),
    st.just(LineBreak()),
)


@examples(150)
@given(
    st.lists(NODES, max_size=6),
    st.sampled_from(MessageKind),
    st.booleans(),
    st.text(max_size=20),
    st.sampled_from(["", "LINELEN=1024", "HOSTLEN=150 NICKLEN=30 USERLEN=20"]),
)
def test_every_line_fits_once_the_server_has_named_us(
    nodes: list[Styled | Text], kind: MessageKind, relayed: bool, name: str, limits: str
) -> None:
    isupport = Isupport().with_tokens(limits.split())
    one = message("#room", Rich(tuple(nodes)), kind=kind, relayed=relayed, sender=name)
    try:
        made = composed(one, isupport)
    except PermanentFailure:
        return
    for each in made:
        seen = f":{OWN.nick}!{OWN.user}@{OWN.host} ".encode() + each.encode()
        assert len(seen) <= isupport.line_length
        assert seen.count(b"\n") == seen.count(b"\r") == 1
        if relayed:
            start = "* " if kind is MessageKind.EMOTE else "<"
            assert each.params[1].startswith(start + relayed_name(one.sender))
        assert ("\x01" in each.params[1]) == (kind is MessageKind.EMOTE and not relayed)


def test_a_line_fits_by_whatever_user_and_host_the_server_will_name_us() -> None:
    limits = Isupport().with_tokens(["USERLEN=20", "HOSTLEN=70", "NICKLEN=30"])
    one = message("#room", "x" * 2000)
    made = compose(one, "#room", own=Source("Alice"), limits=limits, settings=SETTINGS)
    longest = Source("A" * 30, f"~{'a' * 20}", "h" * 70)
    seen = f":{longest.nick}!{longest.user}@{longest.host} ".encode()
    assert all(506 < len(seen + each.encode()) <= 512 for each in separate(made)[:-1])


@examples(100)
@given(st.text(st.characters(exclude_categories=("Cc", "Cs", "Zs")), max_size=60))
def test_a_split_loses_nothing_and_cuts_no_grapheme(text: str) -> None:
    word = f"A{text}"
    long = word * (1 + 1500 // len(word.encode()))
    parts = [strip_codes(each.params[1]) for each in composed(message("#room", long))]
    assert "".join(parts) == long
    whole = list(graphemes(long))
    assert [one for part in parts for one in graphemes(part)] == whole


def test_where_the_server_takes_longer_lines_they_are_longer() -> None:
    text = message("#room", "x" * 800)
    assert [len(composed(text, Isupport().with_tokens([f"LINELEN={most}"])))
            for most in (100, 512, 1024, 8192)] == [2, 2, 1, 1]  # fmt: skip


def test_a_relayed_name_cannot_pretend_to_be_another() -> None:
    def shown(name: str) -> str:
        return relayed_name(Sender(user_id=UserId("@bob:example.org"), name=name))

    assert shown("bob> hi <alice") == "bob hi alice"
    assert shown("\u202eecila\u2066") == "ecila"
    for unseen in (
        "",
        "   ",
        "\x02\r\n<>",
        "\u00a0",
        "\u0301",
        "\u200b\u2060",
        "\u3164 \u2800",
        "\ufe0f",
    ):
        assert shown(unseen) == "@bob:example.org"
    assert shown("❤\ufe0f") == "❤\ufe0f"
    assert len(shown("é" * 200).encode()) <= 64


@pytest.mark.parametrize(
    ("raw", "kind", "text"),
    [
        (b":a!b@c PRIVMSG #r :hi", MessageKind.TEXT, "hi"),
        (b":a!b@c NOTICE #r :hi", MessageKind.NOTICE, "hi"),
        (b":a!b@c PRIVMSG #r :\x01ACTION waves\x01", MessageKind.EMOTE, "waves"),
        (b":a!b@c PRIVMSG #r :\x01action waves", MessageKind.EMOTE, "waves"),
    ],
)
def test_what_people_say_is_read(raw: bytes, kind: MessageKind, text: str) -> None:
    incoming = parse(raw)
    assert incoming is not None
    assert read_text(incoming) == (kind, Rich((Text(text),)))


@pytest.mark.parametrize(("said", "text"), [
    ("<bob> hi", Text("hi")),
    ("<\x0304bob\x03> 5 apples", Text("5 apples")),
    ("\x02<bob> \x02hi", Text("hi")),
    ("<b\u200bob> hi", Text("hi")),
    ("<bob> \x02hi\x0f", Styled(Style.BOLD, (Text("hi"),))),
    ("<\x02bob\x02> \x02hi\x02", Styled(Style.BOLD, (Text("hi"),))),
    ("<\x1dbob\x0f>\x02 hi", Styled(Style.BOLD, (Text("hi"),))),
])  # fmt: skip
def test_what_another_relay_says_for_somebody_looks_as_it_does_there(
    said: str, text: Text | Styled
) -> None:
    name, rest = read_relayed(said) or ("", "")
    assert (name, from_irc(rest)) == ("bob", Rich((text,)))


@pytest.mark.parametrize(
    "time", ["0001-01-01T00:00:00+23:00", "9999-12-31T23:59:59-23:00", "2026-01-01T00:00:00", "x"]
)
def test_a_time_that_is_none_is_left_aside(time: str) -> None:
    assert read_time(incoming(f"@time={time} :bob!b@h PRIVMSG #room :hello")) is None


def test_other_questions_between_clients_are_no_speech() -> None:
    for text in (b"\x01VERSION\x01", b"\x01DCC SEND x\x01", b"\x01\x01"):
        incoming = parse(b":a!b@c PRIVMSG #r :" + text)
        assert incoming is not None
        assert read_text(incoming) is None


def test_flood_control_lets_a_burst_through_and_then_a_rate() -> None:
    now = 100.0
    flood = Flood(3, 2.0, lambda: now)
    assert [flood.reserve() for _ in range(5)] == [0, 0, 0, 0.5, 1.0]
    assert not flood.take()
    now = 110.0
    assert flood.take()
    assert [flood.reserve() for _ in range(3)] == [0, 0, 0.5]


def test_the_settings_say_what_is_wrong_with_them() -> None:
    server = {"host": "irc.test"}
    for changes, words in (
        ({"servers": []}, "at least 1 item"),
        ({"servers": [{"host": "irc.test:6697"}]}, "a port has a key of its own"),
        ({"servers": [{"host": "ircs://irc.test"}]}, "'ircs://irc.test' is no host"),
        ({"servers": [{"host": "[::1]"}]}, "is no host"),
        ({"servers": [{"host": "irc.test "}]}, "is no host"),
        ({"nick": "1bad nick"}, "is no IRC nick"),
        ({"realname": "a\r\nQUIT"}, "line break"),
        ({"password": "a\nb"}, "line break"),
        ({"username": "a b"}, "a user name has letters"),
        ({"sasl_account": "acc"}, "go together"),
        ({"colour": 3}, "Extra inputs"),
        (
            {"sasl_account": "a", "sasl_password": "b", "servers": [server | {"tls": False}]},
            "in the clear",
        ),
    ):
        with pytest.raises(ValueError, match=re.escape(words)):
            IrcSettings.model_validate({"servers": [server]} | changes)


def test_settings_hide_their_secrets_and_describe_every_field() -> None:
    settings = IrcSettings.model_validate(
        {"servers": [{"host": "x"}], "password": "hush", "sasl_account": "a"}
        | {"sasl_password": "hush"}
    )
    assert "hush" not in repr(settings)
    assert settings.servers[0].address == ("x", 6697)
    assert IrcSettings.model_validate({"servers": [{"host": "::1"}]}).servers[0].is_private
    schema = IrcSettings.model_json_schema()
    groups = [schema, *schema["$defs"].values()]
    for name, field in ((n, f) for group in groups for n, f in group["properties"].items()):
        assert field.get("description"), name
