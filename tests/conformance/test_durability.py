"""Lines 26 and 27: what is acknowledged is kept, and what cannot be kept is not acknowledged."""

import asyncio
from pathlib import Path

from bridge.demo.matrix_user import PATIENCE
from bridge.settings.records import DatabaseSettings
from tests.conformance.stage import ALICE, DICE, ROOM, Play, ask, play, settings_for
from tests.rigs.cluster import run_cluster
from tests.rigs.program import trestle_program
from tests.rigs.scale import SCALE
from tests.rigs.scripted_homeserver import scripted_homeserver

KILLS = 2 + SCALE // 5


async def test_line_26_what_was_acknowledged_is_handled_after_a_kill(
    database_settings: DatabaseSettings, folder: Path
) -> None:
    rooms = [f"!room{number}" for number in range(5)]
    async with scripted_homeserver() as homeserver:
        homeserver.rooms.update({room: {DICE} for room in rooms})
        settings = settings_for(homeserver, database_settings, folder)
        async with trestle_program(settings, folder) as trestle:
            await homeserver.wait_until_greeted()
            for kill in range(KILLS):
                events = [ask(f"{kill} {n}", room) for n in range(20) for room in rooms]
                assert await homeserver.put(settings, events) == 200
                await trestle.kill()
                await trestle.start()
            await homeserver.wait_until(lambda: len(homeserver.said) == KILLS * 100)
    expected = [f"{kill} {n}" for kill in range(KILLS) for n in range(20)]
    assert {room: homeserver.texts(room) for room in rooms} == dict.fromkeys(rooms, expected)


async def test_line_27_97_without_its_database_it_drops_typing_only_and_asks_for_a_ping_after(
    folder: Path,
) -> None:
    async with run_cluster() as cluster, play(await cluster.fresh(), folder) as stage:
        await cluster.server.stop()
        status, retry_after = await _put(stage, "kept")
        assert status == 503
        assert int(retry_after) > 0
        typing = {"type": "m.typing", "room_id": ROOM, "content": {"user_ids": [ALICE]}}
        assert await stage.put(ephemeral=[typing]) == 200
        pings = stage.homeserver.pings
        await cluster.server.start()
        await stage.homeserver.wait_until(lambda: stage.homeserver.pings > pings)
        assert await stage.put(ask("kept"), ask("new"), name="1") == 200
        assert await stage.heard() == ["kept", "new"]
        assert await stage.app.parts.database.core.fetchval("SELECT count(*) FROM journal") == 2


async def test_a_homeserver_that_delivers_is_not_asked_to(
    database_settings: DatabaseSettings, folder: Path
) -> None:
    async with play(database_settings, folder) as stage:
        homeserver, receiver = stage.homeserver, stage.app.parts.receiver
        assert await stage.put(ask("first")) == 200
        # Each ping has Synapse go through what it keeps once more, beside the way that it goes.
        pings, asked = homeserver.pings, len(homeserver.of("GET", "account"))
        receiver.turned_away = True
        await homeserver.wait_until(lambda: len(homeserver.of("GET", "account")) > asked)
        assert homeserver.pings == pings
        assert await stage.heard() == ["first"]


async def test_what_was_said_so_long_ago_that_it_may_have_crossed_is_taken_and_not_handled(
    database_settings: DatabaseSettings, folder: Path
) -> None:
    day = 24 * 3600 * 1000
    async with play(database_settings, folder) as stage:
        old = ask("old", unsigned={"age": 14 * day})
        odd = ask("odd", unsigned={"age": "14"})
        assert await stage.put(old, odd, ask("younger", unsigned={"age": 12 * day})) == 200
        assert await stage.heard() == ["odd", "younger"]
        assert not await stage.app.parts.database.core.fetchval("SELECT count(*) FROM item")


async def _put(stage: Play, text: str) -> tuple[int, str]:
    """Put one event as transaction 1; give the status and after how long to come again."""
    path, body = "/_matrix/app/v1/transactions/1", {"events": [ask(text)]}
    async with (
        asyncio.timeout(PATIENCE),
        stage.homeserver.request(stage.settings, "PUT", path, body) as response,
    ):
        return response.status, response.headers["Retry-After"]
