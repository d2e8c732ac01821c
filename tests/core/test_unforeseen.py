"""What nobody foresaw ends no round; what somebody did foresee, and a cancellation, go through."""

import asyncio
import logging
from collections.abc import Hashable

import pytest

from bridge.core.lanes.unforeseen import Unforeseen
from bridge.sdk.errors import ConfigError, TemporaryFailure, TrestleError


def fail(unforeseen: Unforeseen, part: Hashable = "") -> float:
    """Fail in a way that nobody foresaw; the seconds for which that part rests then."""
    with unforeseen.outlived(part):
        raise KeyError("what is not there")
    return unforeseen.rests_until(part) - asyncio.get_running_loop().time()


async def test_the_pauses_grow_to_a_limit_and_begin_anew_after_a_success(
    caplog: pytest.LogCaptureFixture,
) -> None:
    unforeseen = Unforeseen("rooms", first=10, longest=35)
    assert [round(fail(unforeseen)) for _ in range(4)] == [10, 20, 35, 35]
    with unforeseen.outlived():
        pass
    assert unforeseen.rests_until() == 0
    assert round(fail(unforeseen)) == 10
    assert {(vars(one)["event"], one.levelno) for one in caplog.records} == {
        ("round_failed", logging.ERROR)
    }
    assert all(one.exc_info and "rooms" in one.getMessage() for one in caplog.records)


async def test_one_part_rests_while_the_others_go_on(caplog: pytest.LogCaptureFixture) -> None:
    unforeseen = Unforeseen("rooms", first=10)
    fail(unforeseen, "a")
    assert unforeseen.rests_until("a") > 0
    assert unforeseen.rests_until("b") == unforeseen.rests_until() == 0
    async with asyncio.timeout(1):
        await unforeseen.rest()
    fail(unforeseen, ("bans", 3))
    fail(unforeseen)
    assert [vars(one).get("part") for one in caplog.records] == ["a", "bans 3", None]


@pytest.mark.parametrize("error", [TemporaryFailure("away"), ConfigError("another took over")])
async def test_what_is_raised_on_purpose_goes_through(error: TrestleError) -> None:
    unforeseen = Unforeseen("rooms")
    with pytest.raises(type(error)), unforeseen.outlived():
        raise error
    assert unforeseen.rests_until() == 0


async def test_a_cancellation_goes_through() -> None:
    unforeseen, begun = Unforeseen("rooms"), asyncio.Event()

    async def go_round() -> None:
        with unforeseen.outlived():
            begun.set()
            await asyncio.Event().wait()

    async with asyncio.TaskGroup() as group:
        task = group.create_task(go_round())
        await begun.wait()
        task.cancel()
    assert task.cancelled()
