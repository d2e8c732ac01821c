"""A token that somebody gives in a command is one word, and could stand in a request."""

import pytest

from bridge.core.doublepuppets import read_token
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
