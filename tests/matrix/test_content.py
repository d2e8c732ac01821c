"""The content of a message: read from what people send, made of what is said."""

import json
from typing import Any
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.matrix.html import content_for, parse
from bridge.matrix.links import (
    find_address,
    find_person,
    is_alias,
    is_web_link,
    link_to,
)
from bridge.sdk.events import MessageKind
from bridge.sdk.ids import UserId
from bridge.sdk.rich import Code, LineBreak, Link, Mention, Node, Rich, Style, Styled, Text
from bridge.sdk.text import to_plain
from tests.rigs.quick import is_quick
from tests.rigs.scale import examples
from tests.rigs.trees import HOSTILE, texts

KIB_64 = 64 * 1024
HTML = {"msgtype": "m.text", "format": "org.matrix.custom.html"}
BOB = UserId("@bob:example.org")


def say(*nodes: Node) -> dict[str, Any]:
    """The one content that says it."""
    (content,) = content_for(Rich(nodes), MessageKind.TEXT)
    return content


def canonical(content: dict[str, Any]) -> bytes:
    return json.dumps(content, ensure_ascii=False, separators=(",", ":"), sort_keys=True).encode()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"body": "a\nb"}, "a\nb"),
        ({**HTML, "formatted_body": "<b>a</b>", "body": "b"}, "a"),
        ({"formatted_body": "<b>a</b>", "body": "b"}, "b"),
        ({**HTML, "format": "text/rtf", "formatted_body": "a", "body": "b"}, "b"),
        ({**HTML, "formatted_body": 5, "body": "b"}, "b"),
        ({**HTML, "formatted_body": "", "body": "b"}, "b"),
        ({**HTML, "formatted_body": "<mx-reply>a", "body": "b"}, "b"),
        ({**HTML, "formatted_body": "<!-- a", "body": "b"}, "b"),
        ({**HTML, "formatted_body": "a" * 300_000, "body": "b"}, "b"),
        ({"body": "a\0b\ud800"}, "ab\ufffd"),
        ({"body": ["a"]}, ""),
        ({}, ""),
    ],
)
def test_the_text_of_a_message_is_read(content: dict[str, Any], said: str) -> None:
    assert to_plain(parse(content)) == said


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("> <@a:b> said\n> more\n\nanswer\n> quoted", "answer\n> quoted"),
        ("> said\n  \n\t\n  answer", "  answer"),
        ("> said", ""),
        ("answer\n> said", "answer\n> said"),
        ("> a\n" * 16_000 + "\n" * 16_000 + "answer", "answer"),
    ],
    ids=range(5),
)
def test_an_answer_is_read_without_what_it_answers(body: str, said: str) -> None:
    answer = {"m.in_reply_to": {"event_id": "$e"}}
    assert to_plain(parse({"body": body, "m.relates_to": answer})) == said
    assert to_plain(parse({"body": body})) == body


def test_plain_text_has_no_html() -> None:
    assert say(Text("a"), LineBreak(), Text("<b>")) == {
        "msgtype": "m.text", "body": "a\n<b>", "m.mentions": {}
    }  # fmt: skip


def test_formatted_text_is_sent_both_ways() -> None:
    assert say(Styled(Style.BOLD, (Text("a"),)), Mention(BOB, "Bob")) == {
        "msgtype": "m.text",
        "body": "aBob",
        "format": "org.matrix.custom.html",
        "formatted_body": '<strong>a</strong><a href="https://matrix.to/#/@bob:example.org">Bob</a>',
        "m.mentions": {"user_ids": ["@bob:example.org"]},
    }


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (MessageKind.TEXT, "m.text"),
        (MessageKind.NOTICE, "m.notice"),
        (MessageKind.EMOTE, "m.emote"),
    ],
)
def test_every_kind_of_message_has_its_type(kind: MessageKind, name: str) -> None:
    assert content_for(Rich.plain("a"), kind)[0]["msgtype"] == name


def test_at_most_ten_people_hear_of_a_message_and_nobody_twice() -> None:
    many = [Mention(UserId(f"@u{number % 12}:b"), "x") for number in range(500)]
    content = say(*many, Mention(UserId("@no id"), "x"), Text("@room"))
    assert content["m.mentions"] == {"user_ids": [f"@u{number}:b" for number in range(10)]}


class Made:
    """A text, and what is sent for it once that is made."""

    def __init__(self, rich: Rich) -> None:
        self._rich = rich
        self.contents: list[dict[str, Any]] = []

    def make(self) -> None:
        """Make it."""
        self.contents = list(content_for(self._rich, MessageKind.TEXT))


@pytest.mark.parametrize(
    "text",
    ["word " * 30_000, "\n" * 45_000, "\0\ud800" * 50_000, "😀" * 35_000, "<&>" * 25_000],
    ids=range(5),
)
def test_a_long_text_is_sent_in_pieces_that_are_the_whole(text: str) -> None:
    for node in (Text(text), Code(text), Styled(Style.BOLD, (Text(text),))):
        made = Made(Rich((node,)))
        assert is_quick(made.make, 10)
        contents = made.contents
        assert len(contents) > 1
        assert all(len(canonical(content)) <= 65_536 - 2_048 for content in contents)
        said = "".join(content["body"] for content in contents)
        whole = text.replace("\0", "").replace("\ud800", "\ufffd")
        assert said.replace("\n", "") == whole.replace("\n", "")


@pytest.mark.parametrize(
    "node",
    [
        Text("e" + "\u0301" * 200_000),
        Mention(BOB, "b" * 100_000),
        Link("https://a.example/" + "b" * 100_000, (Text("here"),)),
        Code("x", "c" * 100_000),
    ],
    ids=range(4),
)
def test_what_cannot_be_split_well_is_sent_all_the_same(node: Node) -> None:
    contents = content_for(Rich((node,)), MessageKind.TEXT, external_url="https://a/" * 9_000)
    assert all(len(canonical(content)) <= 65_536 - 2_048 for content in contents)
    assert "".join(content["body"] for content in contents) == to_plain(Rich((node,)))


@examples(100)
@given(texts)
def test_whatever_is_said_can_be_sent(rich: Rich) -> None:
    for content in content_for(rich, MessageKind.TEXT):
        assert len(canonical(content)) <= 65_536 - 2_048
        assert b"\\u0000" not in canonical(content)


BEGINNINGS = (
    "https://", "HTTP://a.example", " https://matrix.to/#/@", "mailto:", "magnet:?", "ftp://",
    "javascript:", "java\tscript:", "data:", "https:", "//", "",
)  # fmt: skip


@examples(100)
@given(
    st.sampled_from(BEGINNINGS),
    st.lists(
        st.sampled_from(["javascript:", "data:", "//", "a.example", "matrix.to", "/#/@"])
        | st.sampled_from(HOSTILE)
        | st.characters(),
        max_size=20,
    ).map("".join),
)
def test_any_address_is_harmless_or_none(beginning: str, rest: str) -> None:
    written = beginning + rest
    address = find_address(written)
    if address is not None:
        assert not address.lower().startswith(("javascript:", "data:"))
        assert find_address(address) == address
        find_person(address)
    assert not is_web_link(written) or find_address(written) == written


@examples(100)
@given(st.from_regex(r"@[!-9;-~]{0,40}:[a-z0-9.-]{1,20}(:[0-9]{1,5})?", fullmatch=True))
def test_a_link_to_a_person_leads_to_that_person(user: str) -> None:
    link = link_to(UserId(user))
    assert find_address(link) == link
    assert find_person(link) == user


@examples(100)
@given(st.text(max_size=60).map(lambda text: f"#{text}:a.example"))
def test_a_link_to_a_room_leads_to_its_alias_and_is_made_of_nothing_else(alias: str) -> None:
    if is_alias(alias):
        link = link_to(alias)
        assert find_address(link) == link
        assert link.isascii()
        assert unquote(link) == f"https://matrix.to/#/{alias}"


@pytest.mark.parametrize(
    "value", ["", "#", "#a", "a:b", "#:a.example", "#a b:c", "#a\n:c", "#a:c d", "!a:b", None, 1]
)
def test_what_is_no_alias_is_none(value: object) -> None:
    assert not is_alias(value)
