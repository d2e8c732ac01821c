"""Per-message profiles (MSC4144): what is read of them and what is written."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.core.traffic.relaying import as_relayed
from bridge.matrix.html import content_for, parse
from bridge.matrix.profiles import find_name, say_as, without_fallback
from bridge.sdk.events import MessageKind
from bridge.sdk.rich import Rich, Text
from bridge.sdk.testing.records import make_message
from bridge.sdk.text import to_plain
from bridge.settings.nameformat import check_format
from tests.rigs.scale import examples

CAT = {"id": "cat", "displayname": "Cat", "has_fallback": True}


@pytest.mark.parametrize(
    ("content", "name"),
    [
        ({}, ""),
        ({"com.beeper.per_message_profile": CAT}, "Cat"),
        ({"m.per_message_profile": CAT, "com.beeper.per_message_profile": {}}, "Cat"),
        ({"com.beeper.per_message_profile": "Cat"}, ""),
        ({"com.beeper.per_message_profile": {"displayname": 1}}, ""),
        ({"com.beeper.per_message_profile": {"displayname": "x" * 256}}, ""),
        ({"com.beeper.per_message_profile": {"displayname": "a\nb\0 c"}}, "a b c"),
    ],
)
def test_a_name_is_read_where_it_is_one(content: dict[str, Any], name: str) -> None:
    assert find_name(content) == name


@given(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=300),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=300),
)
@examples(20)
def test_what_is_written_is_read_back(name: str, text: str) -> None:
    plain = content_for(Rich.plain(text), MessageKind.TEXT)
    written = content_for(Rich.plain(text), MessageKind.TEXT)
    say_as(written, name, name)
    profile = written[0]["com.beeper.per_message_profile"]
    assert all(0 < len(profile[key].encode()) <= 255 for key in ("id", "displayname"))
    left = without_fallback(written[0])
    assert left["body"] == plain[0]["body"]
    assert to_plain(parse(left)).split() == to_plain(parse(plain[0])).split()


def test_only_the_first_piece_of_a_long_message_names_its_speaker_in_the_text() -> None:
    pieces = content_for(Rich.plain("long words " * 20_000), MessageKind.TEXT)
    assert len(pieces) > 1
    say_as(pieces, "cat", "Cat")
    assert [one["body"].startswith("Cat: ") for one in pieces] == [True] + [False] * (
        len(pieces) - 1
    )
    assert all(one["com.beeper.per_message_profile"]["id"] == "cat" for one in pieces)


def test_a_relay_names_whom_the_message_names_behind_what_we_put_before_it() -> None:
    content = {
        "msgtype": "m.text", "body": "Cat: meow", "com.beeper.per_message_profile": CAT,
    }  # fmt: skip
    edit = {"m.new_content": content, "body": "* Cat: meow"}
    message = make_message(Rich((Text("* "), *parse(content).nodes)), chat="chat")
    relayed = as_relayed(message, edit, "{name} [{localpart}]")
    assert relayed.relayed
    assert to_plain(relayed.body) == "* meow"
    localpart = message.sender.user_id[1:].partition(":")[0]
    assert relayed.sender.name == f"Cat [{localpart}]"


@pytest.mark.parametrize(
    "wrong",
    ["nobody", "{", "{0}", "{}", "{name!r}", "{name:>99}", "{name.x}", "{server}", "{name}\n",
     "{name}" + "x" * 100],
)  # fmt: skip
def test_what_is_no_format_of_names_is_refused(wrong: str) -> None:
    with pytest.raises(ValueError, match=r"format|braces|who speaks|characters"):
        check_format(wrong)
