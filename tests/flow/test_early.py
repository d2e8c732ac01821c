"""A message whose way to the network begins while it is being stored is said once it is safe."""

from collections.abc import AsyncIterator

import asyncpg
import pytest
import pytest_asyncio

from bridge import sdk
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
        await vivid.wait_until(lambda network: network.prepared_texts()[-1:] == ["held up"])
        assert vivid.texts() == ["before"]
    await vivid.wait_until(lambda network: network.texts() == ["before", "held up"])
    await wait_until(lambda: not lane.queue)
    assert vivid.prepared[-1] == vivid.done[1]


async def test_what_a_relay_is_to_say_is_prepared_in_the_name_of_who_said_it(
    app: App, alice: MatrixUser, room: str, vivid: Vivid, admin: Connection
) -> None:
    vivid.avatars = False
    await alice.say(room, "!trestle set puppets relay")
    await alice.wait_for_text(room, "puppets is relay")
    # What the bot answers has come back to us before this.
    await alice.say(room, "ready")
    await vivid.wait_until(lambda network: network.texts() == ["before", "ready"])
    async with holding_up(admin):
        await alice.say(room, "held up")
        await vivid.wait_until(lambda network: network.prepared_texts()[-1:] == ["held up"])
    await vivid.wait_until(lambda network: network.texts() == ["before", "ready", "held up"])
    prepared = vivid.prepared[-1]
    assert prepared == vivid.done[2]
    assert prepared.relayed


@pytest.mark.parametrize("error", [sdk.PermanentFailure("no"), ValueError("no")])
async def test_what_cannot_be_prepared_is_said_all_the_same(
    app: App, alice: MatrixUser, room: str, vivid: Vivid, admin: Connection, error: Exception
) -> None:
    async with holding_up(admin):
        vivid.fails_early.append(error)
        await alice.say(room, "held up")
        await vivid.wait_until(lambda network: not network.fails_early)
    await vivid.wait_until(lambda network: network.texts() == ["before", "held up"])


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
