"""Nobody gets a connection on a network who was not told before."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from bridge.app import App
from bridge.demo.matrix_user import PATIENCE, MatrixUser
from bridge.model import Announce, InstanceRules
from bridge.sdk.ids import RoomId, UserId
from bridge.settings.records import Address, DatabaseSettings, Settings, WebSettings
from bridge.web.places import read_more
from tests.flow.networks import NEAR, irc_module
from tests.flow.rooms import bridge
from tests.rigs.cluster import until_one_waits
from tests.rigs.irc_user import irc_user
from tests.rigs.ircd import IrcServer
from tests.rigs.ngircd import run_ngircd
from tests.rigs.trestle import Town, make_modules, running
from tests.storage.conftest import TurnedClock

WEB = WebSettings(
    public_listen=Address("127.0.0.1", 0), public_url="https://public.example/",
    policy="Be kind.\nhttps://rules.example", contact="admin@test.example",
)  # fmt: skip
RULES = "The rules, and whom to turn to: https://public.example/bridged"


def settings_with(
    town: Town, irc: IrcServer, folder: Path, database: DatabaseSettings, **rules: Any
) -> Settings:
    modules = make_modules(irc_module(irc), {NEAR: InstanceRules(**rules)})
    return town.settings_for(folder, database, modules=modules, web=WEB)


async def read(person: MatrixUser, room: str, event: dict[str, Any]) -> None:
    await person.call("POST", f"v3/rooms/{room}/receipt/m.read/{event['event_id']}", {})


def has_puppet(app: App, person: str) -> bool:
    return app.parts.instances[NEAR].find_session(UserId(person)) is not None


async def test_no_puppet_is_made_before_it_is_noted_that_its_owner_was_told(
    town: Town, folder: Path, database_settings: DatabaseSettings
) -> None:
    async with run_ngircd() as irc, irc_user(irc.port, "carl") as carl:
        await carl.join("#told")
        async with running(settings_with(town, irc, folder, database_settings)) as app:
            alice = await town.person("alice")
            room = await bridge(alice, "#told")
            core = app.parts.database.core
            async with core.acquire() as connection, connection.transaction():
                await connection.execute("LOCK TABLE told IN SHARE MODE")
                await alice.say(room, "hello")
                await until_one_waits(core)
                assert not has_puppet(app, alice.id)
            await carl.expect(":hello")
            told = await alice.wait_for_text(room, "from a connection of your own")
            bridged = await alice.wait_for_text(room, "This room is bridged to")
            for event in (told, bridged):
                assert "!trestle optout" in event["content"]["body"]
                assert event["content"]["body"].endswith(RULES)
            await alice.say(room, "again")
            await carl.expect(":again")
        # Once, over restarts too.
        async with running(settings_with(town, irc, folder, database_settings)):
            await alice.say(room, "and again")
            await carl.expect(":and again")
        said = [str(event["content"].get("body")) for event in await alice.messages(room)]
        assert sum("from a connection of your own" in text for text in said) == 1


def test_where_there_is_no_page_the_rules_and_the_contact_are_told_themselves() -> None:
    without = replace(WEB, public_url=None)
    assert read_more(without) == (
        "Be kind. https://rules.example Whom to turn to: admin@test.example"
    )
    assert read_more(replace(without, policy="")) == "Whom to turn to: admin@test.example"
    assert read_more(replace(without, contact="")) == "Be kind. https://rules.example"
    assert read_more(WEB) == read_more(replace(WEB, policy="")) == RULES
    assert read_more(replace(WEB, policy="", contact="")) == ""


async def test_where_it_must_be_read_before_the_first_message_waits_for_that(
    town: Town, folder: Path, database_settings: DatabaseSettings
) -> None:
    async with run_ngircd() as irc, irc_user(irc.port, "carl") as carl:
        await carl.join("#read")
        settings = settings_with(town, irc, folder, database_settings, announce=Announce.BEFORE)
        async with running(settings) as app:
            alice = await town.person("alice")
            room = await bridge(alice, "#read")
            await alice.say(room, "!trestle near status")
            await alice.wait_for_text(room, "read that, and then say this once more")
            await alice.say(room, "first")
            told = await alice.wait_for_text(room, "from a connection of your own")
            assert not has_puppet(app, alice.id)
            await read(alice, room, told)
            await carl.expect(":first")
            # Who says no, as the notice tells, has no connection, and nothing of theirs goes.
            bea = await town.person("bea")
            await bea.join(room)
            await bea.say(room, "between us")
            told = await bea.wait_for_text(room, f"{bea.id}: what you say in bridged rooms")
            await bea.say(room, "!trestle optout")
            await bea.wait_for_text(room, "Nothing that you say is bridged here")
            await read(bea, room, told)
            await alice.say(room, "second")
            await carl.expect(":second")
            assert not has_puppet(app, bea.id)
    assert not any("between us" in line for line in carl.heard)


async def test_who_was_told_while_the_clock_was_ahead_is_held_up_no_longer_once_it_is_right(
    town: Town, folder: Path, database_settings: DatabaseSettings
) -> None:
    clock = TurnedClock(timedelta(days=30))
    async with run_ngircd() as irc, irc_user(irc.port, "carl") as carl:
        await carl.join("#ahead")
        settings = settings_with(town, irc, folder, database_settings, announce=Announce.BEFORE)
        async with running(settings, clock=clock):
            alice = await town.person("alice")
            room = await bridge(alice, "#ahead")
            await alice.say(room, "first")
            await alice.wait_for_text(room, "from a connection of your own")
        clock.ahead = timedelta()
        async with running(settings, clock=clock):
            await carl.expect(":first")


async def test_where_nobody_can_be_told_nobody_is_connected_until_that_works(
    town: Town, folder: Path, database_settings: DatabaseSettings
) -> None:
    async with run_ngircd() as irc, irc_user(irc.port, "carl") as carl:
        await carl.join("#mute")
        async with running(settings_with(town, irc, folder, database_settings)) as app:
            alice = await town.person("alice")
            room = await bridge(alice, "#mute")
            place = f"v3/rooms/{room}/state/m.room.power_levels/"
            levels = await alice.call("GET", place)
            mute = {**levels, "events": {**levels["events"], "m.room.message": 1}}
            await alice.set_state(room, "m.room.power_levels", mute)
            await alice.say(room, "unheard")
            async with asyncio.timeout(PATIENCE):
                while not any(
                    "I cannot tell you first what goes there" in one.detail
                    for one in await app.parts.aside.all(RoomId(room))
                ):
                    await asyncio.sleep(0.05)
            assert not has_puppet(app, alice.id)
            # Also where somebody has put away what could not be said.
            for one in await app.parts.aside.all(RoomId(room)):
                await app.parts.aside.drop(one.name)
            await alice.set_state(room, "m.room.power_levels", levels)
            await alice.say(room, "heard")
            await carl.expect(":heard")
            await alice.wait_for_text(room, "from a connection of your own")
    assert not any("unheard" in line for line in carl.heard)


async def test_it_may_be_told_in_a_direct_chat(
    town: Town, folder: Path, database_settings: DatabaseSettings
) -> None:
    async with run_ngircd() as irc, irc_user(irc.port, "carl") as carl:
        await carl.join("#direct")
        settings = settings_with(
            town, irc, folder, database_settings, announce=Announce.BEFORE, announce_direct=True
        )
        async with running(settings) as app:
            alice = await town.person("alice")
            room = await bridge(alice, "#direct")
            await alice.say(room, "hello")
            await alice.wait_until(lambda: bool(alice.invitations))
            (chat,) = alice.invitations
            await alice.join(chat)
            told = await alice.wait_for_text(chat, "from a connection of your own")
            # It is there that it must be read.
            assert not has_puppet(app, alice.id)
            await read(alice, chat, told)
            await carl.expect(":hello")
            await alice.say(chat, "optout everywhere")
            await alice.wait_for_text(chat, "optin")
            said = [str(event["content"].get("body")) for event in await alice.messages(room)]
            assert not any("connection of your own" in text for text in said)
