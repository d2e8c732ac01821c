"""miniircd: the demo's server, one file of Python; it has no limits and few commands."""

import os
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from bridge.demo.processes import Program, free_port, wait_until_listening
from tests.rigs.ircd import START_SECONDS, IrcServer


@asynccontextmanager
async def run_miniircd() -> AsyncIterator[IrcServer]:
    """Run a miniircd, which has no TLS here."""
    async with run_miniircd_at(free_port()) as server:
        yield server


@asynccontextmanager
async def run_miniircd_at(port: int) -> AsyncIterator[IrcServer]:
    """Run one on a port."""
    folder = Path(tempfile.mkdtemp(prefix="trestle-ircd-"))
    command = [sys.executable, "-m", "miniircd", "--listen", "127.0.0.1", "--ports", str(port)]
    if os.geteuid() == 0:
        command += ["--setuid", "root"]
    program = Program("miniircd", folder / "output")
    try:
        await program.start(command)
        await wait_until_listening(program, port, START_SECONDS)
        yield IrcServer("miniircd", port, 0, folder)
    finally:
        await program.kill()
        shutil.rmtree(folder, ignore_errors=True)
