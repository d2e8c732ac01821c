"""A service manager as small as can be: starts what a unit of systemd's says, and hears it."""

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from bridge.demo.processes import Program, dies_with_us

START_SECONDS = 120.0


class Service:
    """One unit of ``Type=notify``; ``start`` returns when the program is ready and pulses."""

    def __init__(self, unit: Path, folder: Path, settle: Callable[[str], str]) -> None:
        self._unit = unit
        self._settle = settle
        self._folder = folder
        self._program = Program("the service", folder / "service.log")
        self._socket: socket.socket | None = None
        self.heard: list[str] = []

    def setting(self, name: str) -> str:
        """What the unit says for a name that stands there once."""
        (value,) = [
            line.partition("=")[2]
            for line in self._unit.read_text().splitlines()
            if line.startswith(f"{name}=")
        ]
        return value

    @property
    def log(self) -> str:
        """All that it wrote."""
        return self._program.last_words(10_000)

    async def start(self) -> None:
        """Start it, and wait until it is ready."""
        assert self.setting("Type") == "notify"
        path = self._folder / "notify"
        path.unlink(missing_ok=True)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        path.chmod(0o777)
        self._socket.setblocking(False)
        self.heard = []
        self._program = Program("the service", self._folder / "service.log")
        command = [self._settle(word) for word in self.setting("ExecStart").split()]
        await self._program.start(
            command, env={"NOTIFY_SOCKET": str(path)}, prepare=dies_with_us(signal.SIGTERM)
        )
        await self.wait_for("READY=1")
        if self.setting("WatchdogSec"):
            await self.wait_for("WATCHDOG=1")

    async def wait_for(self, state: str) -> None:
        """Wait until it has said that. Raises ``AssertionError`` if it ends before."""
        async with asyncio.timeout(START_SECONDS):
            while state not in self.heard:
                self._listen()
                ended = self._program.exit_code is not None and state not in self.heard
                assert not ended, f"it ended: {self._program.last_words()}"
                await asyncio.sleep(0.02)

    async def stop(self) -> int | None:
        """Tell it to stop, and wait; give its exit code, None if it did not run."""
        if self._socket is None:
            return None
        self._listen()  # Only a few words wait for a listener; `STOPPING` is to be among them.
        await self._program.stop(limit=float(self.setting("TimeoutStopSec")))
        self._listen()
        self._socket.close()
        self._socket = None
        return self._program.exit_code

    def _listen(self) -> None:
        assert self._socket is not None
        with contextlib.suppress(BlockingIOError):
            while True:
                self.heard += os.fsdecode(self._socket.recv(4096)).splitlines()


@contextmanager
def told_to(address: str) -> Iterator[None]:
    """Have the environment name a listener, as systemd does."""
    os.environ["NOTIFY_SOCKET"] = address
    try:
        yield
    finally:
        del os.environ["NOTIFY_SOCKET"]
