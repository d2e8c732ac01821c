"""What the homeserver has and has forgotten that it has it is not sent again."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

from bridge import sdk
from bridge.app import App
from bridge.demo.matrix_user import PATIENCE, MatrixUser
from bridge.failpoint import VARIABLE
from bridge.matrix.intents import MARK
from bridge.settings.records import DatabaseSettings, Settings
from tests.flow.rooms import bridge, redact
from tests.rigs.program import trestle_program
from tests.rigs.trestle import Town, make_modules, run_town, running
from tests.rigs.vivid_bridge import Vivid, person

DICE = "@_trestle_dice:test.example"
HALL = sdk.RemoteChatId("hall")
BOB = "@_trestle_near_bob:test.example"


async def test_an_answer_that_was_sent_before_the_crash_is_found_in_the_room_of_a_forgetful_server(
    folder: Path, database_settings: DatabaseSettings
) -> None:
    async with run_town() as town:
        settings = town.settings_for(
            folder, database_settings, modules=make_modules({"dice": ("dice", {})})
        )
        async with trestle_program(settings, folder) as trestle:
            alice = await town.person("alice")
            room = await alice.create_room(preset="public_chat")
            await alice.invite(room, DICE)
            await alice.wait_until_joined(room, DICE)
            await trestle.program.stop(limit=25)
            trestle.env[VARIABLE] = "sent:1"
            await trestle.start()
            await alice.say(room, "!choose first, first")
            await trestle.wait_until_ended()
            del trestle.env[VARIABLE]
            await restart_forgetful(town)
            await trestle.start()
            await alice.say(room, "!choose second, second")
            await alice.wait_until(lambda: "second" in answers(alice, room))
        assert answers(alice, room) == ["first", "second"]
        assert "[read_back]" in trestle.log_text()


@asynccontextmanager
async def town_with_near(
    folder: Path, database_settings: DatabaseSettings
) -> AsyncIterator[tuple[Town, Settings, MatrixUser]]:
    """A homeserver of its own, settings with a network, and somebody."""
    async with run_town() as town:
        modules = make_modules({"near": ("vivid", {})})
        settings = town.settings_for(folder, database_settings, modules=modules)
        yield town, settings, await town.person("alice")


async def test_what_was_told_late_bears_its_time_and_is_neither_lost_nor_doubled_among_its_like(
    folder: Path, database_settings: DatabaseSettings, vivid: Vivid
) -> None:
    async with town_with_near(folder, database_settings) as (town, settings, alice):
        async with running(settings) as app:
            room = await bridge(alice, "hall")
            assert vivid.relay is not None
            begun = vivid.relay.now().replace(microsecond=123_000) - timedelta(hours=2)
            for number in range(6):
                await tell(vivid, number, begun)
            # Now and then one is told at once.
            await vivid.receive(vivid.message("Bob", "live", "live"))
            await tell(vivid, 6, begun)
            await alice.wait_for_text(room, "line 6")
            times = {event["content"]["body"]: event for event in bob_said(alice, room)}
            for gone in ("line 1", "line 5", "line 6"):
                await redact(alice, room, times[gone]["event_id"])
            await wait_until_marked(app, 8)
            await town.synapse.stop()
            await tell(vivid, 7, begun)
            # As if it had been killed before it noted that two of them are there.
            core = app.parts.database.core
            for told in (b"late 2", b"late 4"):
                assert await core.execute(
                    "UPDATE outbox SET state = 'queued', event_id = NULL, sent_at = NULL "
                    "WHERE remote_id = $1", told,
                ) == "UPDATE 1"  # fmt: skip
                await core.execute("DELETE FROM message WHERE remote_id = $1", told)
        await restart_forgetful(town)
        async with running(settings) as app:
            await alice.wait_for_text(room, "line 7")
            await wait_until_marked(app, 9)
        said = [event for event in await alice.messages(room) if event["sender"] == BOB]
        said = [event for event in said if event["type"] == "m.room.message"]
        stamps = [round(begun.timestamp() * 1000) + number for number in range(8)]
        live = said.pop(6)
        assert live["origin_server_ts"] > stamps[-1] + 3600 * 1000
        assert [event["origin_server_ts"] for event in said] == stamps
        assert len({event["content"].get(MARK) for event in said}) == 6
        assert [event["content"].get("body") for event in said] == [
            f"line {number}" if number not in {1, 5, 6} else None for number in range(8)
        ]  # fmt: skip


async def test_what_was_said_after_somebody_had_left_is_found_though_they_cannot_see_it(
    folder: Path, database_settings: DatabaseSettings, vivid: Vivid
) -> None:
    async with town_with_near(folder, database_settings) as (town, settings, alice):
        async with running(settings) as app:
            room = await bridge(alice, "hall")
            await alice.call(
                "PUT", f"v3/rooms/{quote(room)}/state/m.room.history_visibility/",
                {"history_visibility": "joined"},
            )  # fmt: skip
            await vivid.receive(vivid.message("Bob", "one", "I am off"))
            await vivid.receive(sdk.RemoteLeave(chat=HALL, user=person("Bob")))
            await vivid.receive(vivid.message("Carl", "two", "he is off"))
            await alice.wait_for_text(room, "he is off")
            await wait_until_marked(app, 2)
            # As if it had been killed before it noted that any of that was done.
            core = app.parts.database.core
            await core.execute(
                "UPDATE outbox SET state = 'queued', event_id = NULL, sent_at = NULL WHERE seq >= "
                "(SELECT min(seq) FROM outbox WHERE remote_id = 'one') AND portal IS NOT NULL"
            )
            await core.execute("DELETE FROM message")
        await restart_forgetful(town)
        async with running(settings) as app:
            await wait_until_marked(app, 2)
        said = [one for one in await alice.messages(room) if one["type"] == "m.room.message"]
        texts = [one["content"]["body"] for one in said if "near" in one["sender"]]
        assert texts == ["I am off", "he is off"]


async def tell(vivid: Vivid, number: int, begun: datetime) -> None:
    """Have the network tell late what was said then."""
    message = vivid.message("Bob", f"late {number}", f"line {number}")
    await vivid.receive(replace(message, at=begun + timedelta(milliseconds=number), late=True))


def bob_said(alice: MatrixUser, room: str) -> list[dict[str, Any]]:
    return list(alice.heard(room, BOB))


async def wait_until_marked(app: App, number: int) -> None:
    """Return when so much of what the network said is known to be in the room."""
    done = "SELECT count(*) FROM outbox WHERE state = 'sent' AND remote_id IS NOT NULL"
    async with asyncio.timeout(PATIENCE):
        while await app.parts.database.core.fetchval(done) < number:
            await asyncio.sleep(0.02)


async def restart_forgetful(town: Town) -> None:
    """Have Synapse forget which transaction made which event, as it does after a day."""
    await town.synapse.stop()
    with sqlite3.connect(town.synapse.folder / "homeserver.db") as database:
        assert database.execute("DELETE FROM event_txn_id_device_id").rowcount > 0
    await town.synapse.start()


def answers(alice: MatrixUser, room: str) -> list[str]:
    return [event["content"]["body"] for event in alice.heard(room, DICE)]
