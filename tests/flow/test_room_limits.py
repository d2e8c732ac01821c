"""A network has so many rooms and no more, whoever asks for them; aliases wear out sooner."""

from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import quote

import pytest_asyncio

from bridge.app import App
from bridge.demo.matrix_user import MatrixUser
from bridge.model import InstanceRules
from bridge.settings.records import DatabaseSettings
from tests.flow.networks import NEAR, connected, irc_module
from tests.flow.rooms import enter
from tests.rigs.ngircd import run_ngircd
from tests.rigs.trestle import Town, make_modules, running


@pytest_asyncio.fixture
async def app(town: Town, folder: Path, database_settings: DatabaseSettings) -> AsyncIterator[App]:
    rules = {NEAR: InstanceRules(most_rooms=2, alias_rooms_hourly=1)}
    async with run_ngircd() as irc:
        modules = make_modules(irc_module(irc), rules)
        settings = town.settings_for(folder, database_settings, modules=modules)
        async with running(settings) as started:
            await connected(started.parts.instances[NEAR])
            yield started


async def resolve(person: MatrixUser, channel: str) -> int:
    """Ask for the room of a channel by its alias; give the status."""
    alias = f"#_trestle_near_={channel.replace('#', '23')}:test.example"
    status, _ = await person.try_call("GET", f"v3/directory/room/{quote(alias)}")
    return status


async def test_no_more_rooms_are_made_than_the_settings_allow_and_who_asks_is_told(
    town: Town, app: App
) -> None:
    alice = await town.person("alice")
    lobby, full = (
        await enter(alice, name="Lobby"),
        "near has as many bridged rooms as the settings",
    )
    assert await resolve(alice, "#one") == 200
    assert await resolve(alice, "#two") == 404
    assert await resolve(alice, "#one") == 200
    # Whom we know does not wait for strangers.
    await alice.say(lobby, "!trestle near join #two")
    await alice.wait_for_text(lobby, "You are invited to the room of #two.")
    await alice.say(lobby, "!trestle near join #three")
    await alice.wait_for_text(lobby, f"I could not do that: {full}")
    site = await enter(alice, name="Site")
    await alice.say(site, "!trestle bridge near #three")
    await alice.wait_for_text(site, f"I could not do that: {full}")
    assert [door.portal.chat for door in app.parts.portals.all] == ["#one", "#two"]
    troubles = (await app.parts.status.look())["troubles"]
    events = [one["event"] for one in troubles if one["event"] == "too_many_rooms"]
    assert len(events) == 2

    # What is there stays in use, and what ends makes room.
    await alice.say(lobby, "!trestle near join #one")
    await alice.wait_for_text(lobby, "You are invited to the room of #one.")
    (door,) = [one for one in app.parts.portals.all if one.portal.chat == "#two"]
    await app.parts.plumbing.unbridge(door, app.parts.namespaces.bot)
    await alice.say(site, "!trestle bridge near #three")
    await alice.wait_for_text(site, "This room is bridged to #three on near.")
