"""The status room outlives whatever goes wrong with it."""

from asyncio import TaskGroup
from collections.abc import Mapping
from typing import Any, cast

import pytest

from bridge.core.oversight.statusroom import StatusRoom
from bridge.model import SystemClock
from bridge.sdk.ids import UserId
from tests.irc.loops import SteppedLoop, run_stepped

ANN = UserId("@ann:test.example")


def test_what_nobody_foresaw_ends_no_more_than_one_look(caplog: pytest.LogCaptureFixture) -> None:
    looks: list[float] = []

    async def check(loop: SteppedLoop) -> None:
        async def find() -> Mapping[str, str]:
            looks.append(loop.now)
            raise RuntimeError("nobody foresaw it")

        nothing = cast(Any, None)  # It does not come to those.
        room = StatusRoom(
            nothing, nothing, SystemClock(), bot=UserId("@bot:test.example"), admins=[ANN],
            find=find, has_seat=nothing, on_room=nothing,
        )  # fmt: skip
        async with TaskGroup() as tasks:
            task = tasks.create_task(room.run())
            for seconds in (5, 60):
                await loop.turn()
                loop.now += seconds
            await loop.turn()
            task.cancel()

    run_stepped(check)
    assert looks == [5, 65]
    assert [vars(one)["event"] for one in caplog.records if one.exc_info] == ["status_failed"] * 2
