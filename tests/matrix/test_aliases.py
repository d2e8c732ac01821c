"""How an instance's chats are called as aliases, where the settings have a template for it."""

import re

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from bridge.matrix.namespaces import Namespaces
from bridge.sdk.errors import ConfigError
from bridge.sdk.ids import InstanceId
from bridge.settings.aliasformat import AliasTemplate, check_template
from tests.rigs.scale import examples

LIBERA, OFTC, HOME = InstanceId("libera"), InstanceId("oftc"), InstanceId("home")
TEMPLATES = {LIBERA: "#irc_{network}_{chat}", OFTC: "#{network}={chat}=4"}

chats = st.text(st.characters(), min_size=1, max_size=80) | st.text("=4a1:# \0é", min_size=1)


def make(templates: dict[InstanceId, str] | None = None) -> Namespaces:
    return Namespaces(
        server_name="example.org", networks=[LIBERA, OFTC, HOME], templates=templates or TEMPLATES
    )


@pytest.mark.parametrize(
    ("chat", "localpart"),
    [
        ("#matrix", "irc_libera_#matrix"),
        ("##c++", "irc_libera_##c++"),
        ("#a=b", "irc_libera_#a=b"),
        ("#a=41", "irc_libera_#a=3d41"),
        ("#é[x]", "irc_libera_#é[x]"),
        ("a:b c", "irc_libera_a=3ab=20c"),
    ],
)
def test_a_chat_is_called_as_people_write_it(chat: str, localpart: str) -> None:
    assert make().alias(LIBERA, chat) == f"#{localpart}:example.org"
    assert make().parse_alias(f"#{localpart}:example.org") == (LIBERA, chat)


@examples(500)
@given(st.sampled_from((LIBERA, OFTC, HOME)), chats)
def test_any_chat_comes_back_and_the_registration_has_its_alias(
    instance: InstanceId, chat: str
) -> None:
    ours = make()
    alias = ours.alias(instance, chat)
    assert ours.parse_alias(alias) == (instance, chat)
    assert len(alias.encode()) <= 255
    localpart, server = alias[1:].split(":")
    assert server == "example.org"
    assert not re.search(r"[\s\0]", localpart)
    found = [one for one in ours.regexes()["aliases"] if re.match(one, alias)]
    assert len(found) == 1


@examples(500)
@given(st.text("#=4a1_", max_size=12))
def test_an_alias_has_one_meaning_and_a_meaning_one_alias(inner: str) -> None:
    ours = make()
    alias = f"#irc_libera_{inner}:example.org"
    parsed = ours.parse_alias(alias)
    assert parsed is None or ours.alias(*parsed) == alias


def test_aliases_of_before_there_was_a_template_stay_ours() -> None:
    ours = make()
    assert ours.parse_alias("#_trestle_libera_=23matrix:example.org") == (LIBERA, "#matrix")
    assert ours.alias(HOME, "#matrix") == "#_trestle_home_=23matrix:example.org"
    long = "#" + "é" * 200
    assert ours.alias(LIBERA, long).startswith("#_trestle_libera_=23")
    assert ours.parse_alias(ours.alias(LIBERA, long)) == (LIBERA, long)


@pytest.mark.parametrize(
    "alias",
    [
        "#irc_libera_:example.org", "#irc_libera_#a:evil.org", "#irc_libera_#a:b:example.org",
        "#irc_libera_#a=3d:example.org", "@irc_libera_#a:example.org", "#oftc=a:example.org",
        "#irc_libera_=ff:example.org", "#irc_libera_" + "a" * 300 + ":example.org",
    ],
)  # fmt: skip
def test_other_spellings_are_no_chat(alias: str) -> None:
    assert make().parse_alias(alias) is None


def test_a_network_that_is_not_there_any_more_has_no_aliases() -> None:
    ours = make()
    ours.know_instances([OFTC], [])
    assert ours.parse_alias("#irc_libera_#a:example.org") is None


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        ("#irc_{network}", "hold {chat} exactly once"),
        ("#irc_{chat}_{chat}", "hold {chat} exactly once"),
        ("#irc_{chat}{x}", "in braces"),
        ("#irc_{chat}}", "in braces"),
        ("irc_{chat}", "begins with #"),
        ("#{chat}", "some characters of its own"),
        ("#irc:{chat}", "no spaces or colons"),
        ("#irc {chat}", "no spaces or colons"),
        ("#" + "a" * 100 + "{chat}", "100 characters"),
    ],
)
def test_what_is_no_template_is_refused_with_the_reason(template: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        check_template(template)


@pytest.mark.parametrize(
    ("templates", "words"),
    [
        ({LIBERA: "#irc_{chat}", OFTC: "#irc_oftc_{chat}"}, "those of libera"),
        ({LIBERA: "#irc_{chat}", OFTC: "#irc_{chat}"}, "those of libera"),
        ({LIBERA: "#_{chat}"}, "all that begin with #_trestle_"),
        ({LIBERA: "#_trestle_{network}_{chat}"}, "all that begin with #_trestle_"),
    ],
)
def test_two_networks_whose_aliases_could_be_each_others_are_refused(
    templates: dict[InstanceId, str], words: str
) -> None:
    with pytest.raises(ConfigError, match=rf"alias_template.*{words}"):
        make(templates)


@examples(300)
@given(*(st.text("#ab", min_size=1, max_size=3) for _ in range(4)), chats, chats)
def test_templates_that_do_not_clash_share_no_alias(
    head: str, tail: str, other_head: str, other_tail: str, chat: str, other_chat: str
) -> None:
    one, other = AliasTemplate(head, tail), AliasTemplate(other_head, other_tail)
    assume(not one.clashes(other))
    assert one.spell(chat) != other.spell(other_chat)
