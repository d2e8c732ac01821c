"""A newer version's keys and words come into an admin's file, of which nothing else changes."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ruamel.yaml import YAML

from bridge.sdk.errors import ConfigError
from bridge.settings.records import Settings, keys_of, name_in_file, sections
from bridge.upgrade import Merged, Move, base_of, merge, named_version, read_example, shipped
from tests.rigs.scale import examples

OLD = """\
# The settings of Trestle 1.0. `trestle init` writes a config.yaml of your own.

# How we reach the homeserver.
homeserver:
  # The base URL.
  url: https://matrix.example.org
  # How long we wait, in
  # seconds.
  # patience: 5.0
  # An old thing.
  # herald: false

# Where everything is kept.
database:
  # `embedded` or an URL.
  # url: embedded

# What runs.
modules:
  libera:
    module: irc

# How long, how often.
limits:
  # Seconds for one event.
  # deadline: 30.0
  # How often an event is tried.
  # tries: 3
"""

NEW = """\
# The settings of Trestle 2.0. `trestle init` writes a config.yaml of your own.

# How we reach the homeserver, and how long we wait for it.
homeserver:
  # The base URL.
  url: https://matrix.example.org
  # The proxy in between.
  # proxy: null
  # How long we wait, in seconds; the homeserver may be slow.
  # patience: 8.0

# Where everything is kept.
database:
  # `embedded` or an URL.
  # url: embedded

# What runs.
modules:
  libera:
    module: irc

# Rooms that are to be bridged.
# rooms:
#   - room: "#lobby:example.org"
#     bots: [dice]

# What is written.
logging:
  # The least important lines.
  # level: info

# How long, how often.
limits:
  # How often an event is tried.
  # attempts: 3
  # Seconds for one event.
  # deadline: 30.0
  # How many at once.
  # at_once: 100
"""
MOVES = (Move(("limits", "tries"), ("limits", "attempts")),)

ODD = """\
# Our bridge. Ask Maria before you touch it.
%s
limits: &limits   # (rarely touched)
    tries: 7      # the network is flaky
    deadline: 60  # see ticket 12

x-quick: &quick {flood_rate: 50,
                 flood_burst: 20}  # ours
x-servers: &servers
    - host: irc.example.org   # first
    # the second one is slow
    - {host: irc2.example.org,
       port: 6697}

modules:
    # the big one
    libera:
        module: irc
        servers: *servers
    quiet:
        <<: *quick
        module: irc

# How we reach the homeserver.
homeserver:
    # How long we wait, in seconds.
    # patience: 5.0
    # my own words on the URL
    url: 'https://matrix.example.org'   # quoted on purpose

    # An old thing.
    # herald: false
    # and a last word
database: {url: "postgresql:///x"}
# the end
"""


def load(text: str) -> dict[str, object]:
    document = YAML(typ="safe", pure=True).load(text)
    assert isinstance(document, dict)
    return document


def comments(text: str) -> list[str]:
    return [" ".join(line.split()) for line in re.findall(r"#.*", text)]


def upgrade(user: str) -> Merged:
    return merge(user, OLD, NEW, version="2.0", moves=MOVES)


def check_second_run(merged: Merged) -> None:
    again = merge(merged.text, NEW, NEW, version="2.0", moves=MOVES)
    assert (again.text, again.notes) == (merged.text, [])


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("head", ["", "# Settings of Trestle 1.0.\n", "---\n"])
def test_an_odd_file_keeps_every_word_and_its_order(head: str, newline: str) -> None:
    user = (ODD % head).replace("\n", newline)
    merged = upgrade(user)
    shipped_words = {"# How we reach the homeserver.", "# How long we wait, in seconds.",
                     "# patience: 5.0", "# An old thing.", "# herald: false",
                     "# Settings of Trestle 1.0."}  # fmt: skip
    kept = [one for one in comments(user) if one not in shipped_words]
    assert len(kept) >= 12
    there = iter(comments(merged.text))
    assert all(one in there for one in kept), "a comment of the user is gone or moved"
    before, after = load(user), load(merged.text)
    assert before["limits"]["tries"] == after["limits"].pop("attempts")  # type: ignore
    assert before["limits"].pop("tries") == 7  # type: ignore[attr-defined]
    assert {k: v for k, v in after.items() if v is not None} == before
    assert list(after) == [
        "limits",
        "x-quick",
        "x-servers",
        "modules",
        "logging",
        "homeserver",
        "database",
    ]
    assert ("\r\n" in merged.text) is (newline == "\r\n")
    assert "\n" not in merged.text.replace(newline, "")
    check_second_run(merged)


def test_a_file_whose_lines_end_in_two_ways_is_merged_as_any_other() -> None:
    expected = upgrade(ODD % "")
    for first in (0, 1):
        lines = (ODD % "").splitlines(keepends=True)
        lines[first::2] = [line.replace("\n", "\r\n") for line in lines[first::2]]
        merged = upgrade("".join(lines))
        assert merged.notes == expected.notes
        assert merged.text.replace("\r", "") == expected.text
        assert {"\r\n", "\n"} == set(re.findall(r"\r?\n", merged.text))
        check_second_run(merged)
    with pytest.raises(ConfigError, match="so it is left as it is"):
        upgrade((ODD % "").replace("\n", "\r"))


def test_an_odd_file_gets_all_that_is_new() -> None:
    merged = upgrade(ODD % "")
    lines = merged.text.splitlines()
    assert lines[0] == "# Settings of Trestle 2.0."
    assert "    attempts: 7      # the network is flaky" in lines
    assert "    # How many at once.\n    # at_once: 100\n" in merged.text
    assert '\n\n# Rooms that are to be bridged.\n# rooms:\n#   - room: "#lobby' in merged.text
    assert "# What is written.\nlogging:\n    # The least" in merged.text
    assert "# How we reach the homeserver, and how long we wait for it.\nhome" in merged.text
    words = "    # How long we wait, in seconds; the homeserver may be slow."
    assert f"{words}\n    # patience: 8.0\n" in merged.text
    assert "An old thing" not in merged.text
    assert "    # The proxy in between.\n    # proxy: null\n" in merged.text
    assert "limits.tries is limits.attempts now" in merged.notes
    assert "homeserver.herald is no longer there" in merged.notes


def test_what_the_user_has_taken_out_stays_out() -> None:
    merged = upgrade("homeserver:\n  url: https://x\nlimits:\n  deadline: 9\n")
    assert merged.text == (
        "# Settings of Trestle 2.0.\n\n"
        "homeserver:\n  url: https://x\n  # The proxy in between.\n  # proxy: null\n\n"
        '# Rooms that are to be bridged.\n# rooms:\n#   - room: "#lobby:example.org"\n'
        "#     bots: [dice]\n\n"
        "# What is written.\nlogging:\n  # The least important lines.\n  # level: info\n\n"
        "limits:\n  # How often an event is tried.\n  # attempts: 3\n  deadline: 9\n"
        "  # How many at once.\n  # at_once: 100\n"
    )
    check_second_run(merged)


def test_the_untouched_old_example_becomes_the_new_one() -> None:
    assert sorted(upgrade(OLD).text.splitlines()) == sorted(NEW.splitlines())


def test_a_key_that_is_not_known_any_more_becomes_a_comment() -> None:
    merged = upgrade("homeserver:\n  url: https://x\n  herald: true  # I liked it\n")
    assert (
        "  # Trestle 2.0 does not know this any more:\n  # herald: true  # I liked it\n"
    ) in merged.text
    assert load(merged.text)["homeserver"] == {"url": "https://x"}
    check_second_run(merged)


def test_a_key_may_move_into_another_section_with_its_words() -> None:
    old = "a:\n  # One.\n  # x: 1\n  # y: 1\n\nb:\n  # z: 1\n"
    new = "a:\n  # One.\n  # x: 1\n\nb:\n  # z: 1\n  # y: 1\n\nc:\n  # w: 1\n"
    user = "a:\n    x: 2\n    # mine\n    y:\n      - 5  # five\n      - 6\nb:\n  z: 3\n"
    moves = (Move(("a", "y"), ("b", "y")),)
    merged = merge(user, old, new, version="2", moves=moves)
    assert "b:\n  # mine\n  y:\n    - 5  # five\n    - 6\n  z: 3\n" in merged.text
    assert load(merged.text) == {"a": {"x": 2}, "b": {"y": [5, 6], "z": 3}, "c": None}
    alone = merge("a:\n  y: 1\n", old, new.replace("b:", "d:"), version="2",
                  moves=(Move(("a", "y"), ("d", "y")),))  # fmt: skip
    assert load(alone.text)["d"] == {"y": 1}


def test_a_secret_given_by_a_file_moves_with_its_key() -> None:
    old, new = "a:\n  # y: 1\n", "a:\n  # z: 1\n"
    moves = (Move(("a", "y"), ("a", "z")),)
    merged = merge("a:\n  y_file: secret\n", old, new, version="2", moves=moves)
    assert load(merged.text) == {"a": {"z_file": "secret"}}


def test_what_stands_in_one_line_is_left_and_said() -> None:
    merged = upgrade("homeserver: {url: https://x}\n")
    assert "homeserver: {url: https://x}" in merged.text
    assert (
        "homeserver.proxy is new, and not put in, since homeserver stands in one line: "
        "The proxy in between. (proxy: null)"
    ) in merged.notes
    assert "limits.at_once is new, and not put in, since limits is not in your file" in " ".join(
        merged.notes
    )
    whole = upgrade('{"homeserver": {"url": "https://x"}}\n')
    assert load(whole.text) == {"homeserver": {"url": "https://x"}}


def test_an_anchor_that_a_change_would_break_is_left_with_a_sentence() -> None:
    gone = "homeserver:\n  url: https://x\n  herald: &flag true\nlogging:\n  level: *flag\n"
    spread = "limits: &all\n  tries: 4\nmodules:\n  quiet:\n    <<: *all\n"
    for user in (gone, spread):
        with pytest.raises(ConfigError, match="so it is left as it is"):
            upgrade(user)


def test_a_list_of_aliases_and_a_text_that_looks_like_comments_stay_whole() -> None:
    user = (
        "x-a: &a {host: a}\nhomeserver:\n  url: |-\n    # https://x\n    # is it\n"
        "limits:\n  tries:\n    - *a\n    - *a\n  deadline: 4\n"
    )
    merged = upgrade(user)
    after = load(merged.text)
    assert after["homeserver"] == {"url": "# https://x\n# is it"}
    assert after["limits"] == {"attempts": [{"host": "a"}] * 2, "deadline": 4}
    check_second_run(merged)


# --- any file ---

_WORDS = st.sampled_from(["mine", "do not touch", "see: the wiki", "url is odd", "x" * 90])


@st.composite
def _files(draw: st.DrawFn) -> str:
    """Some order of some of the old example's entries, in use or not, with the user's words."""
    blocks: list[str] = []
    indent = " " * draw(st.sampled_from([1, 2, 4]))
    entries = read_example(OLD)
    tops = draw(st.permutations([path for path in entries if len(path) == 1]))
    for top in tops[: draw(st.integers(1, len(tops)))]:
        lines = [f"# {word}" for word in draw(st.lists(_WORDS, max_size=2))]
        if draw(st.booleans()):
            lines += [f"# {word}" for word in entries[top].comment]
        value = "" if draw(st.booleans()) else "  # " + draw(_WORDS)
        if top == ("modules",):
            lines += [f"modules:{value}", f"{indent}libera: {{module: irc}}"]
        else:
            lines.append(f"{top[0]}:{value}")
        for path in draw(st.permutations([p for p in entries if p[:1] == top and p != top])):
            if draw(st.booleans()):
                continue
            lines += [f"{indent}# {word}" for word in draw(st.lists(_WORDS, max_size=1))]
            if draw(st.booleans()):
                lines += [f"{indent}# {word}" for word in entries[path].comment]
            mark = "# " if draw(st.booleans()) else ""
            lines += [f"{indent}{mark}{line}" for line in entries[path].lines]
            lines += [""] * draw(st.integers(0, 2))
        blocks.append("\n".join(lines))
    mark = draw(st.sampled_from(["", "\ufeff"]))
    head = draw(st.sampled_from(["", "# The settings of Trestle 1.0.\n\n"]))
    return mark + head + draw(st.sampled_from(["\n", "\n\n"])).join(blocks)


@given(_files())
@examples(40)
def test_of_any_file_no_word_of_the_user_is_lost_and_the_second_run_changes_nothing(
    user: str,
) -> None:
    merged = upgrade(user)
    for word in ("mine", "do not touch", "see: the wiki", "url is odd", "x" * 90):
        assert merged.text.count(f"# {word}") == user.count(f"# {word}")
    before, after = load(user), load(merged.text)
    for document in (before, after):
        for name in ("homeserver", "limits"):
            document[name] = document.get(name) or {}
    before["homeserver"].pop("herald", None)  # type: ignore[attr-defined]
    if "tries" in before["limits"]:  # type: ignore[operator]
        before["limits"]["attempts"] = before["limits"].pop("tries")  # type: ignore
    assert {k: v for k, v in after.items() if v} == {k: v for k, v in before.items() if v}
    check_second_run(merged)


# --- the versions ---


def test_every_key_of_the_settings_is_an_entry_of_the_newest_example() -> None:
    newest = list(shipped().values())[-1]
    wanted: set[tuple[str, ...]] = {(name,) for name in keys_of(Settings)}
    for section, keys in sections().items():
        for name, (key, _, _) in keys.items():
            wanted |= {(section, one) for one in (name_in_file(name, key), *key.also)}
    assert set(read_example(newest)) == wanted


def test_the_version_is_the_one_that_the_file_names() -> None:
    versions = {"1.0": OLD, "2.0": NEW}
    assert named_version("# Settings of Trestle 1.0; more words\na: 1\n") == "1.0"
    assert named_version(NEW) == "2.0"
    assert named_version("# we run Trestle 3 here\n") is None
    unnamed = "# The settings of Trestle. More words.\nhomeserver:\n  url: https://x\n"
    assert named_version(unnamed) is None
    assert upgrade(unnamed).text.startswith("# The settings of Trestle 2.0. More words.\nhome")
    assert base_of("# Settings of Trestle 1.0; more\n" + NEW.partition("\n")[2], versions) == "1.0"


def test_the_version_of_a_file_that_names_none_is_the_one_it_is_most_like() -> None:
    versions = {"1.0": OLD, "2.0": NEW}
    for version, text in versions.items():
        assert base_of(text.partition("\n")[2], versions) == version
    assert base_of("homeserver:\n  url: https://x\n", versions) == "1.0"
    assert base_of("# Settings of Trestle 9.9\n", versions) == "1.0"
