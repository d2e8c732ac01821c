"""Rules of policy lists: which there are, whom they are about, what would be done by them."""

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.core.permissions.policyrules import (
    MOST_AT_ONCE,
    About,
    InForce,
    Rule,
    Ruleset,
    aim,
    read_rule,
    weigh,
)
from bridge.matrix.namespaces import Namespaces
from bridge.sdk.globs import Glob
from bridge.sdk.ids import InstanceId, UserId
from tests.rigs.quick import is_quick
from tests.rigs.scale import examples

IRC = InstanceId("irc")


def user(text: str) -> Rule:
    return Rule(About.USER, Glob(text))


def server(text: str) -> Rule:
    return Rule(About.SERVER, Glob(text))


def people(*names: str) -> list[UserId]:
    return [UserId(name) for name in names]


# --- patterns ---


@examples(1000)
@given(st.text("ab*?", max_size=9), st.text("ab", max_size=12))
def test_a_pattern_matches_what_the_specification_says(pattern: str, text: str) -> None:
    signs = {"*": ".*", "?": "."}
    meant = "".join(signs.get(one, re.escape(one)) for one in re.sub(r"\*+", "*", pattern))
    assert Glob(pattern).matches(text) == bool(re.fullmatch(meant, text, re.DOTALL))


@pytest.mark.parametrize("pattern", ["*a" * 200 + "b*", "@*" + "?*" * 200 + "z*", "*" * 500 + "b"])
def test_no_pattern_takes_long(pattern: str) -> None:
    glob = Glob(pattern)

    def use() -> None:
        for _ in range(20):
            assert not glob.matches("@" + "a" * 254)
            glob.between("@" + "a" * 100, "a" * 100)

    assert is_quick(use, 1)


def test_a_pattern_means_every_sign_but_two_as_it_is() -> None:
    assert Glob("@a.b[c]*:x").matches("@a.b[c]d:x")
    assert not Glob("@a.b*:x").matches("@aXbc:x")
    assert not Glob("@A*").matches("@a1")
    assert Glob("?").matches("\n")


# --- rules ---


@pytest.mark.parametrize("begin", ["m.policy.rule", "m.room.rule", "org.matrix.mjolnir.rule"])
@pytest.mark.parametrize("recommendation", ["m.ban", "org.matrix.mjolnir.ban"])
def test_a_rule_is_read_by_its_names_of_now_and_before(begin: str, recommendation: str) -> None:
    content = {"entity": "@bad*:x", "recommendation": recommendation, "reason": "spam"}
    assert read_rule(f"{begin}.user", content) == user("@bad*:x")
    assert read_rule(f"{begin}.server", content) == server("@bad*:x")
    assert read_rule(f"{begin}.room", content) == Rule(About.ROOM, Glob("@bad*:x"))


@pytest.mark.parametrize(
    "content",
    [
        {}, {"entity": "@a:x"}, {"entity": "@a:x", "recommendation": "org.matrix.mjolnir.allow"},
        {"entity": "@a:x", "recommendation": "m.unknown"},
        {"entity": 5, "recommendation": "m.ban"}, {"entity": "", "recommendation": "m.ban"},
        {"entity": "a" * 513, "recommendation": "m.ban"},
        {"entity": "@a:x", "recommendation": ["m.ban"]}, {"recommendation": "m.ban"},
    ],
)  # fmt: skip
def test_what_bans_nobody_is_no_rule(content: dict[str, Any]) -> None:
    assert read_rule("m.policy.rule.user", content) is None


def test_other_events_are_no_rules() -> None:
    content = {"entity": "@a:x", "recommendation": "m.ban"}
    assert read_rule("m.room.topic", content) is read_rule("m.policy.rule", content) is None


def test_rules_are_about_people_by_name_by_pattern_and_by_homeserver() -> None:
    rules = Ruleset.of(
        [user("@bad:x"), user("@spam*:*"), server("evil.org"), server("*.evil.org")]
    )
    for one in ("@bad:x", "@spammer:good.org", "@a:evil.org", "@a:evil.org:8448", "@a:b.evil.org"):
        assert rules.covers(UserId(one)), one
    for one in ("@bad:y", "@nospam:x", "@a:notevil.org", "@a:evil.org.uk", "@evil.org:x"):
        assert not rules.covers(UserId(one)), one
    assert not Ruleset.of([Rule(About.ROOM, Glob("*"))]).covers(UserId("@a:x"))


# --- what they would do ---


def test_a_rule_about_the_bridge_the_admins_or_very_many_is_held() -> None:
    crowd = people(*(f"@u{number}:big.org" for number in range(MOST_AT_ONCE + 1)))
    members = [*crowd, *people("@bot:here", "@admin:here", "@bad:there")]
    rules = [user("@bad:there"), user("@*:here"), server("big.org"), user("@u1:*"), server("none")]
    weighed = weigh(rules, members, people("@bot:here", "@admin:here", "@away:here"))
    assert weighed.in_force == {user("@bad:there"), user("@u1:*"), server("none")}
    assert weighed.held == {
        user("@*:here"): "@admin:here, @away:here, @bot:here",
        server("big.org"): "11 people of this room",
    }
    assert set(weighed.about) == set(members)
    assert weighed.risks[-1] == "it is about 14 people of this room at once"


def test_rules_that_are_about_few_need_no_more_than_to_be_asked_for() -> None:
    rules = [user("@bad:there"), server("evil.org")]
    weighed = weigh(rules, people("@bad:there", "@good:here"), people("@admin:here"))
    assert (weighed.about, weighed.risks) == (people("@bad:there"), [])
    assert weighed.in_force == set(rules)


def test_many_rules_and_many_people_are_weighed_in_no_time() -> None:
    rules = [user(f"@spam{number}*:evil{number}.org") for number in range(500)]
    members = people(*(f"@u{number}:big{number % 50}.org" for number in range(2000)))

    def weigh_all() -> None:
        assert not weigh(rules, members, []).about

    assert is_quick(weigh_all, 10)


def test_what_is_in_force_is_so_for_one_portal() -> None:
    lists = InForce()
    lists.put(1, [user("@bad:x")])
    assert lists.cover(1, UserId("@bad:x"))
    assert not lists.cover(2, UserId("@bad:x"))
    lists.put(1, [])
    assert not lists.cover(1, UserId("@bad:x"))
    assert lists.of(1) == frozenset()


# --- people of a network ---


OURS = Namespaces(server_name="here", networks=[IRC, InstanceId("irc2")])
ESCAPED = re.compile("(?:=[0-9a-f]{2})+")


@pytest.mark.parametrize(
    ("pattern", "remote"),
    [
        ("@_trestle_irc_bob:here", ["bob"]), ("@_trestle_irc_sp=5b*:here", ["sp[*"]),
        ("@_trestle_irc_a?b*:*", ["a?b*"]), ("@_trestle_irc_bob:h*", ["bob"]),
        ("@_trestle_irc_*:here", ["*"]), ("@_trestle_irc_b=4*:here", []),
        ("@_trestle_irc_bob:there", []), ("@_trestle_irc2_bob:here", []),
        ("@*bob:here", ["*bob"]), ("*", ["*"]), ("@bob:here", []), ("@_trestle_irc_:here", []),
        ("@*spam*:*", ["*spam*"]), ("*spam*", ["*spam*"]), ("@?*troll:here", ["*troll"]),
        ("@*spam*:there", []), ("@*SPAM*:*", []), ("*trestle*", ["*"]), ("*:her?", ["*"]),
        ("@*_a*:*", ["a*"]), ("*c?a*", ["*c?a*", "a*"]), ("*spam?*", ["*spam", "*spam?*"]),
        ("@?????????????????here", ["???"]), ("*=5b*=c3=a9", []), ("@*=5b*=c3=a9:here", ["*[*é"]),
        ("@*a=2a:here", []), ("@*=61*:here", []), ("@*=c3*:here", []),
    ],
)  # fmt: skip
def test_a_pattern_of_ids_is_read_as_those_of_nicks(pattern: str, remote: list[str]) -> None:
    assert OURS.read_pattern(pattern, IRC) == remote


@examples(300)
@given(st.text("ab*?", max_size=9), *3 * [st.text("ab", max_size=5)])
def test_what_a_pattern_leaves_between_two_texts_is_exact(
    pattern: str, begin: str, text: str, end: str
) -> None:
    left = Glob(pattern).between(begin, end)
    assert any(one.matches(text) for one in left) == Glob(pattern).matches(begin + text + end)
    assert len(left) <= (1 + len(begin)) * (1 + len(end))


PIECES = [
    "*", "*", "*", "?", "?", "a", "b", "5", "=5b", "=5", "=c3=a9", "=c3", "=61", "_", "@", ":",
    "irc_", "c", "here", "h", "re", "@_trestle_irc_", ":here",
]  # fmt: skip


@examples(500)
@given(st.lists(st.sampled_from(PIECES), max_size=8).map("".join), st.text("ab5[é", min_size=1))
def test_a_nick_is_banned_if_and_only_if_its_ghost_is_meant(pattern: str, nick: str) -> None:
    ghost = OURS.ghost(IRC, nick)
    meant = Glob(signs_of(pattern)).matches(signs_of(ghost))
    assert any(Glob(one).matches(nick) for one in OURS.read_pattern(pattern, IRC)) == meant
    if "=" not in ghost:
        assert Glob(pattern).matches(ghost) == meant


def signs_of(text: str) -> str:
    """The same with one sign, that is in no pattern, in place of every one that is escaped."""

    def read(found: re.Match[str]) -> str:
        data = bytes.fromhex(found[0].replace("=", ""))
        try:
            return "".join(chr(0xE000 + ord(sign)) for sign in data.decode())
        except UnicodeDecodeError:
            return found[0]

    return ESCAPED.sub(read, text)


def test_a_rule_about_everybody_or_very_many_of_a_network_bans_nobody_there_and_is_held() -> None:
    wide = [user("@*:*"), user("@" + "?" * 16 + ":here"), user("*?????????????z*")]
    rules = [user("@*spam*:*"), server("*:here"), user("@_trestle_irc_bob:here"), *wide]
    aimed = aim(rules, lambda text: OURS.read_pattern(text, IRC))
    assert aimed.patterns == ["*spam*", "bob"]
    assert aimed.too_wide == set(wide)
    everybody = "everybody on irc, or very many there"
    weighed = weigh(wide, people("@a:b"), people("@admin:here"), aimed.too_wide, "irc")
    assert weighed.held == {
        wide[0]: f"@admin:here, and {everybody}", wide[1]: everybody, wide[2]: everybody,
    }  # fmt: skip
    assert not weighed.in_force


def test_a_rule_about_a_homeserver_is_about_it_in_whatever_letters_and_one_about_a_person_is_not(
) -> None:  # fmt: skip
    rules = Ruleset.of([server("Evil.example"), server("*.BAD.example"), user("@Bad:ok.example")])
    covered = people("@x:EVIL.example", "@x:evil.example:80", "@x:One.bad.example")
    left_alone = people("@bad:ok.example", "@Bad:OK.example", "@x:good.example")
    assert all(map(rules.covers, covered))
    assert rules.covers(UserId("@Bad:ok.example"))
    assert not any(map(rules.covers, left_alone))
