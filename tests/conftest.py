"""What all tests share: real servers, started once a worker."""

import logging
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from bridge.settings import DatabaseSettings
from tests.rigs import device_bridge
from tests.rigs.cluster import Cluster, run_cluster
from tests.rigs.device_bridge import Network
from tests.rigs.scale import SCALE, SEED
from tests.rigs.trestle import Town, run_town


def pytest_report_header() -> str:
    """What it takes to run the same again."""
    return f"TRESTLE_SEED={SEED} TRESTLE_PROVE={SCALE}"


def pytest_runtest_setup() -> None:
    """What a command of another test has set hides no line from those who look for it."""
    logging.getLogger().setLevel(logging.WARNING)
    logging.getLogger("tests").setLevel(logging.INFO)  # The figures that a proof saw.


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def cluster() -> AsyncIterator[Cluster]:
    """A real Postgres."""
    async with run_cluster() as started:
        yield started


@pytest_asyncio.fixture
async def database_settings(cluster: Cluster) -> DatabaseSettings:
    """An empty database of its own."""
    return await cluster.fresh()


@pytest.fixture
def folder() -> Iterator[Path]:
    """A short temporary folder that every user may pass through."""
    made = Path(tempfile.mkdtemp(prefix="trestle-t-"))
    made.chmod(0o711)
    yield made
    shutil.rmtree(made, ignore_errors=True)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def town() -> AsyncIterator[Town]:
    """A real Synapse that knows our registration."""
    async with run_town() as started:
        yield started


@pytest.fixture
def network() -> Iterator[Network]:
    """A network on which nobody has signed in, and its module installed."""
    with device_bridge.installed():
        yield device_bridge.NETWORK
