"""Signing in elsewhere, by a link and a code; logging out there; what goes wrong in between."""

import asyncio
from dataclasses import replace

import aiohttp
import pytest

from bridge.sdk.errors import LoginRequired, PermanentFailure
from bridge.sdk.ids import UserId
from bridge.sdk.login import LoginState
from bridge.sdk.testing import check_connector
from bridge.settings.records import Address, Settings, WebSettings
from tests.flow.chats import Chat
from tests.flow.logins import link
from tests.flow.networks import NEAR, Modules
from tests.rigs.device_bridge import DeviceConnector, Network
from tests.rigs.people import sign_in
from tests.rigs.trestle import Town, running, wait_until


@pytest.fixture
def modules(network: Network) -> Modules:
    """A network that has a link and a code to sign in by."""
    return {"near": ("device", {})}


async def test_a_module_of_two_ways_to_sign_in_keeps_the_contract(network: Network) -> None:
    await check_connector(DeviceConnector, {})


async def test_a_link_and_a_code_are_shown_in_chat_and_the_bot_says_when_it_worked(
    town: Town, settings: Settings, network: Network
) -> None:
    alice = await town.person("alice")
    async with running(settings) as app:
        chat = await Chat.begun_by(alice)
        await chat.say("login")
        await chat.expect("up:\ndevice: By a link\ntoken: By a token")
        await chat.say("login near device")
        shown = await chat.expect("Open the link and type the code.")
        assert shown.splitlines()[1:] == ["https://device.example/", "AB-12"]
        network.opened.set()
        await chat.expect("Now say yes there.")
        network.confirmed.set()
        await chat.expect("You are signed in to near as dana")
        (session,) = app.parts.logins.of(UserId(alice.id))
        await wait_until(lambda: session.supervisor.state is LoginState.CONNECTED)
        assert network.tokens == {"made": "dana"}
        await chat.say("logout")
        await chat.expect("Logged out of near.")
        assert network.tokens == {}
        # What the network cannot be told is told to the person.
        network.tokens["other"] = "dora"
        await chat.say("login near token")
        await chat.answer("Token?", "other")
        await chat.expect("You are signed in to near as dora")
        network.is_there = False
        await chat.say("logout near")
        await chat.expect("near was not told: the network is away. End the session there too.")
        assert app.parts.logins.of(UserId(alice.id)) == []
        # Whatever the module does then, the login ends here.
        network.is_there = True
        for trouble, why in (
            (LoginRequired("The token is good no more."), "The token is good no more"),
            (ZeroDivisionError("of nobody's business"), "it failed with ZeroDivisionError"),
            (asyncio.CancelledError(), "it failed with CancelledError"),
        ):
            network.trouble = trouble
            await link(app, alice.id, "other")
            await chat.say("logout near")
            await chat.expect(f"near was not told: {why}. End the session there too.")
            assert app.parts.logins.of(UserId(alice.id)) == []
            assert await app.parts.vault.records_of(UserId(alice.id)) == []


async def test_by_http_an_answer_is_held_back_until_there_is_another_step(
    town: Town, settings: Settings, network: Network
) -> None:
    alice = await town.person("alice")
    web = WebSettings(listen=Address("127.0.0.1", 0), manager_url="http://manager.example")
    async with running(replace(settings, web=web)) as app, aiohttp.ClientSession() as session:
        program = await sign_in(app, session, alice.id, "login:near")
        await wait_until(lambda: app.parts.instances[NEAR].is_open)
        begun = await program.ask("POST", "/sign-ins", {"network": "near", "flow": "device"})
        assert begun["step"] == {
            "type": "show", "text": "Open the link and type the code.",
            "link": "https://device.example/", "code": "AB-12",
        }  # fmt: skip
        path = f"/sign-ins/{begun['id']}"
        refused = await program.ask("POST", path, {"answers": {}}, status=400)
        assert "nothing to fill in" in refused["error"]
        assert await program.ask("GET", f"{path}?after={'9' * 5000}") == begun
        async with asyncio.TaskGroup() as group:
            waiting = group.create_task(program.ask("GET", f"{path}?after={begun['number']}"))
            network.opened.set()
        second = waiting.result()
        assert second["step"]["type"] == "wait"
        async with asyncio.TaskGroup() as group:
            waiting = group.create_task(program.ask("GET", f"{path}?after={second['number']}"))
            network.confirmed.set()
        last = waiting.result()
        assert (last["step"], last["trouble"]) == (None, "")
        assert last["login"] is not None
        # Given up: nothing is waited for any more.
        given_up = await program.ask("POST", "/sign-ins", {"network": "near", "flow": "token"})
        await program.ask("DELETE", f"/sign-ins/{given_up['id']}")
        await program.ask("GET", f"/sign-ins/{given_up['id']}", status=404)


async def test_passwords_of_others_are_not_tried_through_us(
    town: Town, settings: Settings
) -> None:
    alice = await town.person("alice")
    async with running(settings) as app:
        instance, logins = app.parts.instances[NEAR], app.parts.logins
        flow = logins.find_flow(instance, "token")
        await wait_until(lambda: instance.is_open)
        tried = 0
        for _ in range(12):
            one = await logins.begin(UserId(alice.id), instance, flow)
            while one.step is not None:
                await one.submit({"token": "guessed"})
                tried += 1
            assert one.trouble == "The network knows no such token."
        assert tried == 60
        with pytest.raises(PermanentFailure, match="try again in ten minutes"):
            await logins.begin(UserId(alice.id), instance, flow)


async def test_credentials_that_do_not_open_stop_their_own_login_only(
    town: Town, settings: Settings, network: Network
) -> None:
    alice = await town.person("alice")
    network.tokens |= {"first": "dana", "second": "dora"}
    async with running(settings) as app:
        await link(app, alice.id, "first")
        await link(app, alice.id, "second")
        core = app.parts.database
        first = app.parts.logins.of(UserId(alice.id))[0].row
        async with core.as_subject(UserId(alice.id)) as connection:
            await connection.execute(
                "UPDATE vault SET sealed = sealed || '\\x00' WHERE login = $1", first.id
            )
    async with running(settings) as app:
        instance = app.parts.instances[NEAR]
        await wait_until(lambda: instance.is_open)
        there = {s.row.name: s.supervisor for s in app.parts.logins.of(UserId(alice.id))}
        await wait_until(lambda: there["dora"].state is LoginState.CONNECTED)
        assert there["dana"].state is LoginState.SIGN_IN_NEEDED
        assert "cannot be read any more; sign in again" in there["dana"].reason
        chat = await Chat.accepted_by(alice)
        await chat.expect("Your login dana on near needs you to sign in again")


async def test_a_secret_that_is_typed_after_a_restart_is_removed_and_repeated_nowhere(
    town: Town, settings: Settings, network: Network
) -> None:
    alice = await town.person("alice")
    async with running(settings):
        chat = await Chat.begun_by(alice)
        await chat.say("login near token")
        await chat.expect("Token?")
    async with running(settings):
        typed = await alice.say(chat.room, "s3cret-typed-late")
        await chat.expect("I do not wait for that any more; say login again.")
        await chat.wait_until_removed(typed)
        await chat.say("ping")
        await chat.expect("I am here.")
    assert "s3cret-typed-late" not in str(await alice.messages(chat.room))


async def test_a_secret_that_comes_as_an_edit_is_removed_too(
    town: Town, settings: Settings, network: Network
) -> None:
    network.tokens["right-token"] = "dana"
    alice = await town.person("alice")

    async def edit(room: str, event_id: str, text: str) -> str:
        content = {"msgtype": "m.text", "body": text}
        relates = {"rel_type": "m.replace", "event_id": event_id}
        return await alice.send(
            room, {**content, "m.new_content": content, "m.relates_to": relates}
        )

    async with running(settings):
        chat = await Chat.begun_by(alice)
        harmless = await alice.say(chat.room, "login near token")
        await chat.expect("Token?")
        typed = await edit(chat.room, harmless, "s3cret-edited-in")
        await chat.expect("I read no edits; say it as a message of its own.")
        await chat.wait_until_removed(typed)
        answered = await alice.say(chat.room, "right-token")
        # The slip is mended when the answer was taken already: no edit of it stays.
        mended = await edit(chat.room, answered, "s3cret-mended")
        await chat.expect("You are signed in to near as dana")
        await chat.wait_until_removed(mended)
    async with running(settings):
        late = await edit(chat.room, answered, "s3cret-mended-late")
        await chat.wait_until_removed(late)
        kept = await edit(chat.room, harmless, "nothing secret")
        await chat.say("ping")
        await chat.expect("I am here.")
    said = str(await alice.messages(chat.room))
    assert "s3cret" not in said
    assert kept in said
    assert "nothing secret" in said


async def test_whatever_is_said_while_a_secret_is_asked_for_or_looked_at_is_removed(
    town: Town, settings: Settings, network: Network
) -> None:
    network.tokens |= {"right-token": "dana", "!trestle-token": "dora"}
    alice = await town.person("alice")
    async with running(settings) as app:
        chat = await Chat.begun_by(alice)
        removed = []

        async def say(text: str, answer: str, msgtype: str = "m.text") -> None:
            removed.append(await alice.say(chat.room, text, msgtype=msgtype))
            await chat.expect(answer)

        await chat.say("login near token")
        await chat.expect("Token?")
        await say("s3cret-noticed", "say it as a plain message, or cancel", "m.notice")
        await say("s3cret-acted", "say it as a plain message, or cancel", "m.emote")
        await say("!trestle ping s3cret", "say it as a plain message, or cancel")
        network.held = asyncio.Event()
        await say("s3cret-mistyped", "I have removed what you typed.")
        # The correction comes before the network has answered.
        await say("s3cret-corrected", "I am still checking what you gave before")
        network.held.set()
        await chat.expect("The network knows no such token. Try again.")
        await chat.expect("Token?")
        await say("!trestle-token", "You are signed in to near as dora")
        # Given up while it is looked at: nothing comes of it.
        network.held = asyncio.Event()
        await chat.say("login near token")
        await chat.expect("Token?")
        removed.append(await alice.say(chat.room, "right-token"))
        await say("s3cret-once-more", "I am still checking what you gave before")
        await chat.say("cancel")
        await chat.expect("You are not signed in.")
        network.held.set()
        await chat.say("ping")
        await chat.expect("I am here.")
        for event_id in removed:
            await chat.wait_until_removed(event_id)
        assert [s.row.name for s in app.parts.logins.of(UserId(alice.id))] == ["dora"]
    assert "s3cret" not in str(await alice.messages(chat.room))


async def test_a_secret_is_never_asked_for_where_others_read(
    town: Town, settings: Settings, network: Network
) -> None:
    alice, bea = await town.person("alice"), await town.person("bea")
    async with running(settings):
        chat = await Chat.begun_by(alice)
        await alice.invite(chat.room, bea.id)
        await bea.join(chat.room)
        await chat.say("login near token")
        await chat.expect("I wrote to you in our direct chat.")
        await alice.wait_until(lambda: bool(alice.invitations))
        other = await Chat.accepted_by(alice)
        await other.expect("Token?")
        assert chat.said("Token?") == []
