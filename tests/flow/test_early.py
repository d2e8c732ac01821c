"""A message whose way to the network begins while it is being stored is said once it is safe."""

from collections.abc import AsyncIterator

import asyncpg
import pytest
import pytest_asyncio

from bridge.app import App
from bridge.core.lanes.lane import Lane
from bridge.demo.matrix_user import MatrixUser
from bridge.settings.records import DatabaseSettings
from bridge.storage.schema import Connection
from tests.flow.networks import Modules
from tests.flow.rooms import bridge
from tests.rigs.cluster import cut_off, holding_up, until_one_waits
from tests.rigs.trestle import wait_until
from tests.rigs.vivid_bridge import Vivid


@pytest.fixture
def modules(vivid: Vivid) -> Modules:
    """The network that writes down what reached it."""
    return {"near": ("vivid", {})}


@pytest_asyncio.fixture
async def room(alice: MatrixUser, vivid: Vivid) -> str:
    """A bridged room in which something was said."""
    room = await bridge(alice, "hall")
    await alice.say(room, "before")
    await vivid.wait_until(lambda network: network.texts() == ["before"])
    return room


@pytest_asyncio.fixture
async def admin(database_settings: DatabaseSettings) -> AsyncIterator[Connection]:
    """A connection that may hold up what is being stored."""
    connection = await asyncpg.connect(database_settings.url)
    yield connection
    connection.terminate()


async def until_begun_early(app: App, admin: Connection) -> Lane:
    """Return when a message waits to be stored, and its portal's lane has it in hand."""
    await until_one_waits(admin)
    (lane,) = (lane for name, lane in app.parts.router.lanes.items() if name.startswith("portal:"))
    await wait_until(lambda: lane.current is not None and lane.current.landing is not None)
    return lane


async def test_nothing_is_said_on_the_network_before_it_is_stored(
    app: App, alice: MatrixUser, room: str, vivid: Vivid, admin: Connection
) -> None:
    async with holding_up(admin):
        await alice.say(room, "held up")
        lane = await until_begun_early(app, admin)
        assert vivid.texts() == ["before"]
    await vivid.wait_until(lambda network: network.texts() == ["before", "held up"])
    await wait_until(lambda: not lane.queue)


async def test_what_is_not_stored_is_said_once_when_the_homeserver_repeats_it(
    app: App, alice: MatrixUser, room: str, vivid: Vivid, admin: Connection
) -> None:
    async with holding_up(admin):
        await alice.say(room, "cut off")
        lane = await until_begun_early(app, admin)
        await cut_off(admin)
        await wait_until(lambda: not lane.queue)
        assert vivid.texts() == ["before"]
    await alice.say(room, "after")
    await vivid.wait_until(lambda network: "after" in network.texts())
    assert vivid.texts() == ["before", "cut off", "after"]
