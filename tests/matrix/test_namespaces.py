"""Which Matrix ids are ours, and whom they stand for."""

import re
from itertools import chain
from pathlib import Path
from string import ascii_lowercase, digits

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from ruamel.yaml import YAML

from bridge.matrix.namespaces import Namespaces
from bridge.matrix.registration import differences, read_registration, registration
from bridge.sdk.errors import ConfigError
from bridge.sdk.ids import InstanceId, UserId
from bridge.sdk.secret import Secret
from bridge.settings.records import AppserviceSettings
from tests.rigs.scale import examples
from tests.rigs.trees import HOSTILE

IRC, XMPP, FEEDS = InstanceId("irc"), InstanceId("irc2"), InstanceId("feeds")
SERVERS = ("example.org", "Example.org:8448", "[2001:db8::1]:8448", "1.2.3.4", "8448", "a-b.c+d(e")
PREFIXES = ("_trestle_", "x=h.", "a+b/", "_trestle")
LOCALPART = re.compile(r"[a-z0-9._=/+-]+")


def make(server: str = "example.org", prefix: str = "_trestle_") -> Namespaces:
    return Namespaces(
        server_name=server, prefix=prefix, sender_localpart="hidden.5", networks=[IRC, XMPP],
        bots=[FEEDS],
    )  # fmt: skip


spaces = st.builds(make, st.sampled_from(SERVERS), st.sampled_from(PREFIXES))
networks = st.sampled_from((IRC, XMPP))
remote_ids = (
    st.text(st.characters(), min_size=1, max_size=400)
    | st.text("aA_=h0.-@:/%", min_size=1, max_size=300)
    | st.lists(st.sampled_from(("a", "B", "=h", "_", *HOSTILE)), min_size=1, max_size=99).map(
        "".join
    )
)
any_ids = st.builds(
    "{}{}{}{}".format,
    st.sampled_from(("@", "#", "!", "", "@@")) | st.characters(),
    st.sampled_from(("", *PREFIXES)),
    st.sampled_from(("irc_", "irc2_", "feeds", "feeds_", "trestle", "hidden.5", "irc", "_", ":"))
    | st.text(max_size=9),
    st.text("ah=_0:", max_size=9).map("{}:".format) | st.just(":") | st.just(""),
)
servers_of_any = st.sampled_from((*SERVERS, "evil.org", "evil.org:8448", "")) | st.text(max_size=5)


@pytest.mark.parametrize(
    ("remote_id", "localpart"),
    [
        ("bob", "_trestle_irc_bob"),
        ("b.o-b9", "_trestle_irc_b.o-b9"),
        ("Bob_[x]", "_trestle_irc_=42ob=5f=5bx=5d"),
        ("=41", "_trestle_irc_=3d41"),
        ("é", "_trestle_irc_=c3=a9"),
        ("\0", "_trestle_irc_=00"),
    ],
)
def test_a_ghost_is_named_so_that_it_can_be_read(remote_id: str, localpart: str) -> None:
    ours = make()
    assert ours.ghost(IRC, remote_id) == f"@{localpart}:example.org"
    assert ours.alias(IRC, remote_id) == f"#{localpart}:example.org"


@examples(300)
@given(spaces, networks, remote_ids)
def test_any_remote_id_comes_back(ours: Namespaces, instance: InstanceId, remote_id: str) -> None:
    ghost, alias = ours.ghost(instance, remote_id), ours.alias(instance, remote_id)
    for spelled in (ghost, alias):
        assert len(spelled.encode()) <= 255
        assert LOCALPART.fullmatch(spelled[1:].partition(":")[0])
    assert ours.parse_ghost(ghost) == ours.parse_alias(alias) == (instance, remote_id)
    assert ours.parse_ghost(alias) is ours.parse_alias(ghost) is None
    assert ours.is_ghost(ghost)
    assert ours.is_ours(ghost)
    assert not ours.is_bot(ghost)


@examples(100)
@given(spaces, networks, st.text(st.characters(), max_size=300))
def test_what_was_shortened_is_known_after_a_restart(
    ours: Namespaces, instance: InstanceId, begin: str
) -> None:
    remote_id = begin + "Z" * 85
    ghost, alias = ours.ghost(instance, remote_id), ours.alias(instance, remote_id)
    assert ours.ghost(instance, remote_id) == ghost
    assert [spelled for spelled, _, _ in ours.new_long_ids] == [ghost, alias]
    server, prefix = ours.bot.partition(":")[2], ghost[1 : ghost.index(f"{instance}_")]
    later = make(server, prefix)
    assert later.parse_ghost(ghost) is None
    assert later.is_ours(ghost)
    later.know_long_ids({spelled: (of, text) for spelled, of, text in ours.new_long_ids})
    assert later.parse_ghost(ghost) == later.parse_alias(alias) == (instance, remote_id)
    assert later.ghost(instance, remote_id) == ghost
    assert later.new_long_ids == []


@examples(300)
@given(spaces, networks, remote_ids, networks, remote_ids)
def test_no_two_people_share_an_id(
    ours: Namespaces, one: InstanceId, remote: str, other: InstanceId, another: str
) -> None:
    assume((one, remote) != (other, another))
    assert ours.ghost(one, remote) != ours.ghost(other, another)
    assert ours.alias(one, remote) != ours.alias(other, another)


@pytest.mark.parametrize("length", [180, 230, 400])
def test_ids_that_differ_only_at_their_end_are_told_apart(length: int) -> None:
    ours = make()
    spelled = {ours.ghost(IRC, "a" * length + end) for end in ("b", "c", "_", "__")}
    assert len(spelled) == 4


def test_an_id_is_shortened_only_when_it_must_be() -> None:
    ours = make()
    room = 255 - len("@_trestle_irc_:example.org")
    assert ours.ghost(IRC, "a" * room) == f"@_trestle_irc_{'a' * room}:example.org"
    assert ours.new_long_ids == []
    assert "=h" in ours.ghost(IRC, "a" * (room + 1))
    assert len(ours.new_long_ids) == 1


@examples(300)
@given(spaces, any_ids, servers_of_any)
def test_an_id_has_one_meaning_and_a_meaning_one_id(
    ours: Namespaces, begin: str, server: str
) -> None:
    spelled = begin + server
    ghost, chat = ours.parse_ghost(spelled), ours.parse_alias(spelled)
    assert ghost is None or ours.ghost(*ghost) == spelled
    assert chat is None or ours.alias(*chat) == spelled


@pytest.mark.parametrize(
    "localpart",
    [
        "_trestle_irc_", "_trestle_irc", "_trestle__a", "_trestle_other_a", "_trestle_feeds_a",
        "_trestle_irc_A", "_trestle_irc_=4", "_trestle_irc_=4G", "_trestle_irc_=61",
        "_trestle_irc_=C3=A9", "_trestle_irc_=ff", "_trestle_irc_a_b", "_trestle_irc_=hbeef",
        "_trestle_irc_é", "_trestle_irc_" + "a" * 300, "trestle_irc_a", "x_trestle_irc_a",
    ],
)  # fmt: skip
def test_other_spellings_are_nobody(localpart: str) -> None:
    assert make().parse_ghost(f"@{localpart}:example.org") is None
    assert make().parse_alias(f"#{localpart}:example.org") is None


@pytest.mark.parametrize("instance", [IRC, FEEDS])
def test_an_empty_remote_id_is_refused(instance: InstanceId) -> None:
    with pytest.raises(ValueError, match=instance):
        make().ghost(instance, "")
    with pytest.raises(ValueError, match=instance):
        make().alias(instance, "")


# --- others ---


@examples(300)
@given(spaces, any_ids, servers_of_any)
def test_nobody_of_another_server_is_ours(ours: Namespaces, begin: str, server: str) -> None:
    own = ours.bot.partition(":")[2]
    user = begin.rstrip(":") + ":" + server
    # The server's name is what follows the first colon: no localpart holds one.
    assume(user.partition(":")[2] != own)
    assert not ours.is_ours(user)
    assert not ours.is_ghost(user)
    assert not ours.is_bot(user)
    assert ours.parse_ghost(user) is ours.parse_alias(user) is None


def test_a_foreign_server_whose_name_ends_as_ours_is_foreign() -> None:
    assert not make("8448").is_ours("@_trestle_irc_a:evil.org:8448")
    assert not make().is_ours("@_trestle_irc_a:evil.example.org")
    assert not make().is_ours("@_trestle_irc_a:example.org:8448")


@examples(100)
@given(st.text())
def test_people_here_without_the_prefix_are_not_ours(name: str) -> None:
    ours = make()
    user = f"@{name}:example.org"
    assume(not name.startswith("_trestle_") and name not in {"trestle", "hidden.5"})
    assert not ours.is_ours(user)
    assert not ours.is_ghost(user)


@examples(100)
@given(st.text(ascii_lowercase + digits + "!", max_size=50), servers_of_any)
def test_no_room_is_ours_with_or_without_a_server(opaque: str, server: str) -> None:
    for room in (f"!{opaque}", f"!{opaque}:{server}", f"!_trestle_irc_{opaque}:example.org"):
        assert not make().is_ours(room)
        assert make().parse_alias(room) is make().parse_ghost(room) is None


# --- bots ---


def test_bots_are_ours_and_no_ghosts() -> None:
    ours = make()
    assert ours.bot_ids == {
        UserId("@trestle:example.org"): "",
        UserId("@_trestle_feeds:example.org"): FEEDS,
    }
    for bot in ours.bot_ids:
        assert ours.is_ours(bot)
        assert ours.is_bot(bot)
        assert not ours.is_ghost(bot)


def test_the_sender_is_ours_and_nobody_else() -> None:
    ours = make()
    assert ours.is_ours(ours.sender)
    assert not ours.is_bot(ours.sender)
    assert not ours.is_ghost(ours.sender)


@examples(200)
@given(spaces, networks, remote_ids)
def test_no_ghost_is_a_bot(ours: Namespaces, instance: InstanceId, remote_id: str) -> None:
    assert ours.ghost(instance, remote_id) not in {*ours.bot_ids, ours.sender}


@pytest.mark.parametrize(
    ("bot", "sender", "key"),
    [
        ("_trestle_irc_bob", "hidden", "bot"),
        ("_trestle_feeds", "hidden", "bot"),
        ("trestle", "_trestle_irc_bob", "sender"),
        ("trestle", "_trestle_x", "sender"),
    ],
)
def test_a_bot_that_could_be_a_person_is_refused(bot: str, sender: str, key: str) -> None:
    with pytest.raises(ConfigError, match=f"appservice.{key}_localpart"):
        Namespaces(server_name="example.org", bot_localpart=bot, sender_localpart=sender)


def test_a_prefix_that_begins_as_the_bot_does_is_fine_where_both_can_be_told() -> None:
    ours = Namespaces(
        server_name="example.org", prefix="trestle_", bot_localpart="trestle",
        sender_localpart="trestle_.5", networks=[IRC],
    )  # fmt: skip
    assert ours.is_bot(UserId("@trestle:example.org"))
    assert ours.parse_ghost("@trestle_.5:example.org") is None
    assert ours.parse_ghost("@trestle_irc_a:example.org") == (IRC, "a")


def test_a_server_name_that_leaves_no_room_is_refused() -> None:
    instance = InstanceId("a" * 16)
    longest = 255 - len(f"@_trestle_{instance}_=h:") - 32
    ours = Namespaces(server_name="s" * longest, networks=[instance])
    ghost = ours.ghost(instance, "B" * 100)
    assert len(ghost) == 255
    assert ours.parse_ghost(ghost) == (instance, "B" * 100)
    with pytest.raises(ConfigError, match="too long"):
        Namespaces(server_name="s" * (longest + 1), networks=[instance])


# --- the registration ---


def matches(expressions: list[str], text: str) -> bool:
    # As Synapse does it. No id holds a line break, which ``$`` would let stand at the end.
    return any(re.match(one, text) for one in expressions)


@examples(300)
@given(st.sampled_from(SERVERS), st.sampled_from(PREFIXES), any_ids, servers_of_any)
def test_the_registration_matches_who_is_ours(
    own: str, prefix: str, begin: str, server: str
) -> None:
    ours, spelled = make(own, prefix), begin + server
    assume(not spelled.endswith("\n"))
    users, aliases = ours.regexes()["users"], ours.regexes()["aliases"]
    assert matches(users, spelled) == (ours.is_ours(spelled) and spelled != ours.sender)
    is_alias = spelled.startswith(f"#{prefix}") and ours.is_ours("@" + spelled[1:])
    assert matches(aliases, spelled) == is_alias


@examples(200)
@given(spaces, networks, remote_ids)
def test_the_registration_matches_every_id_that_is_made(
    ours: Namespaces, instance: InstanceId, remote_id: str
) -> None:
    assert matches(ours.regexes()["users"], ours.ghost(instance, remote_id))
    assert matches(ours.regexes()["aliases"], ours.alias(instance, remote_id))
    assert all(matches(ours.regexes()["users"], bot) for bot in ours.bot_ids)


@pytest.mark.parametrize("server", SERVERS)
def test_the_expressions_are_such_as_every_homeserver_reads(server: str) -> None:
    for one in chain.from_iterable(make(server).regexes().values()):
        # Letters behind a backslash mean something else from language to language.
        assert not re.search(r"\\[A-Za-z0-9]|\(\?", one)
        assert one.startswith("^")
        assert one.endswith("$")


@pytest.mark.parametrize("server", SERVERS)
def test_the_registration_is_read_back_as_it_was_written(server: str, tmp_path: Path) -> None:
    settings = AppserviceSettings(
        as_token=Secret("a" * 43), hs_tokens=(Secret("h" * 43),), sender_localpart="hidden.5"
    )
    ours = make(server)
    wanted = registration(settings, ours, ["xmpp", "irc"])
    file = tmp_path / "registration.yaml"
    with file.open("w") as stream:
        YAML().dump(wanted, stream)
    assert differences(read_registration(file), wanted) == []
    assert wanted["namespaces"] == {
        "users": [{"exclusive": True, "regex": one} for one in ours.regexes()["users"]],
        "aliases": [{"exclusive": True, "regex": one} for one in ours.regexes()["aliases"]],
        "rooms": [],
    }
    assert wanted["protocols"] == ["irc", "xmpp"]


@pytest.mark.parametrize("server", SERVERS)
def test_for_double_puppets_it_names_the_people_of_our_server_and_takes_none_of_them(
    server: str,
) -> None:
    settings = AppserviceSettings(
        as_token=Secret("a" * 43), hs_tokens=(Secret("h" * 43),), sender_localpart="hidden.5",
        double_puppets=True,
    )  # fmt: skip
    ours = make(server)
    *exclusive, shared = registration(settings, ours)["namespaces"]["users"]
    assert [one["regex"] for one in exclusive] == ours.regexes()["users"]
    assert shared == {"exclusive": False, "regex": ours.everybody()}
    assert matches([shared["regex"]], f"@anybody:{server}")
    assert not matches([shared["regex"]], f"@anybody:evil:{server}")
    assert not matches([shared["regex"]], f"@anybody:{server}.evil")
    assert not re.search(r"\\[A-Za-z0-9]|\(\?", shared["regex"])
