"""People link accounts of their own: by chat, with real services behind a real IRC server."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest_asyncio

from bridge.app import App
from bridge.core.logins.logins import record_of
from bridge.demo.matrix_user import PATIENCE, MatrixUser
from bridge.doors.control import ask
from bridge.model import InstanceRules, Puppets
from bridge.sdk.ids import InstanceId, UserId
from bridge.sdk.login import LoginState
from bridge.settings.records import DatabaseSettings, Settings
from bridge.storage.doublepuppets import DoublePuppetStore
from tests.flow.chats import Chat
from tests.flow.networks import NEAR, irc_module
from tests.flow.rooms import BOT, bridge
from tests.rigs.irc_user import irc_user
from tests.rigs.ircd import IrcServer
from tests.rigs.ngircd import run_ngircd
from tests.rigs.services import register, run_services
from tests.rigs.trestle import Town, make_modules, running, wait_until

PASSWORD = "correct-horse-🐎-battery"
SERVER_PASSWORD = "secret-of-the-server"
KEPT_FOR_DAYS = "homeserver may keep the original for some days"


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def services() -> AsyncIterator[IrcServer]:
    """An IRC network with accounts."""
    async with run_services() as server:
        yield server


def settings_with(
    town: Town, irc: IrcServer, folder: Path, database: DatabaseSettings, **rules: Any
) -> Settings:
    modules = make_modules(irc_module(irc), {NEAR: InstanceRules(**rules)})
    return town.settings_for(folder, database, modules=modules)


def session_of(app: App, person: MatrixUser) -> Any:
    (session,) = app.parts.instances[NEAR].logins_of(UserId(person.id))
    return session


async def until_state(app: App, person: MatrixUser, state: LoginState) -> None:
    await wait_until(lambda: app.parts.instances[NEAR].is_open)
    logins_of, user = app.parts.instances[NEAR].logins_of, UserId(person.id)
    # None for a moment, where one takes the place of another.
    await wait_until(lambda: [one.supervisor.state for one in logins_of(user)] == [state])


async def test_an_account_is_linked_by_chat_speaks_over_a_restart_and_is_logged_out(
    town: Town, services: IrcServer, folder: Path, database_settings: DatabaseSettings
) -> None:
    await register(services, "wanda", PASSWORD)
    settings = settings_with(town, services, folder, database_settings)
    alice = await town.person("alice")
    async with irc_user(services.port, "carl") as carl:
        await carl.join("#own")
        async with running(settings) as app:
            room = await bridge(alice, "#own")
            await alice.say(room, "by a connection of the bridge")
            automatic = (await carl.expect("PRIVMSG #own")).partition("!")[0]
            # Asked in a room with others: nothing of it is answered there.
            await alice.say(room, "!trestle login near sasl")
            chat = await Chat.accepted_by(alice)
            await chat.answer("Account?", "wanda")
            wrong = await chat.answer("Password?", "wrong-password")
            await chat.answer("Nick, if", "-")
            await chat.expect("refused the account wanda")
            await chat.answer("Account?", "wanda")
            right = await chat.answer("Password?", PASSWORD)
            await chat.answer("Nick, if", "-")
            await chat.expect("You are signed in to near as wanda")
            for event_id in (wrong, right):
                await chat.wait_until_removed(event_id)
            assert len(chat.said(KEPT_FOR_DAYS)) >= 2
            assert "I wrote to you in our direct chat." in str(alice.heard(room, BOT))
            await until_state(app, alice, LoginState.CONNECTED)
            # The connection of the bridge's own gave way.
            await carl.expect(f"{automatic}!", " QUIT ")
            await alice.say(room, "by my own account")
            assert (await carl.expect(":by my own account")).startswith(":wanda!")
            carl.say("WHOIS wanda")
            await carl.expect(" 330 ", "wanda", "is logged in as")
            kept = await app.parts.vault.records_of(UserId(alice.id))
            assert len(kept) == 2
        async with running(settings) as app:
            await alice.say(room, "after a restart")
            assert (await carl.expect(":after a restart")).startswith(":wanda!")
            await chat.say("logins")
            await chat.expect("wanda on near, connected")
            await chat.say("logout Near")
            await chat.expect("Logged out of near.")
            await carl.expect(":wanda!", " QUIT ")
            assert await app.parts.vault.records_of(UserId(alice.id)) == []
            await alice.say(room, "as before")
            assert (await carl.expect(":as before")).startswith(automatic)
        heard = "\n".join(str(event["content"]) for event in await alice.messages(room))
        assert PASSWORD not in heard


async def change_password(services: IrcServer, account: str, old: str, new: str) -> None:
    """Have a password changed where the account is."""
    async with irc_user(services.port, account) as user:
        user.say(f"PRIVMSG NickServ :IDENTIFY {account} {old}")
        await user.expect("NickServ", "now identified")
        user.say(f"PRIVMSG NickServ :SET PASSWORD {new}")
        await user.expect("NickServ", "password")


async def test_who_names_no_way_to_sign_in_is_asked_for_it_first(
    town: Town, services: IrcServer, folder: Path, database_settings: DatabaseSettings
) -> None:
    await register(services, "wally", PASSWORD)
    settings = settings_with(town, services, folder, database_settings)
    alice = await town.person("alice")
    async with running(settings) as app:
        chat = await Chat.begun_by(alice)
        await chat.say("help login")
        help_text = await chat.expect("login [network [way]] — ")
        assert "Ways on near: sasl: An account" in help_text
        await chat.say("login")
        assert "\nserver_password: A password" in await chat.expect("How do you sign in to near?")
        for words in ("!trestle ping", "ping"):
            await chat.say(words)
            await chat.expect("I am here.")
        await chat.say("wally")
        assert "\nsasl: An account" in await chat.expect("That is no way to sign in to near.")
        await chat.say("Cancel")
        await chat.expect("You are not signed in.")
        await chat.say("sasl")
        assert (await chat.expect("I do not know that.")).endswith(" Say help for a list.")
        await chat.say("login near by_post")
        await chat.expect("say which way to sign in to near: sasl: ")
        await chat.say("login near Server_Password")
        await chat.expect("Server password?")
        await chat.say("cancel")
        await chat.expect("You are not signed in.")
        # In a room with others the question comes in the direct chat, too.
        await alice.say(await bridge(alice, "#ways"), "!trestle login near")
        await chat.answer("How do you sign in to near?", "SASL")
        await chat.answer("Account?", "wally")
        await chat.answer("Password?", PASSWORD)
        await chat.answer("Nick, if", "-")
        await chat.expect("You are signed in to near as wally")
        assert session_of(app, alice).row.name == "wally"


async def test_a_password_that_is_wrong_later_is_told_once_and_not_tried_again(
    town: Town, services: IrcServer, folder: Path, database_settings: DatabaseSettings
) -> None:
    await register(services, "vera", "first-password")
    settings = settings_with(town, services, folder, database_settings, puppets=Puppets.LOGIN)
    alice = await town.person("alice")
    async with irc_user(services.port, "carl") as carl:
        await carl.join("#later")
        async with running(settings) as app:
            room = await bridge(alice, "#later")
            await alice.say(room, "by the relay")
            assert (await carl.expect("by the relay")).startswith(":trestle!")
            chat = await Chat.begun_by(alice)
            await chat.say("login near sasl")
            await chat.answer("Account?", "vera")
            await chat.answer("Password?", "first-password")
            await chat.answer("Nick, if", "verax")
            await chat.expect("You are signed in to near as vera")
            await alice.say(room, "by my own")
            assert (await carl.expect(":by my own")).startswith(":verax!")
        await change_password(services, "vera", "first-password", "second-password")
        async with running(settings) as app:
            await until_state(app, alice, LoginState.SIGN_IN_NEEDED)
            told = "needs you to sign in again"
            await chat.expect(told)
            tries = session_of(app, alice).supervisor
            for number in range(3):
                await alice.say(room, f"unheard {number}")
            await alice.wait_for_text(room, "near refused the login")
            assert tries.state is LoginState.SIGN_IN_NEEDED
            await chat.say("logins")
            await chat.expect("sign-in needed: ")
            status = await app.parts.status.look()
            (trouble,) = status["instances"][0]["logins_in_trouble"]
            assert trouble["state"] == "sign-in needed"
            assert "refused the account" in trouble["reason"]
        async with running(settings) as app:
            await until_state(app, alice, LoginState.SIGN_IN_NEEDED)
            await chat.say("login near sasl")
            await chat.expect("Sign in to your account")
            await chat.answer("Account?", "vera")
            await chat.answer("Password?", "second-password")
            await chat.answer("Nick, if", "-")
            await until_state(app, alice, LoginState.CONNECTED)
            await alice.say(room, "heard again")
            assert (await carl.expect("heard again")).startswith(":vera!")
        # Where one speaks for all, nobody's own does.
        relay = settings_with(town, services, folder, database_settings, puppets=Puppets.RELAY)
        async with running(relay):
            await alice.say(room, "by the relay again")
            assert (await carl.expect("by the relay again")).startswith(":trestle!")
        assert len(chat.said(told)) == 1
        assert not any("unheard" in line for line in carl.heard)


async def test_several_logins_a_server_password_and_which_of_them_speaks(
    town: Town, folder: Path, database_settings: DatabaseSettings
) -> None:
    async with run_ngircd(SERVER_PASSWORD) as irc:
        modules = make_modules(irc_module(irc, password=SERVER_PASSWORD))
        settings = town.settings_for(folder, database_settings, modules=modules)
        alice = await town.person("alice")
        async with running(settings) as app:
            room = await bridge(alice, "#several")
            chat = await Chat.begun_by(alice)
            await chat.say("login near server_password")
            await chat.answer("Server password?", "wrong")
            await chat.answer("Nick, if", "one")
            await chat.expect("Bad password?")
            await chat.answer("Server password?", SERVER_PASSWORD)
            await chat.answer("Nick, if", "one")
            await chat.expect("near as one")
            await chat.say("login near server_password")
            await chat.answer("Server password?", SERVER_PASSWORD)
            await chat.answer("Nick, if", "two")
            await chat.expect("near as two")
            await wait_until(
                lambda: all(
                    s.supervisor.connected.is_set() for s in app.parts.logins.of(UserId(alice.id))
                )
            )
            first, second = app.parts.logins.of(UserId(alice.id))
            assert (first.row.name, second.row.name) == ("one", "two")
            await chat.say(f"prefer {second.row.id}")
            await chat.expect(f"Login {second.row.id} speaks for you")
            async with irc_user(irc.port, "carl", password=SERVER_PASSWORD) as carl:
                await carl.join("#several")
                await alice.say(room, "by the second")
                assert (await carl.expect(":by the second")).startswith(":two!")
        async with running(settings) as app:
            await wait_until(lambda: app.parts.instances[NEAR].is_open)
            assert [s.row.name for s in app.parts.logins.of(UserId(alice.id))] == ["two", "one"]


async def test_without_what_it_signs_in_with_a_login_connects_as_nobody(
    town: Town, folder: Path, database_settings: DatabaseSettings
) -> None:
    async with run_ngircd() as irc:
        settings = settings_with(town, irc, folder, database_settings)
        alice, bob = await town.person("alice"), await town.person("bob")
        her, his = UserId(alice.id), UserId(bob.id)

        async def expect_neither(app: App) -> None:
            for person in (alice, bob):
                await until_state(app, person, LoginState.SIGN_IN_NEEDED)
                reason = session_of(app, person).supervisor.reason
                assert reason == "what this login signs in with is not there; sign in again"
            assert await app.parts.instances[NEAR].wait_until_connected(PATIENCE)
            async with irc_user(irc.port, "carl") as carl:
                carl.say("ISON whole half trestle")
                assert (await carl.expect(" 303 ")).endswith(":trestle")

        async with running(settings) as app:
            parts = app.parts
            instance = parts.instances[NEAR]
            await wait_until(lambda: instance.is_open)
            # We ended between the two steps of a sign-in.
            await parts.accounts.link_login(NEAR, his, "half")
            row = await parts.accounts.link_login(NEAR, her, "whole")
            await parts.vault.put(her, NEAR, record_of(row.id, "nick"), b"whole", login=row.id)
            await parts.vault.put(her, InstanceId(""), "double puppet", b"a token of hers")
            await DoublePuppetStore(parts.database, settings.state_dir).set_puppet(her, "token")
            await parts.double_puppets.load()
            leave = await parts.double_puppets.leave_of(her)
            assert leave is not None
            await instance.open_login(row)
            await until_state(app, alice, LoginState.CONNECTED)
            # An admin has all of it destroyed: from then on nothing uses it.
            assert await ask(settings.state_dir, "DELETE", f"/keys/{quote(her, safe='')}") == 2
            assert session_of(app, alice).supervisor.state is LoginState.SIGN_IN_NEEDED
            assert await parts.double_puppets.leave_of(her) is None
            assert await DoublePuppetStore(parts.database, settings.state_dir).puppets() == []
            chat = await Chat.accepted_by(alice)
            await chat.expect("needs you to sign in again: what this login signs in with")
            # Where the token went without us, as with `trestle keys reset`.
            await DoublePuppetStore(parts.database, settings.state_dir).set_puppet(her, "token")
        async with running(settings) as app:
            await expect_neither(app)
            assert await app.parts.double_puppets.leave_of(her) is None
            assert "the token is not there any more" in app.parts.double_puppets.describe(her)
            await chat.say("logout near")
            await chat.expect("Logged out of near.")
