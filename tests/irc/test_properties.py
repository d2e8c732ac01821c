"""What must hold for any text: a fiftieth of a million by default, all of it in the long form."""

import random
import re
from itertools import islice
from pathlib import Path

import pytest

from bridge.matrix.namespaces import Namespaces
from bridge.networks import irc
from bridge.networks.irc.names.nicks import Nicks, candidates, is_nick
from bridge.networks.irc.names.targets import read_channel
from bridge.networks.irc.network.keys import read_key
from bridge.networks.irc.protocol.isupport import Isupport
from bridge.networks.irc.wire import (
    LINE_BYTES,
    TAG_BYTES,
    Incoming,
    LineReader,
    clean,
    line,
    parse,
)
from bridge.sdk.errors import PermanentFailure
from bridge.sdk.ids import InstanceId, UserId
from tests.irc.stores import MemoryStore
from tests.rigs.scale import chance, scaled

COMMANDS = (
    "PRIVMSG", "NOTICE", "TOPIC", "KICK", "QUIT", "NICK", "AWAY", "USER", "PART", "JOIN", "PASS",
    "MODE", "INVITE", "AUTHENTICATE", "BATCH", "CHATHISTORY", "MONITOR", "WEBIRC", "PING", "PONG",
    "CAP", "WHOIS", "WHO", "NAMES", "LIST", "TAGMSG", "REDACT", "RELAYMSG", "SETNAME",
    "USERHOST", "ISON",
)  # fmt: skip
WRITTEN = re.compile(r'\bline\(\s*"([A-Z]+)"')
"""How the module names a command of its own."""
NASTY = "\r\n\0 :;@!,=\\\x01\x02\x03\x1f\u0085\u2028\u2029\ufeff\u200b\U0001f468\u200d\ud800é"
MAPPINGS = ("ascii", "rfc1459", "rfc1459-strict", "precis", "rfc7613", "unheard-of")
IRC = InstanceId("irc")


def text(dice: random.Random, most: int) -> str:
    """Any text, much of it what has a meaning on the wire."""
    return "".join(
        dice.choice(NASTY) if dice.random() < 0.4 else chr(dice.choice((
            dice.randrange(32, 127), dice.randrange(0x110000)
        )))
        for _ in range(dice.randrange(most))
    )  # fmt: skip


def around(dice: random.Random, least: int, most: int) -> str:
    """Any text of about so many bytes."""
    start, filling = text(dice, 6), dice.choice("xxé€\U0001f98a")
    left = dice.randint(least, most) - len(start.encode("utf-8", "replace"))
    return start + filling * (left // len(filling.encode()))


def check_one_line(command: str, params: list[str], tags: dict[str, str]) -> bool:
    """Whether a line could be made; if so, it is one, and reads back as what went in."""
    try:
        made = line(command, *params).tagged(**tags)
    except PermanentFailure:
        return False
    raw = made.encode()
    assert raw.count(b"\n") == raw.count(b"\r") == 1
    assert raw.endswith(b"\r\n")
    assert b"\0" not in raw
    assert len(raw.partition(b" ")[2] if tags else raw) <= LINE_BYTES
    assert not tags or len(raw.partition(b" ")[0]) <= len("@") + TAG_BYTES
    assert LineReader().feed(raw) == [raw[:-1]]
    assert params[:-1] == list(made.params[:-1])
    assert made.params[-1:] == tuple(map(clean, params[-1:]))
    assert parse(raw) == Incoming(made.command, made.params, None, tags)
    return True


def test_every_command_that_the_module_writes_is_among_them() -> None:
    sources = Path(irc.__file__).parent.rglob("*.py")
    written = {name for source in sources for name in WRITTEN.findall(source.read_text())}
    assert len(written) > 10
    assert written <= set(COMMANDS)


def test_any_text_in_any_field_of_any_command_is_one_line_that_reads_back() -> None:
    dice, made = chance("lines"), 0
    cases = scaled(1_000_000)
    for _ in range(cases):
        params = [
            text(dice, 8) if dice.random() < 0.5 else "name" for _ in range(dice.randrange(4))
        ]
        if dice.random() < 0.8:
            params.append(text(dice, 40))
        tags = {"+draft/reply": text(dice, 10)} if dice.random() < 0.3 else {}
        made += check_one_line(dice.choice(COMMANDS), params, tags)
    # Most are lines: that all are refused would prove nothing.
    assert made > cases / 4


@pytest.mark.parametrize(("is_long", "has_long_tags"), [(True, False), (False, True)])
def test_a_text_about_as_long_as_a_line_or_its_tags_may_be_is_one_line_or_refused(
    is_long: bool, has_long_tags: bool
) -> None:
    dice, made = chance(f"long {is_long}"), 0
    cases = scaled(100_000)
    for _ in range(cases):
        said = around(dice, 400, 520) if is_long else text(dice, 40)
        tags = {"+draft/reply": text(dice, 10)} if dice.random() < 0.3 else {}
        if has_long_tags:
            tags = {"+draft/reply": around(dice, TAG_BYTES - 60, TAG_BYTES + 20)}
        names = ["name"] * dice.randrange(3)
        made += check_one_line(dice.choice(COMMANDS), [*names, said], tags)
    # Both happen, and often.
    assert cases / 10 < made < cases * 9 / 10


def test_any_text_is_no_key_or_one_of_a_list_of_keys_on_one_line() -> None:
    dice, read = chance("keys"), 0
    cases = scaled(200_000)
    for _ in range(cases):
        keys = []
        for _ in range(dice.randrange(1, 4)):
            said = text(dice, 6) if dice.random() < 0.5 else f"key{dice.randrange(100)}"
            try:
                keys.append(read_key(said, Isupport()).reveal())
            except PermanentFailure:
                continue
            assert keys[-1] == said
        if not keys:
            continue
        read += 1
        names = ",".join(f"#room{number}" for number in range(len(keys)))
        raw = line("JOIN", names, ",".join(keys)).encode()
        assert raw.count(b"\n") == raw.count(b"\r") == 1
        found = parse(raw)
        assert found is not None
        assert found.params == (names, ",".join(keys))
        assert found.params[1].split(",") == keys
    assert read > cases / 4


@pytest.mark.parametrize("mapping", MAPPINGS)
async def test_users_and_nicks_are_one_to_one_for_any_number(mapping: str) -> None:
    dice = chance(f"nicks {mapping}")
    limits = Isupport().with_tokens([f"CASEMAPPING={mapping}", "NICKLEN=16"])
    nicks = Nicks(MemoryStore())
    given: dict[str, UserId] = {}
    for number in range(scaled(1_000_000) // len(MAPPINGS)):
        user = UserId(f"@{number}{text(dice, 5)}:example.org")
        name = "".join(dice.choice("abAB[]{}\\|~^_ é") for _ in range(dice.randrange(3, 14)))
        nick = await nicks.assign(user, name, limits)
        assert is_nick(nick)
        assert len(nick) <= 16
        assert given.setdefault(limits.fold(nick), user) == user
        assert nicks.nick_of(user) == nick


@pytest.mark.parametrize("mapping", MAPPINGS)
def test_nicks_and_ghosts_are_one_to_one(mapping: str) -> None:
    dice = chance(f"ghosts {mapping}")
    limits = Isupport().with_tokens([f"CASEMAPPING={mapping}"])
    namespaces = Namespaces(server_name="example.org", networks=[IRC])
    ghosts: dict[UserId, str] = {}
    for _ in range(scaled(1_000_000) // len(MAPPINGS)):
        nick = "".join(
            dice.choice("abAB01[]{}\\|~^_`-=éÉßẞσΣςＡ\u0301") for _ in range(dice.randrange(1, 9))
        )
        folded = limits.fold(nick)
        ghost = namespaces.ghost(IRC, folded)
        assert namespaces.parse_ghost(ghost) == (IRC, folded)
        assert ghosts.setdefault(ghost, folded) == folded
        assert limits.fold(folded) == folded


@pytest.mark.parametrize("mapping", MAPPINGS)
def test_channels_and_their_aliases_are_one_to_one(mapping: str) -> None:
    dice = chance(f"aliases {mapping}")
    limits = Isupport().with_tokens([f"CASEMAPPING={mapping}"])
    namespaces = Namespaces(
        server_name="example.org", networks=[IRC], templates={IRC: "#irc_{network}_{chat}"}
    )
    aliases: dict[str, str] = {}
    for _ in range(scaled(200_000) // len(MAPPINGS)):
        name = "#" + "".join(
            dice.choice("abAB04[]{}\\|~^_`-=#éÉßΣςＡ＃\u0301.")
            for _ in range(dice.randrange(1, 9))
        )
        if mapping == "unheard-of" and not name.isascii():
            with pytest.raises(PermanentFailure, match="does not know"):
                read_channel(name, limits)
            continue
        channel = read_channel(name, limits)
        alias = namespaces.alias(IRC, channel.id)
        assert namespaces.parse_alias(alias) == (IRC, channel.id)
        assert aliases.setdefault(alias, channel.id) == channel.id
        # However somebody writes it, it is that channel.
        asked = namespaces.parse_alias(namespaces.alias(IRC, name))
        assert asked is not None
        assert read_channel(asked[1], limits).id == channel.id


def test_candidates_for_a_nick_are_all_different_under_any_mapping() -> None:
    dice = chance("candidates")
    for _ in range(scaled(20_000)):
        limits = Isupport().with_tokens([f"CASEMAPPING={dice.choice(MAPPINGS)}"])
        base = "".join(dice.choice("abAB[]{}\\|^_") for _ in range(dice.randrange(1, 30)))
        made = list(islice(candidates(base, dice.randrange(4, 31)), 20))
        assert len(set(map(limits.fold, made))) == len(made)
