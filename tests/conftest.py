"""What all tests share: real servers, started once a worker."""

import contextlib
import gc
import logging
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio
from xdist.remote import Producer

from bridge.model import SystemClock
from bridge.settings.records import DatabaseSettings
from bridge.storage.pool import Database
from tests.rigs import again, device_bridge, order
from tests.rigs.cluster import Cluster, run_cluster
from tests.rigs.device_bridge import Network
from tests.rigs.scale import SCALE, SEED
from tests.rigs.scratch import scratch
from tests.rigs.trestle import Town, run_town

# An assertion in what a folder's tests share explains itself as one in a test does.
for _stage in Path(__file__).parent.glob("*/__init__.py"):
    if _stage.parent.name != "rigs":
        pytest.register_assert_rewrite(f"tests.{_stage.parent.name}")


def pytest_configure(config: pytest.Config) -> None:
    """All workers write to one place, which is gone when the last of them is."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # So a shell starts what runs in the background; our children would inherit it.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:  # And ``nohup``.
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
    if not hasattr(config, "workerinput"):
        place = contextlib.ExitStack()
        config.add_cleanup(place.close)
        place.enter_context(scratch())


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest begin first."""
    order.sort(items)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """What is collected stays: it is not looked through again and again for what may go."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> order.ByFile:
    """A file's tests run in one worker."""
    return order.ByFile(config, log)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """What failed beside others is looked at alone, when the workers are gone."""
    again.look(session)


def pytest_report_header() -> str:
    """The settings that repeat this run."""
    return f"TRESTLE_SEED={SEED} TRESTLE_PROVE={SCALE}"


def pytest_runtest_setup() -> None:
    """Undo the levels that a command run by another test has set: they would hide lines."""
    logging.getLogger().setLevel(logging.WARNING)
    logging.getLogger("tests").setLevel(logging.INFO)  # The figures that a proof saw.


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def cluster() -> AsyncIterator[Cluster]:
    """A real Postgres."""
    async with run_cluster() as started:
        yield started


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def template(cluster: Cluster) -> str:
    """The name of a database with the schema and the tables of the coming days, without rows."""
    settings = await cluster.fresh()
    with tempfile.TemporaryDirectory() as place:
        async with Database.open(settings, Path(place), SystemClock()) as opened:
            await opened.cover(opened.clock.today())
            return str(await opened.core.fetchval("SELECT current_database()"))


@pytest_asyncio.fixture
async def empty_database(cluster: Cluster) -> AsyncIterator[DatabaseSettings]:
    """A database of its own, without a schema."""
    made = await cluster.fresh()
    yield made
    await cluster.drop(made)


@pytest_asyncio.fixture
async def database_settings(cluster: Cluster, template: str) -> AsyncIterator[DatabaseSettings]:
    """A database of its own, with the schema and its tables already made."""
    made = await cluster.fresh(template=template)
    yield made
    await cluster.drop(made)


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
