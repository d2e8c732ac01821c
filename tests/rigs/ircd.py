"""Real IRC servers as child processes: unprivileged, in a folder of their own, on free ports."""

import asyncio
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from bridge.demo.processes import free_port
from tests.rigs.certificates import make_certificates

START_SECONDS = 120.0
OPERATOR = "operator"
OPERATOR_PASSWORD = "made-up"


@dataclass(frozen=True)
class IrcServer:
    """A running server."""

    kind: str
    port: int
    tls_port: int
    authority: Path
    """Whom to trust for its TLS port, as ``localhost`` or ``127.0.0.1``."""
    link_port: int = 0
    """Where services link."""


Configure = Callable[["Plan"], Sequence[str]]


@dataclass(frozen=True)
class Plan:
    """What a server's configuration needs to know."""

    folder: Path
    port: int
    tls_port: int
    certificate: Path
    key: Path
    password: str | None
    webirc: str | None = None
    """A gateway's password."""
    link_password: str | None = None
    """That of services."""
    link_port: int = 0
    sasl: bool = False
    """Whether people sign in to them by SASL."""
    pace: tuple[int, float] | None = None
    """Flood protection: how many lines at once, and how many a second after that."""
    lists_late: bool = False
    """Nobody has the channels listed in the first minute."""


@contextmanager
def _folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="trestle-ircd-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _give_to_nobody(folder: Path) -> None:
    for path in (folder, *folder.iterdir()):
        shutil.chown(path, "nobody", "nogroup")


def _find(program: str) -> str:
    # Debian keeps servers where a plain user's PATH does not look.
    found = shutil.which(program, path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if found is None:
        raise RuntimeError(f"{program} is not installed: as root, apt-get install {program}")
    return found


def unprivileged(command: Sequence[str]) -> list[str]:
    """Return the command as it is run: by nobody, and never longer than we are."""
    # The signal makes an end of the server even when the tests are killed.
    prefix = ["setpriv", "--pdeathsig", "KILL"]
    if os.getuid() == 0:
        prefix += ["--reuid", "nobody", "--regid", "nogroup", "--clear-groups"]
    return [*prefix, "--", _find(command[0]), *command[1:]]


@asynccontextmanager
async def run_ircd(
    kind: str,
    configure: Configure,
    password: str | None = None,
    *,
    webirc: str | None = None,
    link_password: str | None = None,
    sasl: bool = False,
    pace: tuple[int, float] | None = None,
    lists_late: bool = False,
) -> AsyncIterator[IrcServer]:
    """Start a server, wait until it answers, and end it."""
    with _folder() as folder:
        certificates = make_certificates(folder)
        port, tls_port, link_port = free_port(), free_port(), free_port()
        plan = Plan(
            folder, port, tls_port, certificates.certificate, certificates.key, password,
            webirc, link_password, link_port, sasl, pace, lists_late,
        )  # fmt: skip
        command = configure(plan)
        if os.getuid() == 0:
            _give_to_nobody(folder)
        with (folder / "output").open("wb") as output:
            process = await asyncio.create_subprocess_exec(
                *unprivileged(command), stdout=output, stderr=output, cwd=folder
            )
        try:
            await _wait_until_it_answers(process, port, folder / "output")
            await _wait_until_it_answers(process, tls_port, folder / "output")
            yield IrcServer(kind, port, tls_port, certificates.authority, link_port)
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()


async def _wait_until_it_answers(
    process: asyncio.subprocess.Process, port: int, output: Path
) -> None:
    async with asyncio.timeout(START_SECONDS):
        while True:
            if process.returncode is not None:
                said = await asyncio.to_thread(output.read_text)
                raise RuntimeError(f"the server ended: {said}")
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.02)
            else:
                writer.close()
                await writer.wait_closed()
                return
