"""A network beside the homeserver, and a Trestle between them: each file says what differs."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from bridge.app import App
from bridge.demo.matrix_user import MatrixUser
from bridge.settings.records import DatabaseSettings, Settings
from tests.flow.networks import Modules, irc_module
from tests.rigs import vivid_bridge
from tests.rigs.irc_user import IrcUser, irc_user
from tests.rigs.ircd import IrcServer
from tests.rigs.ngircd import run_ngircd
from tests.rigs.trestle import Town, make_modules, running
from tests.rigs.vivid_bridge import Vivid


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def irc(request: pytest.FixtureRequest) -> AsyncIterator[IrcServer]:
    """A real server for the scenarios of a file; each kind of them with ``one_after_another``."""
    async with getattr(request, "param", run_ngircd)() as started:
        yield started


@pytest.fixture
def vivid() -> Iterator[Vivid]:
    """A network that can do all there is, and its module installed."""
    with vivid_bridge.installed() as network:
        yield network


@pytest.fixture
def modules(irc: IrcServer) -> Modules:
    """What is bridged: the one network ``near``."""
    return irc_module(irc)


@pytest.fixture
def settings(
    town: Town, folder: Path, database_settings: DatabaseSettings, modules: Modules
) -> Settings:
    """How Trestle is set up."""
    return town.settings_for(folder, database_settings, modules=make_modules(modules))


@pytest_asyncio.fixture
async def alice(town: Town) -> MatrixUser:
    """A person on Matrix."""
    return await town.person("alice")


@pytest_asyncio.fixture
async def carl(irc: IrcServer) -> AsyncIterator[IrcUser]:
    """A person on the network."""
    async with irc_user(irc.port, "carl") as person:
        yield person


@pytest_asyncio.fixture
async def app(settings: Settings) -> AsyncIterator[App]:
    """Trestle, running."""
    async with running(settings) as started:
        yield started
