"""The demo as a program."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

START_SECONDS = 180.0
END_SECONDS = 60.0


class Demo:
    """A running ``trestle demo``, all of whose files are in one folder."""

    def __init__(self, process: asyncio.subprocess.Process, folder: Path) -> None:
        self.process = process
        self._folder = folder
        self.said: list[str] = []

    async def read_until(self, part: str) -> None:
        """Read its output until a line holds ``part``."""
        assert self.process.stdout is not None
        async with asyncio.timeout(START_SECONDS):
            while part not in (self.said[-1] if self.said else ""):
                line = await self.process.stdout.readline()
                assert line, f"it ended: {self.said}"
                self.said.append(line.decode().rstrip())

    async def wait_until_ended(self) -> int:
        """Wait for its end; give the exit code."""
        assert self.process.stdout is not None
        async with asyncio.timeout(START_SECONDS):
            rest = await self.process.stdout.read()
            self.said += rest.decode().splitlines()
            return await self.process.wait()

    def started(self) -> list[str]:
        """The processes of it that are alive: they have its folder in a word or a variable."""
        mark = os.fsencode(self._folder)
        found = []
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit() or int(entry.name) == self.process.pid:
                continue
            try:
                command = (entry / "cmdline").read_bytes()
                about = command + (entry / "environ").read_bytes()
            except OSError:  # Gone meanwhile, or somebody else's.
                continue
            if mark in about:
                found.append(command.replace(b"\0", b" ").decode(errors="replace"))
        return found

    async def wait_until_alone(self) -> None:
        """Wait until nothing that it started is alive."""
        try:
            async with asyncio.timeout(END_SECONDS):
                while self.started():
                    await asyncio.sleep(0.05)
        except TimeoutError as error:
            raise AssertionError(f"left behind: {self.started()}") from error


@asynccontextmanager
async def demo(folder: Path, *options: str, command: str = "demo") -> AsyncIterator[Demo]:
    """Run it until the block ends; or another command that starts as much."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bridge", command, *options,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        env={**os.environ, "TMPDIR": str(folder)},
    )  # fmt: skip
    try:
        yield Demo(process, folder)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
