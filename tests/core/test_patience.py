"""What fails is tried again when whoever failed asks for it, and later the older it is."""

import pytest

from bridge.core.lanes.patience import Patience, asked_for
from bridge.matrix.client import MatrixError
from bridge.sdk.errors import TemporaryFailure


@pytest.mark.parametrize("seconds", [0, 7, 600])
def test_what_is_asked_for_is_waited_for_and_no_longer_than_that(seconds: float) -> None:
    failure = TemporaryFailure("away", retry_after=seconds)
    assert asked_for(failure) == Patience().wait(failure, age=3600) == seconds


@pytest.mark.parametrize(
    "failure", [TemporaryFailure("away"), MatrixError(500, "M_UNKNOWN", ""), OSError()]
)
def test_without_advice_the_wait_grows_with_the_age(failure: Exception) -> None:
    patience = Patience(longest_delay=60)
    assert asked_for(failure) == 0
    assert 0.4 <= patience.wait(failure, age=0) <= 0.6
    assert 8 <= patience.wait(failure, age=20) <= 12
    assert 48 <= patience.wait(failure, age=3600) <= 72
