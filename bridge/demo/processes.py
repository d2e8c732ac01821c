"""Programs of the local stack, which end when we end, however that happens."""

import asyncio
import contextlib
import ctypes
import os
import random
import signal
import socket
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from bridge.sdk.errors import ConfigError

_PR_SET_PDEATHSIG = 1

_claims: list[socket.socket] = []
"""These hold the ports that this process chose, as long as it lives."""

_LOWEST_PORT = 12_000
_PREFERRED_FROM = 29_000
_BLOCK = 64


def free_port(preferred: int = 0) -> int:
    """A port of the loopback that nobody listens on, the preferred one if it is free.

    Never one that was chosen here before, or that another process chose: whoever asks may begin
    to listen much later. Nor one that the system gives to connections: a connection could take it
    while the program that asked for it restarts.
    """
    if preferred and _is_free(preferred) and _claim(f"port-{preferred}"):
        return preferred
    for port in _own_ports:
        if _is_free(port):
            return port
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as given:
        return int(given.getsockname()[1])


def _walk_ports() -> Iterator[int]:
    """Each port of the blocks that no other process has, a block at a time."""
    blocks = list(range(_LOWEST_PORT, _end_of_ports() - _BLOCK, _BLOCK))
    random.SystemRandom().shuffle(blocks)
    for first in blocks:
        if _claim(f"ports-{first}"):
            yield from range(first, first + _BLOCK)


_own_ports = _walk_ports()


def _is_free(port: int) -> bool:
    with contextlib.closing(socket.socket()) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _end_of_ports() -> int:
    """Where the ports that are chosen here end; preferred ones, and the system's, come after."""
    try:
        text = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text()
        return min(int(text.split()[0]), _PREFERRED_FROM)
    except (OSError, ValueError, IndexError):
        return _PREFERRED_FROM


def _claim(name: str) -> bool:
    """Keep it from others that choose at the same time; False if one has it.

    A name of the abstract socket namespace needs no file, and is free when its holder ends.
    """
    if sys.platform == "linux":
        claim = socket.socket(socket.AF_UNIX)
        try:
            claim.bind(f"\0trestle-{name}")
        except OSError:
            claim.close()
            return False
        _claims.append(claim)
    return True


def dies_with_us(then: int = signal.SIGKILL) -> Callable[[], None]:
    """What a child runs before its program, to be told when its parent is gone."""
    parent = os.getpid()
    set_option = ctypes.CDLL(None, use_errno=True).prctl if sys.platform == "linux" else None

    def prepare() -> None:
        if set_option is not None:
            set_option(_PR_SET_PDEATHSIG, int(then))
            if os.getppid() != parent:
                os._exit(1)

    return prepare


class Program:
    """One running program; its output goes to a file."""

    def __init__(self, name: str, log_file: Path) -> None:
        self.name = name
        self.log_file = log_file
        self._process: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int | None:
        """The process id while it runs."""
        process = self._process
        return process.pid if process is not None and process.returncode is None else None

    @property
    def exit_code(self) -> int | None:
        """How it ended, None while it runs."""
        return self._process.returncode if self._process is not None else None

    async def start(
        self, command: Sequence[str], *, env: Mapping[str, str] | None = None,
        prepare: Callable[[], None] | None = None, cwd: Path | None = None,
    ) -> None:  # fmt: skip
        """Start it, in a session of its own: a Ctrl-C is ours to handle."""
        with self.log_file.open("ab") as output:
            self._process = await asyncio.create_subprocess_exec(
                *command, stdin=asyncio.subprocess.DEVNULL, stdout=output, stderr=output,
                env=None if env is None else {**os.environ, **env}, cwd=cwd,
                start_new_session=True, preexec_fn=prepare or dies_with_us(),
            )  # fmt: skip

    async def stop(self, number: int = signal.SIGTERM, limit: float = 10.0) -> None:
        """Ask it to end; after the limit, end it."""
        process = self._process
        if process is None or process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(number)
        try:
            async with asyncio.timeout(limit):
                await process.wait()
        except TimeoutError:
            await self.kill()

    async def kill(self) -> None:
        """End it at once (``kill -9``)."""
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()

    def last_words(self, lines: int = 5) -> str:
        """The end of its output."""
        if not self.log_file.exists():
            return ""
        return "\n".join(self.log_file.read_text(errors="replace").splitlines()[-lines:])


async def wait_until_listening(program: Program, port: int, limit: float) -> None:
    """Return when the program takes connections. Raises ``ConfigError`` if it ends before."""
    try:
        async with asyncio.timeout(limit):
            while True:
                if program.exit_code is not None:
                    raise ConfigError(
                        f"{program.name} ended at once ({program.exit_code}):\n"
                        f"{program.last_words()}"
                    )
                with contextlib.suppress(OSError):
                    _, writer = await asyncio.open_connection("127.0.0.1", port)
                    writer.close()
                    return
                await asyncio.sleep(0.05)
    except TimeoutError as error:
        raise ConfigError(
            f"{program.name} did not start within {limit:.0f} s:\n{program.last_words()}"
        ) from error
