"""Everything that a proof needs, in a temporary folder: nothing of an installation is touched."""

import contextlib
import importlib.util
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from bridge.config import load
from bridge.demo.processes import Program, dies_with_us, free_port, wait_until_listening
from bridge.demo.stage import irc_command, wait_until_ready
from bridge.demo.synapse import Synapse
from bridge.failpoint import VARIABLE
from bridge.init import draft, write_files
from bridge.prove import witness
from bridge.sdk.errors import ConfigError
from bridge.settings.records import Settings

SERVER = "localhost"
INSTANCE = "irc"

Say = Callable[[str], None]


class Trestle:
    """The program under proof: may be killed, and started with a place to end at."""

    def __init__(self, config: Path, folder: Path, ops_port: int, env: Mapping[str, str]) -> None:
        self._config = config
        self._log = folder / "trestle.log"
        self._ops_port = ops_port
        self._env = dict(env)
        self.program = Program("Trestle", self._log)

    async def launch(self, failpoint: str = "") -> None:
        """Begin to start it; it ends where ``failpoint`` says, if that is given."""
        self.program = Program("Trestle", self._log)
        env = {**self._env, **({VARIABLE: failpoint} if failpoint else {})}
        await self.program.start(
            [sys.executable, "-m", "bridge", "run", "-c", str(self._config)],
            prepare=dies_with_us(signal.SIGTERM), env=env,
        )  # fmt: skip

    async def wait_until_ready(self) -> None:
        """Return when it takes events. Raises ``ConfigError`` if it ends before."""
        await wait_until_ready(self.program, self._ops_port)

    async def is_ready(self) -> bool:
        """Whether it takes events now."""
        with contextlib.suppress(aiohttp.ClientError):
            async with (
                aiohttp.ClientSession() as session,
                session.get(f"http://127.0.0.1:{self._ops_port}/ready") as response,
            ):
                return response.status == 200
        return False

    @property
    def has_ended(self) -> bool:
        """Whether it has stopped running."""
        return self.program.exit_code is not None

    def log_text(self) -> str:
        """All that it wrote, over every start."""
        return self._log.read_text(errors="replace") if self._log.exists() else ""


@dataclass(slots=True, kw_only=True)
class Scratch:
    """What runs, and where."""

    folder: Path
    settings: Settings
    synapse: Synapse
    irc_port: int
    trestle: Trestle
    witnessed: Path
    """The file that the witness writes."""

    @property
    def database_pid(self) -> int | None:
        """The embedded database's process, None while there is none."""
        file = self.settings.state_dir / "postgres" / "data" / "postmaster.pid"
        try:
            return int(file.read_text().split()[0])
        except (OSError, ValueError, IndexError):
            return None


def check_installed() -> None:
    """Raise ``ConfigError`` with the way out if what a proof needs is not installed."""
    for package in ("synapse", "miniircd"):
        if importlib.util.find_spec(package) is None:
            raise ConfigError(
                f"a proof needs the package {package}, which is not installed: "
                "pip install 'matrix-trestle[demo]'"
            )


@asynccontextmanager
async def scratch(say: Say = lambda text: None, *, irc_port: int = 0) -> AsyncIterator[Scratch]:
    """Start a homeserver, an IRC server unless one is given, and Trestle; end and remove all.

    Raises ``ConfigError`` with the last words of what does not start.
    """
    check_installed()
    async with AsyncExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="trestle-prove-"))
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        folder.chmod(0o711)
        if not irc_port:
            say("an IRC server ...")
            irc_port = await _start_irc(stack, folder)
        say("a homeserver (Synapse) ...")
        homeserver = folder / "homeserver"
        homeserver.mkdir()
        synapse = Synapse(
            homeserver, server_name=SERVER, registrations=(folder / "registration.yaml",)
        )
        ops_port, witnessed = free_port(), folder / "witnessed"
        env = {"PYTHONPATH": _python_path(witness.install(folder))}
        options = _options(folder, irc_port, ops_port, witnessed)
        config = await _write_config(folder, synapse.url, options)
        await synapse.start()
        stack.push_async_callback(synapse.kill)
        say("Trestle, with a Postgres of its own ...")
        trestle = Trestle(config, folder, ops_port, env)
        await trestle.launch()
        stack.push_async_callback(lambda: trestle.program.stop(limit=25))
        await trestle.wait_until_ready()
        yield Scratch(
            folder=folder, settings=_settings_of(config), synapse=synapse, irc_port=irc_port,
            trestle=trestle, witnessed=witnessed,
        )  # fmt: skip


async def _start_irc(stack: AsyncExitStack, folder: Path) -> int:
    port = free_port()
    irc = Program("the IRC server", folder / "irc.log")
    await irc.start(irc_command(port))
    stack.push_async_callback(irc.stop)
    await wait_until_listening(irc, port, 20)
    return port


def _options(folder: Path, irc_port: int, ops_port: int, witnessed: Path) -> dict[str, object]:
    return {
        "appservice.listen": f"127.0.0.1:{free_port()}",
        "ops.listen": f"127.0.0.1:{ops_port}",
        "state_dir": str(folder / "state"),
        f"modules.{INSTANCE}.own_network": True,
        f"modules.{INSTANCE}.servers": [{"host": "127.0.0.1", "port": irc_port, "tls": False}],
        # What is proven is that nothing is lost, and not how slowly people may talk.
        f"modules.{INSTANCE}.flood_burst": 500,
        f"modules.{INSTANCE}.flood_rate": 500,
        "modules.witness.ledger": str(witnessed),
    }


async def _write_config(folder: Path, homeserver_url: str, changes: Mapping[str, object]) -> Path:
    """Write the two files as an admin would have them."""
    with _installed(folder / "site"):
        document, settings = draft(
            homeserver_url=homeserver_url, server_name=SERVER,
            modules=["irc", "witness"], changes=changes, folder=folder,
        )  # fmt: skip
        config, _ = write_files(document, settings, folder, force=True)
    return config


def _settings_of(config: Path) -> Settings:
    with _installed(config.parent / "site"):
        return load(config)


@contextlib.contextmanager
def _installed(site: Path) -> Iterator[None]:
    """Have the witness found by this process too, while the block lasts."""
    sys.path.insert(0, str(site))
    try:
        yield
    finally:
        sys.path.remove(str(site))


def _python_path(site: Path) -> str:
    return os.pathsep.join(filter(None, (str(site), os.environ.get("PYTHONPATH", ""))))
