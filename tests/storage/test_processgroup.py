"""A program, and all that it runs, ends with whoever waits for it, however often that is cut."""

import asyncio
import os
import signal
from asyncio.subprocess import Process
from contextlib import suppress

import pytest

from bridge.storage.processgroup import run_group
from tests.rigs.trestle import wait_until

FAMILY = "sleep 1000 & echo begun; wait"


class Starting:
    """A program that begins when it may."""

    def __init__(self, script: str = FAMILY) -> None:
        self.script = script
        self.is_asked = asyncio.Event()
        self.may_begin = asyncio.Event()
        self.process: Process | None = None

    async def begin(self) -> Process:
        """Begin, a while after it was asked for."""
        self.is_asked.set()
        await self.may_begin.wait()
        self.process = await asyncio.create_subprocess_exec(
            "sh", "-c", self.script, stdout=asyncio.subprocess.PIPE, start_new_session=True
        )
        return self.process


def is_there(group: int) -> bool:
    """Whether anybody of a group is at work."""
    with suppress(ProcessLookupError):
        os.killpg(group, 0)
        return True
    return False


async def test_the_exit_code_and_what_it_said_are_the_programs_own() -> None:
    starting = Starting("echo said; exit 3")
    starting.may_begin.set()
    assert await run_group(starting.begin()) == (3, b"said\n")


async def test_a_program_that_cannot_be_started_says_so() -> None:
    async def begin() -> Process:
        return await asyncio.create_subprocess_exec("/nowhere/at/all")

    with pytest.raises(FileNotFoundError):
        await run_group(begin())


@pytest.mark.parametrize("times", [1, 2, 5])
async def test_who_is_cancelled_while_it_starts_however_often_leaves_nobody(times: int) -> None:
    starting = Starting()
    async with asyncio.TaskGroup() as group:
        running = group.create_task(run_group(starting.begin()))
        await starting.is_asked.wait()
        for _ in range(times):
            running.cancel()
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        assert not running.done()
        starting.may_begin.set()
        await asyncio.wait([running])
    assert running.cancelled()
    assert starting.process is not None
    pid = starting.process.pid
    await wait_until(lambda: not is_there(pid))


async def test_who_is_cancelled_while_it_runs_however_often_has_seen_its_end() -> None:
    starting = Starting()
    starting.may_begin.set()
    async with asyncio.TaskGroup() as group:
        running = group.create_task(run_group(starting.begin()))
        await wait_until(lambda: starting.process is not None)
        assert starting.process is not None
        pid = starting.process.pid
        for _ in range(3):
            running.cancel()
            await asyncio.sleep(0)
        await asyncio.wait([running])
        assert starting.process.returncode == -signal.SIGKILL
    assert running.cancelled()
    await wait_until(lambda: not is_there(pid))


async def test_who_is_cancelled_once_the_program_is_gone_leaves_none_of_what_it_had_run() -> None:
    starting = Starting("sleep 1000 & exit 0")
    starting.may_begin.set()
    async with asyncio.TaskGroup() as group:
        running = group.create_task(run_group(starting.begin()))
        await wait_until(
            lambda: starting.process is not None and starting.process.returncode is not None
        )
        assert starting.process is not None
        assert is_there(starting.process.pid)
        running.cancel()
        await asyncio.wait([running])
    assert running.cancelled()
    pid = starting.process.pid
    try:
        await wait_until(lambda: not is_there(pid), 5)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)
