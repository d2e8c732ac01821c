"""After an outage hundreds are parked: all are tried again, or let go, with one command."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from bridge.app import App
from bridge.core.commands.parkedcommand import ParkedCommand
from bridge.core.oversight.byhand import Choice
from bridge.demo.matrix_user import PATIENCE, MatrixUser
from bridge.model import ParkReason
from bridge.sdk.errors import PermanentFailure
from bridge.sdk.ids import RoomId, UserId
from bridge.settings.records import DatabaseSettings
from tests.conformance.stage import ALICE, ROOM, play
from tests.core.outgoing import say
from tests.flow.networks import irc_module
from tests.flow.rooms import bridge
from tests.rigs.chaos import chaos
from tests.rigs.irc_user import IrcUser, irc_user
from tests.rigs.ngircd import run_ngircd
from tests.rigs.program import trestle_program
from tests.rigs.scripted_homeserver import Answer, Asked, refuse
from tests.rigs.trestle import Town, make_modules, running, wait_until

MANY = 6


async def test_all_are_tried_again_and_let_go_by_one_command_each(
    town: Town, folder: Path, database_settings: DatabaseSettings
) -> None:
    async with chaos(town, folder, database_settings) as stage:
        alice, trestle, (room,) = stage.alice, stage.trestle, stage.rooms
        for text in ["flaky"] * MANY + ["raise"] * 2 + ["after"]:
            await alice.say(room, text)
        await wait_until(lambda: stage.did(room) == ["after"])
        assert len(await trestle.parked()) == MANY + 2
        stage.mend()
        said = await trestle.ask("parked", "retry", "--all", "--reason", "too large")
        assert "Nothing of that kind is parked." in said
        assert f"{MANY + 2} run again." in await trestle.ask("parked", "retry", "--all")
        await wait_until(lambda: stage.did(room) == ["after"] + ["flaky"] * MANY)
        await trestle.wait_for_parked(2)  # They never work.
        assert "nobody is there to answer" in await trestle.ask("parked", "drop", "--all", code=2)
        assert len(await trestle.parked()) == 2
        gone = json.loads(await trestle.ask("parked", "drop", "--all", "--yes", "--json"))
        assert gone == {"count": 2, "faults": []}
        assert await trestle.parked() == []
        await alice.say(room, "raise")
        await trestle.wait_for_parked(1)
    # The program has ended: the command lets go alone, and runs nothing.
    assert "is not running" in await trestle.ask("parked", "retry", "--all", code=1)
    wrong = ("parked", "drop", "--all", "--reason", "refused", "--yes")
    assert "Nothing of that kind" in await trestle.ask(*wrong)
    assert "1 let go." in await trestle.ask("parked", "drop", "--all", "--yes")
    assert await trestle.parked() == []


async def test_what_cannot_run_again_is_named_and_stays_while_it_can_be_let_go(
    town: Town, folder: Path, database_settings: DatabaseSettings
) -> None:
    async with chaos(town, folder, database_settings) as stage:
        for _ in range(2):
            await stage.alice.say(stage.rooms[0], "raise")
        await stage.trestle.wait_for_parked(2)
    settings = replace(stage.trestle.settings, modules={})
    async with trestle_program(settings, folder) as trestle:
        said = await trestle.ask("parked", "retry", "--all", code=1)
        assert "0 run again." in said
        assert said.count(": nobody listens for it any more; drop it\n") == 2
        assert said.endswith("trestle: 2 could not be run again\n")
        left = await trestle.parked()
        assert all(f"{one['name']}: nobody" in said for one in left)
        gone = await trestle.ask("parked", "drop", "--all", "--reason", "failed", "--yes")
        assert "2 let go." in gone


@asynccontextmanager
async def refused(
    town: Town, folder: Path, database: DatabaseSettings
) -> AsyncIterator[tuple[App, MatrixUser, str, str, IrcUser]]:
    """What was said in two rooms is parked; in the first, where it was many, all may speak now."""
    async with run_ngircd() as irc, irc_user(irc.port, "chief") as chief:
        for channel in ("#quiet", "#other"):
            await chief.join(channel)
            chief.say(f"MODE {channel} +m")
        await chief.sync()
        modules = make_modules(irc_module(irc))
        async with running(town.settings_for(folder, database, modules=modules)) as app:
            alice = await town.person("alice")
            room, elsewhere = await bridge(alice, "#quiet"), await bridge(alice, "#other")
            await alice.say(elsewhere, "not to be touched")
            for number in range(MANY):
                await alice.say(room, f"unheard {number}")
            counted = app.parts.items.count_parked
            async with asyncio.timeout(PATIENCE):
                while (await counted()).get(ParkReason.REFUSED) != MANY + 1:
                    await asyncio.sleep(0.05)
            chief.say("MODE #quiet -m")
            await chief.sync()
            yield app, alice, room, elsewhere, chief


async def test_a_room_has_all_of_its_own_tried_again_and_lets_go_only_as_many_as_it_has_seen(
    town: Town, folder: Path, database_settings: DatabaseSettings
) -> None:
    async with refused(town, folder, database_settings) as (app, alice, room, elsewhere, chief):
        aside = app.parts.aside
        command = ParkedCommand(aside, seconds=0)
        said = await command.obey(RoomId(room), UserId(alice.id), ("retry", "all", "refused"))
        assert said == (
            f"1 run again.\n{MANY - 1} are left. To go on, say: !trestle parked retry rest"
        )
        await alice.say(room, "!trestle parked retry all")
        await alice.wait_for_text(room, f"{MANY - 1} run again.")
        for number in range(MANY):
            await chief.expect("PRIVMSG #quiet", f"unheard {number}")
        (other,) = await aside.all()
        assert list(await aside.all(RoomId(elsewhere))) == [other]
        await _let_all_go(alice, elsewhere)
        assert await aside.all() == []


async def test_each_is_tried_again_once_though_some_are_put_aside_again_at_once(
    database_settings: DatabaseSettings, folder: Path
) -> None:
    bad = {"bad 1", "bad 2", "bad 3"}

    def refuses(asked: Asked) -> Answer | None:
        return refuse(400, "M_BAD_JSON") if asked.content.get("body") in bad else None

    async with play(database_settings, folder, rules=[refuses]) as stage:
        parts, room, alice = stage.app.parts, RoomId(ROOM), UserId(ALICE)
        command = ParkedCommand(parts.aside, seconds=0)
        await parts.sender.put([say(text) for text in sorted(bad)])
        await wait_until(lambda: not parts.sender.waiting)
        bad.remove("bad 3")
        for words, left in ((("retry", "all"), 2), (("retry", "rest"), 1)):
            assert await command.obey(room, alice, words) == (
                f"1 run again.\n{left} are left. To go on, say: !trestle parked retry rest"
            )
            await wait_until(lambda: not parts.sender.waiting)
            assert len(await parts.aside.all(room)) == 3
        assert await command.obey(room, alice, ("retry", "rest")) == "1 run again."
        await stage.homeserver.wait_until(lambda: stage.homeserver.texts(room) == ["bad 3"])
        with pytest.raises(PermanentFailure, match="say !trestle parked retry all"):
            await command.obey(room, alice, ("retry", "rest"))
        assert len(await parts.aside.all(room)) == 2


async def test_two_who_try_all_again_at_the_same_time_have_each_said_once(
    town: Town, folder: Path, database_settings: DatabaseSettings
) -> None:
    async with refused(town, folder, database_settings) as (app, alice, room, _, chief):
        aside, faults = app.parts.aside, list[str]()

        async def try_all() -> None:
            async with aclosing(aside.retry_all(Choice(room=RoomId(room)))) as steps:
                async for step in steps:
                    faults.extend(step.faults)

        async with asyncio.TaskGroup() as group:
            for _ in range(2):
                group.create_task(try_all())
        assert len(faults) == MANY
        assert all("it is not parked any more" in fault for fault in faults)
        await alice.say(room, "the last")
        await chief.expect("PRIVMSG #quiet", "the last")
        said = [line for line in chief.heard if "PRIVMSG #quiet" in line and "unheard" in line]
        assert len(said) == MANY


async def _let_all_go(alice: MatrixUser, room: str) -> None:
    await alice.say(room, "!trestle parked drop all")
    await alice.wait_for_text(room, "That lets 1 go for good. To go on, say: !trestle parked")
    await alice.say(room, "!trestle parked drop all 2")
    await alice.wait_for_text(room, "1 are parked now, not 2, so nothing was done")
    await alice.say(room, "!trestle parked drop all lost 1")
    await alice.wait_for_text(room, "'lost' is no reason; there are malformed, refused")
    await alice.say(room, "!trestle parked drop all refused 1")
    await alice.wait_for_text(room, "1 gone.")
    await alice.say(room, "!trestle parked retry all")
    await alice.wait_for_text(room, "Nothing of that kind is parked of this room.")
