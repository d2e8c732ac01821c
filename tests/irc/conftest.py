"""The real servers, one of each kind per test run."""

from collections.abc import AsyncIterator
from itertools import count

import pytest
import pytest_asyncio

from tests.rigs.inspircd import run_inspircd
from tests.rigs.ircd import IrcServer
from tests.rigs.ngircd import run_ngircd

_CHANNELS = count(1)
RUN = {"ngircd": run_ngircd, "inspircd": run_inspircd}


@pytest_asyncio.fixture(scope="session", loop_scope="session", params=list(RUN))
async def server(request: pytest.FixtureRequest) -> AsyncIterator[IrcServer]:
    """A real server that asks for no password."""
    async with RUN[request.param]() as started:
        yield started


@pytest_asyncio.fixture(scope="session", loop_scope="session", params=list(RUN))
async def locked_server(request: pytest.FixtureRequest) -> AsyncIterator[IrcServer]:
    """A real server with the password ``sesame``."""
    async with RUN[request.param]("sesame") as started:
        yield started


@pytest.fixture
def channel() -> str:
    """A channel that no other test uses."""
    return f"#Test{next(_CHANNELS)}"
