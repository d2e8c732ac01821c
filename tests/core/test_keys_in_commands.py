"""A key that somebody says after a chat is found, however wrong the command is."""

import pytest

from bridge.core.commands.confidences import holds_key


@pytest.mark.parametrize(
    ("text", "is_there"),
    [
        ("bridge libera #channel", False),
        ("bridge libera #channel sesame", True),
        ("Bridge  libera\n#channel sesame", True),
        ("brigde libera #channel sesame", True),
        ("bridge #channel sesame", True),
        ("bridge libera", False),
        ("unbridge libera #channel sesame", False),
        ("set follow all", False),
        ("help bridge", False),
        ("", False),
    ],
)
def test_what_may_be_a_key_is_found(text: str, is_there: bool) -> None:
    assert holds_key(text) is is_there
