"""What is said to the bot: told from what is said to people, and read word by word."""

from typing import Any

import pytest

from bridge.core.commands.networkcommands import first_word
from bridge.core.host.actions import holds_order

ANSWER = {"m.in_reply_to": {"event_id": "$said"}}


def changed(body: str) -> dict[str, Any]:
    """A message that is changed to something."""
    relates = {"rel_type": "m.replace", "event_id": "$said"}
    return {"body": f"* {body}", "m.new_content": {"body": body}, "m.relates_to": relates}


@pytest.mark.parametrize(
    "content",
    [
        {"body": "!trestle"},
        {"body": "!trestle ping"},
        {"body": "!trestle\nping"},
        {"body": "!trestle\u00a0ping"},
        {"body": "!trestle autocommand raw x", "m.relates_to": ANSWER},
        {"body": "> <@carl:hs> hello\n\n!trestle ping", "m.relates_to": ANSWER},
        {"body": "> <@carl:hs> a\n>\n> b\n \n!trestle ping", "m.relates_to": ANSWER},
        changed("!trestle ping"),
    ],
)
def test_what_the_bot_is_told_is_known(content: dict[str, Any]) -> None:
    assert holds_order(content)


@pytest.mark.parametrize(
    "content",
    [
        {"body": "!trestle-news is out"},
        {"body": "!trestle: hi"},
        {"body": "!trestles"},
        {"body": "> <@carl:hs> hello\n\n!trestle ping"},
        {"body": "> <@carl:hs> !trestle ping\n\nno", "m.relates_to": ANSWER},
        {"body": 7, "m.new_content": ["!trestle"]},
        changed("say !trestle ping"),
    ],
)
def test_what_people_are_told_is_not_taken_for_it(content: dict[str, Any]) -> None:
    assert not holds_order(content)


@pytest.mark.parametrize("between", [" ", "\n", " \n\t"])
def test_a_word_ends_at_any_space_and_the_rest_keeps_its_lines(between: str) -> None:
    assert first_word(f" autocommand{between}msg a b\naway c ") == (
        "autocommand", "msg a b\naway c ",
    )  # fmt: skip
    assert first_word(" ") == ("", "")
