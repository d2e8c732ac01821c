"""What is so already is not done again: it would cost the homeserver more than us."""

from collections.abc import Sequence

from bridge.matrix.client import HomeserverClient
from bridge.matrix.intents import Intents
from bridge.matrix.namespaces import Namespaces
from bridge.sdk.ids import UserId
from bridge.sdk.secret import Secret
from tests.rigs.scripted_homeserver import ScriptedHomeserver, scripted_homeserver

GHOST = UserId("@_trestle_irc_carl:test.example")


async def no_device(user: UserId) -> str:
    return ""


async def asked_by_a_new_process(homeserver: ScriptedHomeserver, name: str) -> Sequence[str]:
    """What a process that knows nothing yet asks, to have the ghost called so."""
    namespaces = Namespaces(server_name="test.example", sender_localpart="x")
    before = len(homeserver.asked)
    async with HomeserverClient(homeserver.url, Secret("token")) as client:
        intents = Intents(client, namespaces, device_of=no_device)
        for _ in range(2):
            await intents.ensure_registered(GHOST, name)
    assert homeserver.names[GHOST] == name
    return [f"{asked.method} {asked.parts[-1]}" for asked in homeserver.asked[before:]]


async def test_a_name_is_set_when_it_is_another_and_not_at_each_start() -> None:
    register, ask, change = "POST register", "GET displayname", "PUT displayname"
    async with scripted_homeserver() as homeserver:
        assert await asked_by_a_new_process(homeserver, "Carl") == [register, change]
        assert await asked_by_a_new_process(homeserver, "Carl") == [register, ask]
        assert await asked_by_a_new_process(homeserver, "Karl") == [register, ask, change]
