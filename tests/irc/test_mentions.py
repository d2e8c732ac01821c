"""Nicks in what is said on IRC."""

import pytest

from bridge.networks.irc.mentions import MOST, Where, with_mentions
from bridge.sdk.ids import RemoteUserId, UserId
from bridge.sdk.rich import LineBreak, Link, Mention, Rich, Style, Styled, Text

PEOPLE = {
    nick.lower(): Mention(UserId(""), nick, RemoteUserId(nick.lower()))
    for nick in ("Alice", "bob[m]", "it", "carl")
}


def marked(rich: Rich) -> str:
    """Write mentions in angle brackets."""
    return "".join(
        f"<{node.name}>" if isinstance(node, Mention) else node.text
        for node in rich.nodes
        if isinstance(node, Mention | Text)
    )


@pytest.mark.parametrize(
    ("text", "anywhere", "start"),
    [
        ("Alice: hello", "<Alice>: hello", "<Alice>: hello"),
        ("alice, hello", "<Alice>, hello", "<Alice>, hello"),
        ("ALICE", "<Alice>", "<Alice>"),
        ("it: yes", "<it>: yes", "<it>: yes"),
        ("ask Alice, or bob[m]!", "ask <Alice>, or <bob[m]>!", "ask Alice, or bob[m]!"),
        ("(Alice's cat)", "(<Alice>'s cat)", "(Alice's cat)"),
        ("is it alice or Malice", "is it alice or Malice", "is it alice or Malice"),
        ("Alice-like #Alice @Alice x/Alice", "Alice-like #Alice @Alice x/Alice", ""),
        ("see https://Alice/Alice now", "see https://Alice/Alice now", ""),
        ("Alicelle Alice9 Aliceö", "Alicelle Alice9 Aliceö", ""),
        ("Alice.", "<Alice>.", "Alice."),
        ("  Alice: indented", "  <Alice>: indented", "  <Alice>: indented"),
    ],
)
def test_a_nick_is_a_mention_where_it_is_meant(text: str, anywhere: str, start: str) -> None:
    expected: list[tuple[Where, str]] = [
        ("anywhere", anywhere), ("start", start or text), ("nowhere", text)
    ]  # fmt: skip
    for where, wanted in expected:
        found = with_mentions(Rich.plain(text), lambda nick: PEOPLE.get(nick.lower()), where)
        assert marked(found) == wanted


def test_code_and_links_are_left_alone_and_nobody_calls_a_whole_channel() -> None:
    code = Styled(Style.MONO, (Text("Alice"),))
    link = Link("https://example.org/", (Text("Alice"),))
    bold = Styled(Style.BOLD, (Text("Alice"),))
    rich = Rich((code, LineBreak(), link, bold))
    found = with_mentions(rich, lambda nick: PEOPLE.get(nick.lower()), "anywhere")
    called = Styled(Style.BOLD, (PEOPLE["alice"],))
    assert found.nodes == (code, LineBreak(), link, called)
    many = with_mentions(
        Rich.plain("Alice carl " * 10), lambda nick: PEOPLE.get(nick.lower()), "anywhere"
    )
    assert sum(isinstance(node, Mention) for node in many.nodes) == MOST
