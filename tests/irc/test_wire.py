"""Lines: reading them as the community's vectors say, and making none but one at a time."""

import importlib
import re
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import bridge.networks.irc
from bridge.networks.irc.client.importing import read_former_chat
from bridge.networks.irc.names import masks
from bridge.networks.irc.names.targets import read_channel
from bridge.networks.irc.protocol.isupport import MOST_MODES, MOST_NUMBER, Isupport, fold
from bridge.networks.irc.wire import (
    LINE_BYTES,
    MOST_UNREAD_BYTES,
    Incoming,
    Line,
    LineReader,
    Source,
    clean,
    cut,
    is_chatter,
    line,
    parse,
)
from bridge.sdk.errors import PermanentFailure
from tests.rigs.scale import examples

# The package has no types.
VECTORS: Any = importlib.import_module("parser_tests.data")
SPLITS = VECTORS.msg_split["tests"]
JOINS = VECTORS.msg_join["tests"]
SOURCES = VECTORS.userhost_split["tests"]
MASKS = VECTORS.mask_match["tests"]
# The fifth file, `validate_hostname`, is for servers. We take hosts as the server says them (a
# cloak is no host name: `user/bob`), and a service's server (`read_person`) may be one word, which
# those vectors forbid.
OUR_JOINS = [one for one in JOINS if "source" not in one["atoms"]]


def text_of(source: Source) -> str:
    user = f"!{source.user}" if source.user else ""
    return source.nick + user + (f"@{source.host}" if source.host else "")


@pytest.mark.parametrize("vector", SPLITS, ids=lambda vector: vector["input"][:40])
def test_a_line_is_read_as_the_vectors_say(vector: dict[str, Any]) -> None:
    atoms = vector["atoms"]
    message = parse(vector["input"].encode())
    assert message is not None
    assert message.command == atoms["verb"].upper()
    assert list(message.params) == atoms.get("params", [])
    assert message.tags == atoms.get("tags", {})
    assert text_of(message.source or Source("")) == atoms.get("source", "")


@pytest.mark.parametrize("vector", JOINS, ids=lambda vector: vector["desc"])
def test_every_spelling_of_a_line_reads_the_same(vector: dict[str, Any]) -> None:
    atoms = vector["atoms"]
    for spelling in vector["matches"]:
        message = parse(spelling.encode())
        assert message is not None
        assert message.command == atoms["verb"].upper()
        assert list(message.params) == atoms.get("params", [])
        assert message.tags == atoms.get("tags", {})


@pytest.mark.parametrize("vector", OUR_JOINS, ids=lambda vector: vector["desc"])
def test_a_line_is_written_as_the_vectors_say(vector: dict[str, Any]) -> None:
    atoms = vector["atoms"]
    made = line(atoms["verb"], *atoms.get("params", [])).tagged(**atoms.get("tags", {}))
    spellings = [re.sub(r"(\A| )foo\b", r"\1FOO", one, count=1) for one in vector["matches"]]
    assert made.encode().decode().removesuffix("\r\n") in spellings


@pytest.mark.parametrize("vector", SOURCES, ids=lambda vector: vector["source"])
def test_a_source_is_read_as_the_vectors_say(vector: dict[str, Any]) -> None:
    atoms = vector["atoms"]
    source = Source.parse(vector["source"])
    assert source == Source(atoms.get("nick", ""), atoms.get("user", ""), atoms.get("host", ""))


@pytest.mark.parametrize("vector", MASKS, ids=lambda vector: vector["mask"])
def test_a_mask_hits_whom_the_vectors_say(vector: dict[str, Any]) -> None:
    asked = {text: True for text in vector["matches"]} | {text: False for text in vector["fails"]}
    for casemapping in ("ascii", "rfc1459"):
        folded = partial(fold, casemapping=casemapping)
        found = {one: masks.hits(vector["mask"], Source.parse(one), folded) for one in asked}
        assert found == asked


ANY_TEXT = st.text(st.characters() | st.sampled_from("\r\n\0 :\x01\u2028\u0085"))
COMMANDS = st.sampled_from(
    ["PRIVMSG", "NOTICE", "TOPIC", "KICK", "QUIT", "NICK", "AWAY", "USER", "PART", "JOIN", "PASS"]
)


@examples(500)
@given(COMMANDS, st.lists(ANY_TEXT, max_size=4))
def test_any_text_in_any_field_is_one_line_or_none(command: str, params: list[str]) -> None:
    try:
        made = line(command, *params)
    except PermanentFailure:
        return
    raw = made.encode()
    assert raw.endswith(b"\r\n")
    assert len(raw) <= LINE_BYTES
    assert not re.search(rb"[\r\n\0]", raw[:-2])
    reader = LineReader()
    assert reader.feed(raw) == [raw[:-1]]
    assert parse(raw) == Incoming(made.command, made.params)
    assert made.params == (*params[:-1], clean(params[-1])) if params else not made.params


@examples(500)
@given(COMMANDS, ANY_TEXT.filter(lambda text: len(clean(text).encode()) < 400))
def test_any_text_at_the_end_makes_exactly_one_line(command: str, text: str) -> None:
    raw = line(command, "#channel", text).encode()
    assert raw.count(b"\n") == raw.count(b"\r") == 1
    message = parse(raw)
    assert message is not None
    assert message.params == ("#channel", clean(text))


CHATTER_WORDS = st.sampled_from(
    ["PRIVMSG", "NOTICE", "TAGMSG", "JOIN", "BATCH", ":me!u@h", ":you!u@h", ":ME", "@a=b;c",
     "@label=1", "#room", "&room", "me", "@#room", ":hello there", ":", "", ":x #y"]
)  # fmt: skip


@examples(2000)
@given(st.lists(CHATTER_WORDS, max_size=6))
def test_what_is_passed_over_unread_is_said_by_others_in_a_channel(words: list[str]) -> None:
    raw = " ".join(words).encode()
    message = parse(raw)
    if not is_chatter(raw, "me"):
        return
    assert message is not None
    assert message.source is not None
    assert message.command in {"PRIVMSG", "NOTICE", "TAGMSG"}
    assert message.source.nick.lower() != "me"
    assert message.param(0)[0] in "#&"


def test_what_others_say_in_channels_can_be_passed_over_unread() -> None:
    said = b":you!u@h PRIVMSG #room :hello"
    assert is_chatter(said, "me")
    assert is_chatter(b"@+typing=active :you!u@h TAGMSG #room", "me")
    assert is_chatter(b"@time=now;msgid=1 " + said, "me")
    assert not is_chatter(said, "You")
    assert not is_chatter(b":you@h PRIVMSG #room :hello", "You")
    for own in ("\xc9lan", "\xe9lan"):
        for charset in ("utf-8", "cp1252"):
            assert not is_chatter(f":{own}!u@h PRIVMSG #room :hello".encode(charset), own)
    assert not is_chatter(b":you!u@h PRIVMSG me :hello", "me")
    assert not is_chatter(b":you!u@h PRIVMSG @#room :to those with a rank", "me")
    assert not is_chatter(b":you!u@h KICK #room me :out", "me")


@pytest.mark.parametrize("bad", ["", ":x", "a b", "a\rb", "a\nb", "a\0b"])
def test_a_name_that_cannot_stand_in_the_middle_is_refused(bad: str) -> None:
    with pytest.raises(PermanentFailure):
        line("PRIVMSG", bad, "text")


@pytest.mark.parametrize("bad", ["", "PRIV MSG", "JOIN\r\nQUIT", "É"])
def test_a_command_is_letters_and_digits(bad: str) -> None:
    with pytest.raises(PermanentFailure):
        Line(bad)


def test_the_type_itself_refuses_a_line_break() -> None:
    with pytest.raises(PermanentFailure, match="line break"):
        Line("PRIVMSG", ("#channel", "one\r\nQUIT"))


def test_a_line_over_the_limit_is_refused_and_not_cut() -> None:
    with pytest.raises(PermanentFailure, match="512"):
        line("PRIVMSG", "#channel", "x" * 500)
    assert line("PRIVMSG", "#channel", "x" * 500, limit=1024).encode()


def test_more_parameters_than_the_protocol_has_are_refused() -> None:
    with pytest.raises(PermanentFailure, match="at most 15"):
        line("MODE", *["x"] * 16)


def test_cutting_keeps_characters_whole() -> None:
    assert cut("aéé", 4) == "aé"
    assert cut("one\r\ntwo", 100) == "one  two"


def test_a_message_in_an_old_charset_is_still_read() -> None:
    message = parse(b":a!b@c PRIVMSG #x :caf\xe9")
    assert message is not None
    assert message.param(1) == "café"


def test_in_a_line_of_two_charsets_each_word_is_read_by_itself() -> None:
    said = "@time=now;+k=é :Éva!é@hôte KICK #été Élan :".encode() + b"tsch\xfc\0"
    message = parse(said)
    assert message is not None
    assert (message.command, message.tags["+k"]) == ("KICK", "é")
    assert message.params == ("#été", "Élan", "tschü\N{REPLACEMENT CHARACTER}")
    assert message.source == Source("Éva", "é", "hôte")
    assert message.named(1) == message.named(-2) == Source("Élan")
    assert message.named(3) == Source("")


def test_whom_a_line_names_is_known_with_the_charset_of_the_nick() -> None:
    listed = "@+Élan!e@h ".encode() + "Élan  +Eve".encode("cp1252")
    message = parse(b":\xc9lan!e@h 353 me = #room :" + listed)
    assert message is not None
    other = Source("Élan", is_utf8=False)
    assert message.source == Source("Élan", "e", "h", is_utf8=False)
    assert [*message.listed("@+")] == [
        ("@+", Source("Élan", "e", "h")), ("", other), ("+", Source("Eve")),
    ]  # fmt: skip
    assert [Isupport().key(one) for one in (Source("Élan"), other)] == ["Élan", "Élan "]
    assert Isupport().person(Isupport().key(other)) == other
    plain = parse("353 me = #room :@Élan Eve".encode())
    assert plain is not None
    assert [*plain.listed("@+")] == [("@", Source("Élan")), ("", Source("Eve"))]


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (b"caf\xe9", "caf\u00e9"),
        ("\u00e9t\u00e9".encode()[:-1], "\u00e9t"),
        ("\u00e9 \U0001f468".encode()[:-1], "\u00e9 "),
        (b"\xc3\xa9 \xe9 x", "\u00c3\u00a9 \u00e9 x"),
    ],
)
def test_half_a_character_at_the_end_does_not_spoil_the_line(raw: bytes, text: str) -> None:
    message = parse(b":a!b@c PRIVMSG #x :" + raw + b"\r\n")
    assert message is not None
    assert message.param(1) == text


@pytest.mark.parametrize(
    ("key", "value"),
    [("", "x"), ("a b", "x"), ("a;b", "x"), ("a=b", "x"), ("a\r\nQUIT", "x"), ("+", "x"),
     ("label", "a\0b"), ("label", "\ud800"), ("label", "x" * 5000), ("label", ";" * 2100)],
)  # fmt: skip
def test_what_cannot_be_a_tag_is_refused(key: str, value: str) -> None:
    with pytest.raises(PermanentFailure, match="tag"):
        line("PRIVMSG", "#channel", "text").tagged(**{key: value})


def test_tags_stand_before_the_line_and_outside_its_limit() -> None:
    one = line("PRIVMSG", "#c", "x" * 490).tagged(label="a b;c", **{"+draft/reply": ""})
    assert one.encode().startswith(b"@label=a\\sb\\:c;+draft/reply PRIVMSG #c :x")


def test_lines_are_cut_wherever_the_bytes_are_torn() -> None:
    reader = LineReader()
    assert reader.feed(b"PI") == []
    assert reader.feed(b"NG :a\r\n\r\nPING :b\nPI") == [b"PING :a\r", b"PING :b"]
    assert reader.feed(b"NG :c\r\n") == [b"PING :c\r"]


def test_a_line_without_end_is_refused() -> None:
    reader = LineReader()
    reader.feed(b"x" * MOST_UNREAD_BYTES)
    with pytest.raises(ValueError, match="bytes"):
        reader.feed(b"x")


@examples(300)
@given(st.binary(max_size=200))
def test_nothing_a_server_sends_breaks_the_reader(data: bytes) -> None:
    for raw in LineReader().feed(data + b"\r\n"):
        message = parse(raw)
        assert message is None or message.command


@pytest.mark.parametrize(
    ("mapping", "folded"),
    [("ascii", "#a[]\\~{}|^"), ("rfc1459", "#a{}|^{}|^"), ("rfc1459-strict", "#a{}|~{}|^")],
)
def test_names_compare_as_the_server_says(mapping: str, folded: str) -> None:
    assert fold("#A[]\\~{}|^", mapping) == folded
    assert Isupport().with_tokens([f"CASEMAPPING={mapping}"]).fold("#A[]\\~{}|^") == folded


@pytest.mark.parametrize(
    ("mapping", "same", "different"),
    [
        ("precis", ["#CAFÉ", "#café", "#CAFE\u0301", "#ＣＡＦÉ"], ["#cafe", "#[x]", "#{x}"]),
        ("rfc8265", ["#ΣΑΣ", "#σασ"], ["#σας", "#straße", "#strasse"]),
        ("rfc7613", ["#Straße", "#STRASSE", "#STRAẞE"], ["#strase"]),
        ("rfc7613", ["#ΣΑΣ", "#σας", "#σασ"], []),
        ("precis", ["#a，b"], ["#a,b", "#ab"]),
    ],
)
def test_names_of_all_the_world_compare_as_the_server_says(
    mapping: str, same: list[str], different: list[str]
) -> None:
    for tokens in ([f"CASEMAPPING={mapping}"], ["CASEMAPPING=ascii", f"UTF8MAPPING={mapping}"]):
        limits = Isupport().with_tokens(tokens)
        assert len({limits.fold(name) for name in same}) == 1
        assert len({limits.fold(name) for name in (same[0], *different)}) == 1 + len(different)


def test_where_the_rule_is_not_known_only_ascii_names_a_channel_for_sure() -> None:
    limits = Isupport().with_tokens(["CASEMAPPING=rfc3454"])
    assert read_channel("#Cafe", limits).id == "#cafe"
    with pytest.raises(PermanentFailure, match=r"rule \(rfc3454\) that this bridge does not know"):
        read_channel("#Café", limits)
    assert read_channel("#Café", Isupport()).id == "#café"
    with pytest.raises(PermanentFailure, match="by hand"):
        read_former_chat("#CAFÉ")


def test_limits_are_those_of_the_server_and_else_of_the_protocol() -> None:
    words = (
        r"NICKLEN=30 CHANNELLEN=64 CHANTYPES=# PREFIX=(qaohv)~&@%+ LINELEN=1024 STATUSMSG=@+ "
        r"TARGMAX=NAMES:1,PRIVMSG:4,JOIN: CHANMODES=beI,k,l,imn NETWORK=a\x20b"
    )
    told = Isupport().with_tokens(words.split())
    assert (told.nick_length, told.channel_length, told.line_length) == (30, 64, 1024)
    assert told.channel_types == "#"
    assert told.prefixes == {"~": "q", "&": "a", "@": "o", "%": "h", "+": "v"}
    assert told.most_joins == MOST_NUMBER
    assert told.with_tokens(["TARGMAX=PRIVMSG:4,JOIN:3"]).most_joins == 3
    assert told.with_tokens(["TARGMAX=PRIVMSG:4", "MAXTARGETS=5"]).most_joins == 5
    assert told.channel_modes == ("beI", "k", "l", "imn")
    assert told.tokens["NETWORK"] == "a b"
    more = told.with_tokens(["USERLEN=16", "HOSTLEN=120", "KEYLEN=23", "MONITOR=50", "BOT=B"])
    assert (more.user_length, more.host_length, more.key_length) == (16, 120, 23)
    assert (more.most_watched, more.bot_mode) == (50, "B")
    for letter in ("", "BB", "5", "ö"):
        assert told.with_tokens([f"BOT={letter}"]).bot_mode == ""
    assert told.with_tokens(["-NICKLEN"]).nick_length == 9
    assert told.with_tokens(["-NICKLEN", "MAXNICKLEN=20"]).nick_length == 20
    silent = Isupport()
    assert (silent.nick_length, silent.channel_length, silent.line_length) == (9, 200, 512)
    assert (silent.user_length, silent.host_length, silent.most_watched) == (10, 63, 0)
    assert silent.prefixes == {"@": "o", "+": "v"}
    assert silent.casemapping == "rfc1459"


@examples(200)
@given(st.lists(st.text(max_size=30), max_size=7))
def test_no_limits_of_a_server_break_us(words: list[str]) -> None:
    keys = ["NICKLEN", "LINELEN", "PREFIX", "CHANMODES", "TARGMAX", "MODES", "MAXTARGETS"]
    told = Isupport().with_tokens(f"{key}={word}" for key, word in zip(keys, words, strict=False))
    assert 1 <= told.nick_length <= 8192
    assert told.line_length >= 512
    assert told.host_length
    assert len(told.channel_modes) == 4
    assert isinstance(told.prefixes, dict)
    assert 1 <= told.most_joins <= MOST_NUMBER
    assert 1 <= told.most_modes <= MOST_MODES


def test_every_byte_comes_out_of_the_line_builder() -> None:
    folder = Path(bridge.networks.irc.__file__).parent
    writes = [
        (path.name, found)
        for path in folder.rglob("*.py")
        for found in re.findall(
            r"(?:(?:writer|transport)\.write\w*|_held\.append)\(.*", path.read_text()
        )
    ]
    # The ident responder speaks another protocol, of user names that the settings have checked.
    assert sorted(writes) == [
        ("connection.py", "_held.append(one.encode())"),
        ("connection.py", 'transport.write(b"".join(held))'),
        ("connection.py", "transport.write(one.encode())"),
        ("ident.py", "writer.write(await self.answer(question, asker))"),
    ]
