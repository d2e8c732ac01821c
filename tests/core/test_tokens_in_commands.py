"""A token that somebody gives in a command is one word, and could stand in a request."""

import pytest

from bridge.core.commands.confidences import tokens_in
from bridge.core.logins.doublepuppets import read_token
from bridge.sdk.errors import PermanentFailure


def test_a_token_is_read() -> None:
    assert read_token(["syt_YWxpY2U_made-up"]).reveal() == "syt_YWxpY2U_made-up"


@pytest.mark.parametrize(
    "words",
    [[], ["syt_YWxpY2U", "and_more_of_it"], ["short"], ["syt_YWx\x01pY2U"], ["sýt_YWxpY2U"]],
)
def test_what_can_be_no_token_is_refused(words: list[str]) -> None:
    with pytest.raises(PermanentFailure, match="and then the token alone"):
        read_token(words)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("double-puppet token syt_x", ["syt_x"]),
        ("Double-Puppet  syt_x please", ["syt_x", "please"]),
        ("double puppet token\nsyt_x", ["syt_x"]),
        ("doublepupet token syt_x", ["syt_x"]),
        ("double-puppet: syt_x", ["syt_x"]),
        ("double-puppet on", []),
        ("double-puppet", []),
        ("policy libera apply #list", []),
        ("", []),
        (f"{'double-puppet' * 1000} syt_x", []),
    ],
)
def test_what_may_be_a_token_is_found_however_wrong_the_command_is(
    text: str, found: list[str]
) -> None:
    assert list(tokens_in(text)) == found
