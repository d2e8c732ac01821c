"""What the homeserver loses is found again."""

import os
import signal
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from bridge.core.intake.reconciler import Reconciler
from bridge.demo.matrix_user import MatrixUser
from bridge.matrix.history import History, Page
from bridge.sdk.ids import RoomId, UserId
from bridge.settings.records import DatabaseSettings
from bridge.storage.keys import EventKeys
from tests.rigs.chaos import chaos
from tests.rigs.program import TrestleProgram, trestle_program
from tests.rigs.trestle import Town, make_modules, run_town, running, wait_until

DICE = "@_trestle_dice:test.example"


async def test_what_a_homeserver_lost_when_it_was_killed_arrives_once_and_in_order(
    folder: Path, database_settings: DatabaseSettings
) -> None:
    async with run_town() as town, chaos(town, folder, database_settings, rooms=2) as stage:
        alice, trestle, rooms = stage.alice, stage.trestle, stage.rooms
        for room in rooms:
            await alice.say(room, "before")
        await wait_until(lambda: all(stage.did(room) == ["before"] for room in rooms))
        said = [f"line {number}" for number in range(30)]
        await lose(town, trestle, alice, rooms, said)
        wanted = {room: ["before", *said] for room in rooms}
        await wait_until(lambda: {room: stage.did(room) for room in rooms} == wanted, 120)
        await wait_until(lambda: "[gap_repaired" in trestle.log_text())
        await trestle.ask("backup", str(folder / "backup"))
        for room in rooms:
            await alice.say(room, "since")
        wanted = {room: [*wanted[room], "since"] for room in rooms}
        await wait_until(lambda: {room: stage.did(room) for room in rooms} == wanted)
        await trestle.program.stop(limit=25)
        await trestle.ask("restore", str(folder / "backup"), "--force")
        # Before the reconciler has looked, a few seconds after the start.
        await trestle.start()
        said = ["at the start", "soon after it"]
        await lose(town, trestle, alice, rooms, said)
        # What had crossed since the backup does not cross again.
        wanted = {room: [*wanted[room], *said] for room in rooms}
        await wait_until(lambda: {room: stage.did(room) for room in rooms} == wanted, 120)
        await alice.say(rooms[0], "after")
        await wait_until(lambda: stage.did(rooms[0])[-1] == "after")


async def test_an_invitation_that_a_homeserver_lost_is_answered_and_none_twice(
    folder: Path, database_settings: DatabaseSettings
) -> None:
    modules = make_modules({"dice": ("dice", {})})
    async with run_town() as town:
        settings = town.settings_for(folder, database_settings, modules=modules)
        async with trestle_program(settings, folder) as trestle:
            alice = await town.person("alice")
            rooms = [await alice.create_room(preset="public_chat") for _ in range(4)]
            pid = trestle.program.pid
            assert pid is not None
            os.kill(pid, signal.SIGSTOP)
            # The first is under way and comes again; the others are in Synapse's memory alone.
            for room in rooms:
                await alice.invite(room, DICE)
            await alice.call("POST", f"v3/rooms/{quote(rooms[3])}/kick", {"user_id": DICE})
            await town.synapse.kill()
            await trestle.kill()
            await town.synapse.start()
            await trestle.start()
            for room in rooms[:3]:
                await alice.wait_until_joined(room, DICE)
            await wait_until(lambda: "[invitation_found" in trestle.log_text())
            await alice.say(rooms[2], "!roll 2d6")
            await alice.wait_until(lambda: len(alice.heard(rooms[2], DICE)) == 1)
            joined = [
                event for event in alice.events
                if event["type"] == "m.room.member" and event["state_key"] == DICE
                and event["content"]["membership"] == "join"
            ]  # fmt: skip
            assert sorted(event["room_id"] for event in joined) == sorted(rooms[:3])


async def lose(
    town: Town,
    trestle: TrestleProgram,
    alice: MatrixUser,
    rooms: Sequence[str],
    said: Sequence[str],
) -> None:
    """Have these said, and most of it lost on the way.

    Trestle stands still: Synapse keeps one transaction in flight and the rest in memory.
    """
    pid = trestle.program.pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    for line in said:
        for room in rooms:
            await alice.say(room, line)
    await town.synapse.kill()
    await town.synapse.start()
    os.kill(pid, signal.SIGCONT)


async def test_a_quiet_room_costs_one_request_and_nothing_from_before_the_bot_came_is_taken_up(
    town: Town, folder: Path, database_settings: DatabaseSettings
) -> None:
    modules = make_modules({"dice": ("dice", {})})
    settings = town.settings_for(folder, database_settings, modules=modules)
    async with running(settings) as app:
        parts = app.parts
        alice = await town.person("alice")
        room = RoomId(await alice.create_room(preset="public_chat"))
        for number in range(120):
            await alice.say(room, f"!roll {number}d6")
        await alice.invite(room, DICE)
        await wait_until(lambda: parts.routes.has_seat(UserId(DICE), room))
        asked: list[RoomId] = []
        history = History(parts.client, parts.namespaces.is_ours)

        async def page(room: RoomId, user: UserId, *, before: str = "") -> Page | None:
            asked.append(room)
            return await history.page(room, user, before=before)

        reconciler = Reconciler(
            parts.bot_rooms, page=page, accept=parts.intake.accept, known=parts.intake.known,
            keys_of=EventKeys(settings.state_dir).keys_of, rooms=lambda: {room: UserId(DICE)},
            is_encrypted=lambda room: False, is_ours=parts.namespaces.is_ours,
        )  # fmt: skip
        for _ in range(3):
            await reconciler.run_once()
        assert asked == [room] * 3
        await alice.say(room, "!roll 2d6")
        await alice.wait_until(lambda: len(alice.heard(room, DICE)) == 1)
        await reconciler.run_once()
        # Nor from while it was out.
        await alice.call("POST", f"v3/rooms/{quote(room)}/kick", {"user_id": DICE})
        await wait_until(lambda: not parts.routes.has_seat(UserId(DICE), room))
        await alice.say(room, "!roll 3d6")
        await alice.invite(room, DICE)
        await wait_until(lambda: parts.routes.has_seat(UserId(DICE), room))
        await reconciler.run_once()
        assert reconciler.repaired == 0
        assert len(alice.heard(room, DICE)) == 1
