"""The rooms of the settings: made as declared, undone when taken out; what differs is said."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bridge.app import App
from bridge.demo.matrix_user import MatrixUser
from bridge.model import InstanceRules, Permission
from bridge.sdk.errors import ConfigError
from bridge.sdk.ids import InstanceId, RoomId, UserId
from bridge.settings.records import (
    DatabaseSettings,
    LogSettings,
    OpsSettings,
    RoomSettings,
    Settings,
)
from tests.flow.networks import Modules, irc_module
from tests.flow.records import acts
from tests.flow.reloading import Again
from tests.rigs.irc_user import IrcUser
from tests.rigs.ircd import IrcServer
from tests.rigs.trestle import Town, make_modules, running, wait_until

BOT, DICE = UserId("@trestle:test.example"), UserId("@_trestle_dice:test.example")
_NAMES = itertools.count(1)


def declare(
    room: str, bridge: Mapping[str, str] | None = None, bots: Sequence[str] = ()
) -> RoomSettings:
    chats = {InstanceId(instance): (chat,) for instance, chat in (bridge or {}).items()}
    return RoomSettings(room=room, bridge=chats, bots=tuple(map(InstanceId, bots)))


@pytest.fixture
def modules(irc: IrcServer) -> Modules:
    """The network, and a bot beside it."""
    return {**irc_module(irc), "dice": ("dice", {})}


@pytest.fixture
def settings(settings: Settings, alice: MatrixUser) -> Settings:
    """With somebody who may declare rooms."""
    return replace(settings, permissions={"*": Permission.USER, alice.id: Permission.ADMIN})


async def public_room(person: MatrixUser) -> tuple[str, RoomId]:
    name = f"declared{next(_NAMES)}"
    room = await person.create_room(preset="public_chat", room_alias_name=name)
    return f"#{name}:test.example", RoomId(room)


def bridged(app: App, room: RoomId) -> list[str]:
    return [door.portal.chat_name for door in app.parts.portals.in_room(room)]


async def test_a_declared_room_is_made_once_and_undone_when_it_is_taken_out(
    settings: Settings, alice: MatrixUser, carl: IrcUser
) -> None:
    name, room = await public_room(alice)
    await carl.join("#declared")
    settings = replace(settings, rooms=(declare(name, {"near": "#declared"}, ["dice"]),))
    far = replace(settings.modules[InstanceId("near")], instance=InstanceId("far"))
    settings = replace(settings, modules={**settings.modules, InstanceId("far"): far})
    async with running(settings) as app:
        await wait_until(lambda: bridged(app, room) == ["#declared"])
        await wait_until(lambda: app.parts.routes.has_seat(DICE, room))
        await alice.say(room, "hello there")
        await carl.expect("hello there")
        assert await app.parts.declared.drift() == []
    again = Again(settings)
    async with running(settings, read_again=again.read) as app:
        assert await app.parts.declared.reconcile() == []
        assert [(act.action, act.actor) for act in await acts(app)] == [("bridge", alice.id)]
        await alice.say(room, "!trestle bridge far #own")
        await alice.wait_for_text(room, "bridged to #own")
        assert await app.parts.declared.drift() == [
            f"{name}: #own on far is bridged, but is not in the list"
        ]
        reloaded = await again.reload(app, rooms=())
        assert reloaded.done == ["changed rooms"]
        assert bridged(app, room) == ["#own"]
        assert not app.parts.routes.has_seat(DICE, room)
        assert DICE not in await alice.members(room)
        assert (await again.reload(app)).done == []


async def test_what_is_taken_out_is_undone_though_another_network_has_a_chat_of_that_name_there(
    settings: Settings, alice: MatrixUser
) -> None:
    name, room = await public_room(alice)
    rooms = (declare(name, {"near": "#same", "far": "#same"}),)
    far = replace(settings.modules[InstanceId("near")], instance=InstanceId("far"))
    modules = {**settings.modules, InstanceId("far"): far}
    again = Again(replace(settings, modules=modules, rooms=rooms))
    async with running(again.settings, read_again=again.read) as app:
        await wait_until(lambda: len(bridged(app, room)) == 2)
        await again.reload(app, rooms=[declare(name, {"near": "#same"})])
        assert [door.portal.instance for door in app.parts.portals.in_room(room)] == ["near"]


async def test_what_cannot_be_made_is_said_and_made_once_it_can_be(
    town: Town, settings: Settings, alice: MatrixUser
) -> None:
    bea = await town.person("bea")
    private = RoomId(await alice.create_room(preset="private_chat"))
    foreign, _ = await public_room(bea)
    settings = replace(settings, rooms=(
        declare(private, {"near": "#one"}), declare(foreign, {"near": "#two"}),
        declare("#nowhere:test.example", bots=["dice"]),
    ))  # fmt: skip
    async with running(settings) as app:
        said = list(await app.parts.declared.reconcile())
        assert len(said) == 3
        assert said[0].startswith(f"{private}: #one on near is not bridged: ")
        assert said[0].endswith(f"; invite {BOT} into it")
        assert said[1] == (
            f"{foreign}: #two on near is not bridged: no admin of the settings ({alice.id}) "
            "has the power to change this room's settings: give it to one of them there, or "
            "name somebody as admin in permissions who has it"
        )
        assert said[2].endswith("there is no such room, as far as the homeserver knows")
        await alice.invite(private, BOT)
        await alice.wait_until_joined(private, BOT)
        assert len(await app.parts.declared.reconcile()) == 2
        assert bridged(app, private) == ["#one"]
        app.parts.declared.declare(settings.rooms, [])
        assert (await app.parts.declared.reconcile())[0] == (
            f"{foreign}: #two on near is not bridged: nobody answers for it: name somebody as "
            "admin in permissions who has the power to change this room's settings"
        )


async def test_a_network_that_did_not_consent_is_not_bridged_by_declaring_it(
    settings: Settings, irc: IrcServer, alice: MatrixUser
) -> None:
    name, room = await public_room(alice)
    modules = make_modules(irc_module(irc, own_network=False))
    rooms = (declare(name, {"near": "#asked"}),)
    async with running(replace(settings, modules=modules, rooms=rooms)) as app:
        [said] = await app.parts.declared.reconcile()
        assert "#asked on near belongs to those who run it, who must agree" in said
        assert bridged(app, room) == []


async def test_a_reload_applies_values_at_once_and_names_what_waits_for_a_restart(
    town: Town, folder: Path, database_settings: DatabaseSettings, alice: MatrixUser
) -> None:
    settings = town.settings_for(
        folder, database_settings, modules=make_modules({"dice": ("dice", {})})
    )
    again = Again(settings)
    async with running(settings, read_again=again.read) as app:
        parts = app.parts
        await parts.stage_bots()
        room = RoomId(await alice.create_room())
        await alice.invite(room, DICE)
        await alice.wait_until_joined(room, DICE)
        await wait_until(lambda: parts.routes.has_seat(DICE, room))
        changes: dict[str, Any] = {
            "permissions": {alice.id: Permission.NONE},
            "limits": replace(
                settings.limits, tries=7, item_deadline=5, send_deadline=6, watchdog=40,
                items_in_memory=100,
            ),
            "ops": OpsSettings(listen=None),
            "homeserver": replace(settings.homeserver, url="http://127.0.0.1:1"),
            "state_dir": folder / "elsewhere",
        }  # fmt: skip
        drift = await again.drift(app, **changes)
        assert drift.done == ["changed permissions", "changed limits"]
        assert parts.permissions.of(UserId(alice.id)) is Permission.USER
        reloaded = await again.reload(app)
        assert reloaded.done == ["changed permissions", "changed limits"]
        assert reloaded.restart == ["homeserver.url", "state_dir"]
        assert reloaded.notes == []
        assert parts.permissions.of(UserId(alice.id)) is Permission.NONE
        assert parts.stage.deadline == 5
        assert {lane.consumer.deadline for lane in parts.router.lanes.values()
                if lane.consumer.name.startswith("bot:")} == {5}  # fmt: skip
        assert parts.settings.homeserver == settings.homeserver
        assert (await again.reload(app)).done == []


async def test_a_secret_that_changes_in_its_file_is_taken_up_and_a_mere_move_is_not(
    town: Town, folder: Path, database_settings: DatabaseSettings, irc: IrcServer
) -> None:
    secret = folder / "password"
    secret.write_text("the first one")
    secret.chmod(0o600)
    given = irc_module(irc, password="the first one")
    filed = irc_module(irc, password_file=str(secret))
    settings = town.settings_for(folder, database_settings, modules=make_modules(given))
    again = Again(settings)
    async with running(settings, read_again=again.read) as app:
        first = app.parts.instances[InstanceId("near")]
        assert (await again.reload(app, modules=make_modules(filed))).done == []
        assert app.parts.instances[InstanceId("near")] is first
        secret.write_text("the second one")
        assert (await again.drift(app)).done == ["changed near"]
        assert (await again.reload(app)).done == ["changed near"]
        assert app.parts.instances[InstanceId("near")] is not first
        assert (await again.reload(app)).done == []


async def test_one_mistake_keeps_everything_as_it_was(
    town: Town, folder: Path, database_settings: DatabaseSettings
) -> None:
    settings = town.settings_for(
        folder, database_settings, modules=make_modules({"dice": ("dice", {})})
    )
    again = Again(settings)
    async with running(settings, read_again=again.read) as app:
        dice = app.parts.bots[InstanceId("dice")]
        broken = {"remind": ("remind", {}), "dice": ("dice", {"most_dice": 0})}
        with pytest.raises(ConfigError) as refused:
            await again.reload(
                app, modules=make_modules(broken), permissions={"*": Permission.ADMIN},
                logging=LogSettings(level="error"),
            )  # fmt: skip
        assert refused.value.path == "modules.dice.most_dice"
        assert app.parts.bots == {"dice": dice}
        assert app.parts.permissions.of(UserId("@x:elsewhere.example")) is Permission.NONE
        assert app.parts.settings == settings


async def test_a_network_that_is_added_comes_with_its_own_permissions(
    town: Town, folder: Path, database_settings: DatabaseSettings, irc: IrcServer
) -> None:
    near, alice = InstanceId("near"), UserId("@alice:test.example")
    settings = town.settings_for(folder, database_settings, modules={})
    again = Again(settings)
    async with running(settings, read_again=again.read) as app:
        module = make_modules(irc_module(irc))[near]
        rules = InstanceRules(permissions={alice: Permission.RELAY})
        added = await again.reload(app, modules={near: replace(module, rules=rules)})
        assert added.done == ["added near"]
        assert app.parts.permissions.of(alice, near) is Permission.RELAY
        assert app.parts.permissions.of(alice) is Permission.USER


async def test_a_network_that_people_look_things_up_in_needs_another_registration(
    town: Town, folder: Path, database_settings: DatabaseSettings, irc: IrcServer
) -> None:
    settings = town.settings_for(folder, database_settings, modules={})
    again = Again(settings)
    async with running(settings, read_again=again.read) as app:
        reloaded = await again.reload(app, modules=make_modules(irc_module(irc)))
        assert reloaded.done == ["added near"]
        assert reloaded.notes == [
            "the registration has changed: write it with `trestle registration`, and restart "
            "the homeserver"
        ]
        metrics = app.parts.telemetry.registry
        await wait_until(lambda: app.parts.instances[InstanceId("near")].relay is not None)
        label = {"instance": "near", "state": "stopped"}
        assert (await again.reload(app, modules={})).done == ["removed near"]
        assert metrics.get_sample_value("trestle_module_state", label) is None


async def test_a_chat_that_is_declared_as_nobody_else_spells_it_is_known_to_be_there(
    settings: Settings, alice: MatrixUser, carl: IrcUser
) -> None:
    name, room = await public_room(alice)
    await carl.join("#spelled")
    async with running(replace(settings, rooms=(declare(name, {"near": "#spelled"}),))) as app:
        await wait_until(lambda: bridged(app, room) == ["#spelled"])
    again = replace(settings, rooms=(declare(name, {"near": "#SPELLED"}),))
    async with running(again) as app:
        declared = app.parts.declared
        await wait_until(lambda: bool(app.parts.instances[InstanceId("near")].is_open))
        assert await declared.reconcile() == []
        assert await declared.drift() == []
        assert bridged(app, room) == ["#spelled"]
