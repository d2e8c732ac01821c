"""How it is: on one screen, and in the operators' room."""

import asyncio
import json
import os
import shlex
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path

import asyncpg
import pytest

from bridge.core.oversight.statuslines import in_lines
from bridge.core.oversight.statusroom import StatusRoom, pause_after
from bridge.demo.matrix_user import PATIENCE
from bridge.doors.control import ask
from bridge.matrix.client import HomeserverAway
from bridge.model import Permission
from bridge.sdk.errors import TemporaryFailure
from bridge.sdk.ids import RoomId, UserId
from bridge.settings.records import DatabaseSettings
from tests.admin.commands import command, typed
from tests.conformance.stage import ROOM, Play, play
from tests.core.outgoing import say
from tests.rigs.program import trestle_program
from tests.rigs.scripted_homeserver import SERVER, Answer, Asked, Said, refuse
from tests.rigs.trestle import Town, make_modules, wait_until

ADMIN, OTHER = UserId(f"@admin:{SERVER}"), UserId(f"@other:{SERVER}")


def refuses(asked: Asked) -> Answer | None:
    body = str(asked.content.get("body"))
    return refuse(400, "M_BAD_JSON") if body.startswith("bad") else None


async def park(stage: Play, text: str) -> None:
    """Have something refused by the homeserver."""
    before = sum((await stage.app.parts.items.count_parked()).values())
    await stage.app.parts.sender.put([say(text), say(f"after {text}")])
    await stage.homeserver.wait_until(lambda: f"after {text}" in stage.homeserver.texts(ROOM))
    assert sum((await stage.app.parts.items.count_parked()).values()) == before + 1


async def shown(stage: Play, room: StatusRoom, words: str) -> list[Said]:
    """What was said in the status room, once the last of it holds the words."""
    async with asyncio.timeout(PATIENCE):
        while True:
            await room.look()
            said = [one for one in stage.homeserver.said if one.room != ROOM]
            if said and words in said[-1].text:
                return said
            await asyncio.sleep(0.05)


async def test_a_trouble_is_one_line_edited_in_place_and_cleared_when_it_is_over(
    database_settings: DatabaseSettings, folder: Path
) -> None:
    async with play(
        database_settings, folder, rules=[refuses], permissions={ADMIN: Permission.ADMIN}
    ) as stage:
        room = stage.app.parts.status_room
        await room.look()
        assert stage.homeserver.of("POST", "createRoom") == []
        await park(stage, "bad one")
        (line,) = await shown(stage, room, "1 put aside (1 refused)")
        assert len(stage.homeserver.of("POST", "createRoom")) == 1
        (invited,) = [a for a in stage.homeserver.of("POST", "rooms") if a.parts[-1] == "invite"]
        assert invited.content == {"user_id": ADMIN}
        # Another of the same kind is no reason to wake somebody again.
        await park(stage, "bad two")
        await room.look()
        assert len(await shown(stage, room, "1 put aside")) == 1
        while await room.acknowledge(ADMIN) and len(stage.homeserver.texts(line.room)) < 2:
            await asyncio.sleep(0.05)
        said = await shown(stage, room, f"Seen by {ADMIN}.")
        assert "2 put aside" in said[-1].text
        assert [_edited(one) for one in said] == [None, line.event_id]
        aside = stage.app.parts.aside
        for one in await aside.all():
            await aside.drop(one.name)
        said = await shown(stage, room, "Over (")
        assert [_edited(one) for one in said] == [None, line.event_id, line.event_id]
        await room.look()
        assert len(stage.homeserver.texts(line.room)) == 3


async def test_a_line_that_is_refused_keeps_no_other_from_being_said(
    database_settings: DatabaseSettings, folder: Path
) -> None:
    def refuses_lines(asked: Asked) -> Answer | None:
        body = str(asked.content.get("body"))
        return refuse(400, "M_BAD_JSON") if body.startswith("bad") or "put aside" in body else None

    async with play(
        database_settings, folder, rules=[refuses_lines], permissions={ADMIN: Permission.ADMIN}
    ) as stage:
        parts = stage.app.parts
        await park(stage, "bad one")
        async with asyncio.timeout(PATIENCE):
            while sum((await parts.items.count_parked()).values()) < 2:
                await parts.status_room.look()
        parts.bookkeeper.difference = {"to_matrix": 3}
        (line,) = await shown(stage, parts.status_room, "3 events are unaccounted for")
        parts.bookkeeper.difference = {}
        assert _edited((await shown(stage, parts.status_room, "Over ("))[-1]) == line.event_id
        assert sum((await parts.items.count_parked()).values()) == 2


async def test_who_is_an_admin_is_invited_until_it_works_and_who_is_none_any_more_is_removed(
    database_settings: DatabaseSettings, folder: Path
) -> None:
    away: list[UserId] = [ADMIN]

    def busy(asked: Asked) -> Answer | None:
        is_refused = asked.parts[-1] == "invite" and asked.content["user_id"] in away
        return refuse(403, "M_FORBIDDEN") if is_refused else refuses(asked)

    async with play(database_settings, folder, rules=[busy]) as stage:
        await park(stage, "bad one")
        room = stage.app.parts.status_room

        def asked(what: str) -> list[str]:
            rooms = stage.homeserver.of("POST", "rooms")
            return [str(a.content["user_id"]) for a in rooms if a.parts[-1] == what]

        room.set_admins([ADMIN, OTHER])  # As a reload does.
        await room.look()
        await room.look()
        assert asked("invite") == [ADMIN, OTHER]
        away.clear()
        room.set_admins([ADMIN, OTHER])  # Or a while passes.
        await room.look()
        await room.look()
        assert asked("invite") == [ADMIN, OTHER, ADMIN]
        room.set_admins([OTHER])
        await room.look()
        room.set_admins([])
        await room.look()
        await room.look()
        assert asked("kick") == [ADMIN, OTHER]


def test_the_status_room_leaves_a_homeserver_alone_for_as_long_as_it_asks_up_to_a_minute() -> None:
    asked = [None, 3, 30, 3600]
    pauses = [pause_after(HomeserverAway("busy", retry_after=seconds)) for seconds in asked]
    assert pauses == [10, 10, 30, 60]


async def test_without_admins_there_is_no_status_room(
    database_settings: DatabaseSettings, folder: Path
) -> None:
    async with play(database_settings, folder, rules=[refuses]) as stage:
        await park(stage, "bad one")
        room = stage.app.parts.status_room
        await room.look()
        assert stage.homeserver.of("POST", "createRoom") == []
        room.set_admins([ADMIN])  # As a reload does.
        await room.look()
        assert len(stage.homeserver.of("POST", "createRoom")) == 1


async def test_status_shows_all_on_one_screen(
    town: Town, folder: Path, database_settings: DatabaseSettings
) -> None:
    modules = make_modules({"dice": ("dice", {})})
    settings = town.settings_for(folder, database_settings, modules=modules)
    async with trestle_program(settings, folder) as trestle:
        found = json.loads(await trestle.ask("status", "--json"))
        assert found["bots"] == [
            {"name": "dice", "title": "Dice", "user": "@_trestle_dice:test.example"}
        ]
        text = await trestle.ask("status")
        for words in ("homeserver: ", "waiting: 0 from Matrix", "parked: nothing", "unaccounted"):
            assert words in text
        assert len(text.splitlines()) < 24
    assert "is not running with this config" in await trestle.ask("status", code=1)


@pytest.mark.parametrize(
    "program",
    [
        ("env", "TERM=dumb", *command("status", "--watch")),
        ("sh", "-c", f"{shlex.join(command('status', '--watch'))} | cat"),
    ],
)
def test_where_nothing_can_be_written_over_one_look_is_shown_below_the_other(
    folder: Path, program: tuple[str, ...]
) -> None:
    (folder / "config.yaml").write_text(f"state_dir: {folder}\n")
    with typed(program, folder) as terminal:
        for _ in range(2):
            terminal.wait_for("Trestle is not running")
        terminal.type("\x03")
        terminal.end()
    assert "\x1b" not in terminal.shown


async def test_a_database_that_is_slow_is_told_while_it_is(
    database_settings: DatabaseSettings, folder: Path
) -> None:
    async with play(database_settings, folder) as stage:
        connection = await asyncpg.connect(database_settings.url)
        try:
            async with connection.transaction():
                await connection.execute("LOCK TABLE item")
                found = await stage.app.parts.status.look(5)
        finally:
            await connection.close()
        assert (found["database"], found["parked"]) == ("slow: no answer within 5 s", None)
        assert "database: slow: no answer within 5 s" in in_lines(found)
        assert (await stage.app.parts.status.look())["database"] == "answers"


POSTMASTER = "SELECT split_part(pg_read_file('postmaster.pid'), chr(10), 1)"
SERVERS = (
    "SELECT pid FROM pg_stat_activity "
    "WHERE datname = current_database() AND pid != pg_backend_pid() "
    "AND backend_type = 'client backend'"
)


def tell(pid: int, what: signal.Signals) -> None:
    with suppress(ProcessLookupError):  # It is over.
        os.kill(pid, what)


@asynccontextmanager
async def standing_still(database: DatabaseSettings) -> AsyncIterator[None]:
    """A database of which no process that serves anybody moves, and which takes nobody in."""
    connection = await asyncpg.connect(database.url)
    postmaster = int(await connection.fetchval(POSTMASTER))
    stopped = [postmaster]
    try:
        # It first: whoever finds all connections waiting opens one more.
        tell(postmaster, signal.SIGSTOP)
        for one in await connection.fetch(SERVERS):
            stopped.append(one["pid"])
            tell(one["pid"], signal.SIGSTOP)
        async with asyncio.timeout(15):
            yield
    finally:
        for pid in stopped:
            tell(pid, signal.SIGCONT)
        await connection.close()


async def test_of_a_database_that_stands_still_no_leave_is_taken_before_that_is_told(
    database_settings: DatabaseSettings, folder: Path
) -> None:
    async with play(database_settings, folder) as stage:
        await stage.app.parts.items.count_parked()
        async with standing_still(database_settings):
            found = await stage.app.parts.status.look(0.5)
        assert (found["database"], found["parked"]) == ("slow: no answer within 0.5 s", None)


@pytest.mark.parametrize(
    "asked", ["GET /parked", "GET /parked/abcd", "GET /trace/$one", "DELETE /keys/@one:x",
              "POST /keys/rotate", "GET /keys/check", "GET /people/@one:x/copy",
              "DELETE /people/@one:x"],
)  # fmt: skip
async def test_who_asks_for_what_such_a_database_holds_is_not_kept_waiting(
    asked: str, database_settings: DatabaseSettings, folder: Path
) -> None:
    async with play(database_settings, folder) as stage:
        await stage.app.parts.items.count_parked()
        async with standing_still(database_settings):
            with pytest.raises(TemporaryFailure, match=r"is slow: no answer within 5 s\. Nothing"):
                await ask(stage.settings.state_dir, *asked.split())


async def test_a_room_for_which_the_homeserver_asks_for_patience_is_shown_and_asked_no_sooner(
    database_settings: DatabaseSettings, folder: Path
) -> None:
    asked_for: list[str] = []

    def busy(asked: Asked) -> Answer | None:
        if "send" not in asked.parts or asked.parts[1] != ROOM:
            return None
        asked_for.append(asked.path)
        return refuse(429, "M_LIMIT_EXCEEDED", retry_after_ms=60_000)

    loop = asyncio.get_running_loop()
    async with play(database_settings, folder, rules=[busy]) as stage:
        parts, homeserver = stage.app.parts, stage.homeserver
        await parts.sender.put([say("one"), say("two")])
        await wait_until(lambda: any(lane.is_resting for lane in parts.sender.standing()))
        # Other rooms go on.
        await parts.sender.put([replace(say("elsewhere"), room=RoomId("!other"))])
        await homeserver.wait_until(lambda: homeserver.texts("!other") == ["elsewhere"])
        look = await parts.status.look()
        (held,) = look["into_matrix_held_up"]
        assert (held["room"], held["waiting"]) == (ROOM, 2)
        (line,) = [one for one in in_lines(look) if one.startswith(f"  into {ROOM}: 2, since ")]
        assert line.endswith(": the homeserver asks for patience for 60 s")
        assert len(asked_for) == 1
        stops = loop.time()
    assert loop.time() - stops < 30


def _edited(said: Said) -> object:
    relates = said.content.get("m.relates_to", {})
    return relates.get("event_id") if relates.get("rel_type") == "m.replace" else None
