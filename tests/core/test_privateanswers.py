"""What somebody is told of why something was not done, or may have been."""

import pytest

from bridge.core.commands.privateanswers import refusal
from bridge.sdk.errors import (
    DeliveryError,
    DeliveryUncertain,
    PermanentFailure,
    TemporaryFailure,
    Unsupported,
)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (TemporaryFailure("it is away"), "Not now: it is away. Try again in a while."),
        (PermanentFailure("there is none"), "I could not do that: there is none."),
        (Unsupported("it has no topics."), "I could not do that: it has no topics."),
        (
            DeliveryUncertain("the connection broke"),
            "It may have been done: the connection broke. Look before you say it again.",
        ),
    ],
)
def test_a_refusal_says_whether_to_say_it_again(error: DeliveryError, said: str) -> None:
    assert refusal(error) == said
