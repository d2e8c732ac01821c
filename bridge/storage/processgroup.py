"""A program with all the programs that it runs."""

import asyncio
import contextlib
import os
import signal
from asyncio.subprocess import Process
from collections.abc import Coroutine
from typing import Any


async def run_group(starting: Coroutine[Any, Any, Process]) -> tuple[int, bytes]:
    """Start a program in a session of its own and await its end; its exit code and what it said.

    A caller that is cancelled meanwhile, or while it starts, ends it with all that it runs: they
    would go on writing.
    """
    spawning = asyncio.get_running_loop().create_task(starting)
    try:
        # Cut off on its way it would end the one process that it knows.
        process = await asyncio.shield(spawning)
    except asyncio.CancelledError:
        await asyncio.wait([spawning])
        if spawning.exception() is None:
            await _end(spawning.result())
        raise
    try:
        output, _ = await process.communicate()
        return await process.wait(), output
    finally:
        if process.returncode is None:
            await _end(process)


async def _end(process: Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    await process.wait()
