"""Work in a thread that is cancelled meanwhile."""

import asyncio
import threading
from pathlib import Path

import pytest

from bridge.storage.thread import to_its_end


async def test_what_it_gives_and_raises_is_the_works_own() -> None:
    assert await to_its_end(int, "11", base=2) == 3
    with pytest.raises(ValueError, match="invalid literal"):
        await to_its_end(int, "x")


@pytest.mark.parametrize("fails", [False, True])
async def test_who_is_cancelled_goes_on_when_the_work_is_done(tmp_path: Path, fails: bool) -> None:
    begun, may_end, done = asyncio.Event(), threading.Event(), tmp_path / "done"
    loop = asyncio.get_running_loop()

    def work() -> None:
        loop.call_soon_threadsafe(begun.set)
        assert may_end.wait(30)
        done.mkdir()
        if fails:
            raise OSError

    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(to_its_end(work))
        await begun.wait()
        for _ in range(3):
            waiting.cancel()
            assert not (await asyncio.wait([waiting], timeout=0.1))[0]
        may_end.set()
        await asyncio.wait([waiting])
        assert waiting.cancelled()
        assert done.exists()
