"""A program with all the programs that it runs."""

import asyncio
import contextlib
import os
import signal
from asyncio.subprocess import Process
from collections.abc import Coroutine
from typing import Any

from bridge.storage.thread import outlast


async def run_group(starting: Coroutine[Any, Any, Process]) -> tuple[int, bytes]:
    """Start a program in a session of its own and await its end; its exit code and what it said.

    A caller that is cancelled meanwhile, or while it starts, however often, ends it with all that
    it runs: they would go on writing.
    """
    spawning = asyncio.get_running_loop().create_task(starting)
    try:
        # Cut off on its way it would end the one process that it knows.
        await outlast(spawning)
        process = spawning.result()
    except asyncio.CancelledError:
        if not spawning.cancelled() and spawning.exception() is None:
            await _end(spawning.result())
        raise
    try:
        output, _ = await process.communicate()
        return await process.wait(), output
    except BaseException:
        # The program itself may be gone, and what it has run be at work yet.
        await _end(process)
        raise


async def _end(process: Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    await outlast(asyncio.get_running_loop().create_task(process.wait()))
