"""Rooms that the bridge made have somebody who runs them: the admins, there and from outside."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import quote

import aiohttp
import pytest_asyncio

from bridge.app import App
from bridge.core.oversight.byhand import HERE
from bridge.demo.matrix_user import PATIENCE, MatrixUser
from bridge.doors.control import ask
from bridge.model import AuditAction, Permission
from bridge.sdk.ids import InstanceId
from bridge.settings.records import Address, DatabaseSettings, RoomSettings, WebSettings
from tests.flow.networks import connected, irc_module
from tests.flow.records import acts
from tests.flow.rooms import bridge, enter, give_power, power, state, wait_for_state
from tests.rigs.irc_user import irc_user
from tests.rigs.ircd import IrcServer
from tests.rigs.ngircd import run_ngircd
from tests.rigs.people import sign_in
from tests.rigs.program import trestle_program
from tests.rigs.trestle import Town, make_modules, running, wait_until

NO_POWER = "you need the power to change this room's settings"


@pytest_asyncio.fixture
async def irc() -> AsyncIterator[IrcServer]:
    async with run_ngircd() as started:
        yield started


@pytest_asyncio.fixture
async def boss(town: Town) -> MatrixUser:
    """An admin of the settings."""
    return await town.person("boss")


@pytest_asyncio.fixture
async def app(
    town: Town, irc: IrcServer, boss: MatrixUser, folder: Path, database_settings: DatabaseSettings
) -> AsyncIterator[App]:
    settings = town.settings_for(
        folder, database_settings, modules=make_modules(irc_module(irc)),
        permissions={boss.id: Permission.ADMIN},
        web=WebSettings(listen=Address("127.0.0.1", 0), manager_url="https://manager.example"),
    )  # fmt: skip
    async with running(settings) as started:
        await wait_until(lambda: started.parts.introduced)
        yield started


async def join_by_command(person: MatrixUser, channel: str) -> str:
    """Have a room made for a channel, and be in it."""
    lobby = await enter(person, name="Lobby")
    await person.say(lobby, f"!trestle near join {channel}")
    await person.wait_for_text(lobby, f"You are invited to the room of {channel}.")
    await person.wait_until(lambda: bool(person.invitations))
    room = next(one for one in person.invitations if one != lobby)
    await person.join(room)
    return room


async def give(person: MatrixUser, room: str, user: str, level: int) -> None:
    """Have somebody stand at that level, and see it."""
    await give_power(person, room, {user: level})
    await wait_for_state(person, room, "m.room.power_levels", power(user, level))


async def test_an_admin_of_ours_runs_a_room_that_the_bridge_made_and_no_room_of_people(
    town: Town, app: App, irc: IrcServer, boss: MatrixUser
) -> None:
    alice = await town.person("alice")
    async with irc_user(irc.port, "olga") as olga:
        await olga.join("#made")
        room = await join_by_command(alice, "#made")
        await alice.say(room, "!trestle pause")
        await alice.wait_for_text(room, NO_POWER)
        await boss.join(room)
        await wait_for_state(boss, room, "m.room.power_levels", power(boss.id, 100))
        # Who runs the channel has what they had, and nobody else has more.
        ghost = "@_trestle_near_olga:test.example"
        await wait_for_state(boss, room, "m.room.power_levels", power(ghost, 50))
        levels = await state(boss, room, "m.room.power_levels")
        assert alice.id not in levels["users"]
        # The level does it, whatever power they left themselves.
        await give(boss, room, boss.id, 0)
        await boss.say(room, "!trestle set follow topic")
        await boss.wait_for_text(room, "follow is topic for #made on near now")
        await boss.say(room, "!trestle near topic Hello")
        await olga.expect("TOPIC #made :Hello")

        theirs = await bridge(alice, "#theirs")
        await boss.join(theirs)
        await boss.say(theirs, "!trestle pause")
        await boss.wait_for_text(theirs, NO_POWER)
        levels = await state(boss, theirs, "m.room.power_levels")
        assert boss.id not in levels["users"]

        await boss.say(room, "!trestle unbridge")
        await boss.wait_for_text(room, "#made on near is no longer bridged here.")


async def test_an_admin_takes_back_an_own_room_by_http_without_being_in_it(
    town: Town, app: App, boss: MatrixUser
) -> None:
    alice = await town.person("alice")
    made, theirs = await join_by_command(alice, "#web"), await bridge(alice, "#people")
    async with aiohttp.ClientSession() as session:
        other, admin = [await sign_in(app, session, one.id) for one in (alice, boss)]
        shown = {one["room"]: one for one in (await admin.ask("GET", "/portals"))["portals"]}
        paths = {room: f"/portals/{shown[room]['id']}" for room in (made, theirs)}
        await other.ask("PATCH", paths[made], {"paused": True}, status=403)
        await admin.ask("PATCH", paths[theirs], {"paused": True}, status=403)
        await admin.ask("DELETE", paths[theirs], status=403)
        assert (await admin.ask("PATCH", paths[made], {"paused": True}))["paused"]
        # Nobody lends a login to a room that they are not in.
        await admin.ask("PATCH", paths[made], {"relay": "mine"}, status=403)
        await admin.ask("DELETE", paths[made])
        assert [door.portal.room for door in app.parts.portals.all] == [theirs]


async def join_once_it_is_open(person: MatrixUser, alias: str) -> str:
    """Join a room that may be in the making: its alias is known before its rule to come in."""
    async with asyncio.timeout(PATIENCE):
        while True:
            status, reply = await person.try_call("POST", f"v3/join/{quote(alias)}", {})
            if status == 200:
                return str(reply["room_id"])
            await asyncio.sleep(0.1)


async def test_the_settings_may_have_bots_in_an_own_room_in_which_no_admin_is(
    town: Town, irc: IrcServer, boss: MatrixUser, folder: Path, database_settings: DatabaseSettings
) -> None:
    alias, dice = "#_trestle_near_=23declared:test.example", InstanceId("dice")
    settings = town.settings_for(
        folder, database_settings,
        modules=make_modules({**irc_module(irc), "dice": ("dice", {})}),
        permissions={boss.id: Permission.ADMIN},
        rooms=(RoomSettings(room=alias, bots=(dice,)),),
    )  # fmt: skip
    alice = await town.person("alice")
    async with running(settings) as app:
        await connected(app.parts.instances[InstanceId("near")])
        room = await join_once_it_is_open(alice, alias)
        await alice.wait_until_joined(room, app.parts.namespaces.bot_of(dice))


async def test_rooms_are_listed_and_untied_at_the_command_line(
    town: Town, irc: IrcServer, folder: Path, database_settings: DatabaseSettings
) -> None:
    modules = irc_module(irc)
    modules["far"] = modules["near"]
    settings = town.settings_for(folder, database_settings, modules=make_modules(modules))
    alice = await town.person("alice")
    async with trestle_program(settings, folder) as trestle:
        assert await trestle.ask("rooms", "list") == "No room is bridged.\n"
        made = await join_by_command(alice, "#cli")
        theirs = await bridge(alice, "#both")
        await alice.say(theirs, "!trestle bridge far #second")
        await alice.wait_for_text(theirs, "This room is bridged to #second on far.")
        await alice.say(theirs, "!trestle pause")
        await alice.wait_for_text(theirs, "this room has several bridges")
        rows = json.loads(await trestle.ask("rooms", "list", "--json"))
        assert [(row["network"], row["channel"], row["room"], row["state"]) for row in rows] == [
            ("far", "#second", theirs, "running"), ("near", "#both", theirs, "running"),
            ("near", "#cli", made, "running"),
        ]  # fmt: skip
        assert f"near  #cli  {made}  running\n" in await trestle.ask("rooms", "list")
        asked = await trestle.ask("rooms", "unbridge", made, code=2)
        assert "nobody is there to answer" in asked
        refused = await trestle.ask("rooms", "unbridge", "!none:test.example", "--yes", code=1)
        assert "trestle rooms list" in refused
        refused = await trestle.ask("rooms", "unbridge", theirs, "--yes", code=1)
        assert "#both" in refused
        assert "#second" in refused
        said = await trestle.ask("rooms", "unbridge", theirs, "--yes", "--channel", "#second")
        assert said == f"No longer bridged: far  #second  {theirs}\n"
        alias = "#_trestle_near_=23cli:test.example"
        said = await trestle.ask("rooms", "unbridge", alias, "--yes")
        assert said == f"No longer bridged: near  #cli  {made}\n"
        (row,) = json.loads(await trestle.ask("rooms", "list", "--json"))
        assert row["channel"] == "#both"
    assert "is not running" in await trestle.ask("rooms", "list", code=1)


async def test_what_the_command_line_unties_is_in_the_audit(
    town: Town, app: App, boss: MatrixUser
) -> None:
    room = await join_by_command(boss, "#audited")
    untied = await ask(app.parts.settings.state_dir, "DELETE", f"/rooms/{quote(room, safe='')}")
    assert untied["room"] == room
    last = (await acts(app))[-1]
    assert (last.actor, last.action) == (HERE, AuditAction.UNBRIDGE)


async def test_how_everything_is_an_admin_is_told_where_nobody_else_reads_it(
    town: Town, app: App, boss: MatrixUser
) -> None:
    alice = await town.person("alice")
    lobby = await enter(alice, name="Lobby")
    await boss.join(lobby)
    await boss.say(lobby, "!trestle status")
    await boss.wait_until(lambda: bool(boss.invitations))
    await boss.wait_for_text(lobby, "I wrote to you in our direct chat.")
    (chat,) = boss.invitations
    await boss.join(chat)
    await boss.wait_for_text(chat, "bridged rooms: 0")
    assert not [e for e in await boss.messages(lobby) if "bridged rooms:" in str(e["content"])]
    before = len(boss.heard(chat))
    await boss.say(chat, "status")
    await boss.wait_until(lambda: len(boss.heard(chat)) >= before + 2)
    # One who has let others into that chat is answered in another.
    await boss.invite(chat, alice.id)
    await alice.join(chat)
    await boss.say(chat, "status")
    await boss.wait_for_text(chat, "I wrote to you in our direct chat.")
    assert not [e for e in await alice.messages(lobby) if "homeserver:" in str(e["content"])]
