"""An installation as the README has it: `trestle init`, the printed lines, a real Synapse."""

import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import aiohttp
import pytest_asyncio
from ruamel.yaml import YAML

from bridge.config import load
from bridge.demo.processes import free_port
from bridge.demo.synapse import Synapse
from bridge.settings.records import Address, DatabaseSettings, OpsSettings, Settings
from tests.admin.commands import trestle
from tests.admin.watcher import Watcher
from tests.conformance.stage import Play, settings_for
from tests.rigs.cluster import Cluster
from tests.rigs.scripted_homeserver import scripted_homeserver
from tests.rigs.trestle import running


@dataclass(frozen=True)
class Installation:
    """What ``trestle init`` made, and the homeserver that was given its lines."""

    folder: Path
    synapse: Synapse

    @property
    def config(self) -> Path:
        """The file of settings."""
        return self.folder / "config.yaml"

    def settings(self) -> Settings:
        """The settings, as the program reads them."""
        return load(self.config)


@pytest_asyncio.fixture
async def database_settings(empty_database: DatabaseSettings) -> DatabaseSettings:
    """A database as an admin has it on the first day."""
    return empty_database


def make(folder: Path, synapse: Synapse, database: str, *more: str) -> list[str]:
    """``trestle init`` there; give what its printed lines say to the homeserver."""
    words = ["--homeserver-url", synapse.url, "--server-name", "test.example", "--yes"]
    words += ["--admin", "@root:test.example"]
    changes = [
        f"appservice.listen=127.0.0.1:{free_port()}", f"ops.listen=127.0.0.1:{free_port()}",
        f"database.url={database}", *more,
    ]  # fmt: skip
    words += [word for change in changes for word in ("--set", change)]
    made = trestle("init", "--directory", folder, "--module", "dice", *words)
    assert made.code == 0, made.said
    lines = made.output.partition("homeserver.yaml:\n\n")[2].partition("\nRestart")[0]
    return list(YAML(typ="safe").load(lines)["app_service_config_files"])


@asynccontextmanager
async def installed(
    database: DatabaseSettings, install: Callable[[Path, Synapse, str], Iterable[str | Path]]
) -> AsyncIterator[tuple[Path, Synapse]]:
    """Have a homeserver with the registrations of what is installed in a folder beside it, until
    the block ends."""
    folder = Path(tempfile.mkdtemp(prefix="trestle-admin-"))
    folder.chmod(0o711)
    (folder / "homeserver").mkdir()
    synapse = Synapse(folder / "homeserver", server_name="test.example")
    files = install(folder, synapse, database.url)
    synapse = Synapse(
        folder / "homeserver", server_name="test.example", port=synapse.port,
        registrations=tuple(map(Path, files)),
    )  # fmt: skip
    try:
        await synapse.start()
        yield folder, synapse
    finally:
        await synapse.kill()
        shutil.rmtree(folder, ignore_errors=True)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def installation(cluster: Cluster) -> AsyncIterator[Installation]:
    """Made once; whoever changes its files works on copies."""
    async with installed(await cluster.fresh(), make) as (folder, synapse):
        yield Installation(folder, synapse)


@pytest_asyncio.fixture
async def watched(
    database_settings: DatabaseSettings, folder: Path
) -> AsyncIterator[tuple[Play, Watcher]]:
    """A whole Trestle with dice and an IRC network that is not there, and its watcher."""
    port = free_port()
    server = {"host": "127.0.0.1", "port": free_port(), "tls": False}
    modules = {"libera": ("irc", {"servers": [server], "own_network": True})}
    async with scripted_homeserver() as homeserver, aiohttp.ClientSession() as session:
        settings = replace(
            settings_for(homeserver, database_settings, folder, modules=modules),
            ops=OpsSettings(listen=Address("127.0.0.1", port)),
        )
        async with running(settings) as app:
            await homeserver.wait_until_greeted()
            yield Play(homeserver, settings, app), Watcher(session, port)
