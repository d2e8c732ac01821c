"""What fails is tried again when whoever failed asks for it, and later the older it is."""

import asyncio

import pytest

from bridge.core.lanes.patience import Patience, asked_for, persistently
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


async def test_what_would_be_tried_again_after_the_limit_fails_at_once() -> None:
    tries: list[int] = []

    async def fail() -> None:
        tries.append(len(tries))
        raise TemporaryFailure("away", retry_after=30)

    with pytest.raises(TemporaryFailure):
        await persistently(fail, limit=29)
    assert tries == [0]


async def test_a_homeserver_that_does_not_know_us_refuses_nothing_after_the_limit() -> None:
    async def fail() -> None:
        raise MatrixError(401, "M_UNKNOWN_TOKEN", "")

    with pytest.raises(TemporaryFailure, match="M_UNKNOWN_TOKEN") as caught:
        await persistently(fail, limit=0.1)
    assert isinstance(caught.value.__cause__, MatrixError)


async def test_pauses_grow_as_far_as_is_said_and_no_further() -> None:
    times: list[float] = []

    async def fail() -> None:
        times.append(asyncio.get_running_loop().time())
        raise TemporaryFailure("away")

    # After 1 s and 2 s more; the next one would come 2 s later, and is over the limit.
    with pytest.raises(TemporaryFailure):
        await persistently(fail, longest=2, limit=4.5)
    assert len(times) == 3
    assert times[2] - times[1] >= 2
