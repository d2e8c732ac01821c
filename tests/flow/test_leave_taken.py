"""Who loses the leave to use a network is off it at once, is told why, and comes back with it."""

from pathlib import Path

import aiohttp

from bridge.app import App
from bridge.model import AuditAction, Permission
from bridge.sdk.ids import InstanceId, UserId
from bridge.sdk.login import LoginState
from bridge.settings.records import Address, DatabaseSettings, WebSettings
from tests.flow.chats import Chat
from tests.flow.logins import link
from tests.flow.networks import NEAR, irc_module
from tests.flow.records import acts
from tests.flow.reloading import Again
from tests.flow.rooms import bridge
from tests.rigs.device_bridge import Network
from tests.rigs.irc_user import irc_user
from tests.rigs.ngircd import run_ngircd
from tests.rigs.people import Program, sign_in
from tests.rigs.trestle import Town, make_modules, running, wait_until

FAR = InstanceId("far")
WHY = "the settings of this bridge do not let you use it"


def state_of(app: App, person: str) -> tuple[LoginState, str]:
    (session,) = app.parts.logins.of(UserId(person))
    return session.supervisor.state, session.supervisor.reason


async def see_that_it_is_off(app: App, chat: Chat, program: Program) -> None:
    """In chat, by HTTP and in the status."""
    await chat.say("logins")
    await chat.expect(f"dana on near, off: {WHY}")
    (login,) = (await program.ask("GET", "/logins"))["logins"]
    assert (login["state"], login["reason"]) == ("off", WHY)
    # Who signed in before is still known, and may no more than anybody of that level.
    assert (await program.ask("GET", "/networks"))["networks"] == []
    await program.ask("POST", f"/logins/{login['id']}/prefer", {}, status=403)
    await program.ask("POST", "/sign-ins", {"network": "near"}, status=404)
    assert (await program.ask("GET", "/portals"))["portals"] == []
    (door,) = app.parts.portals.all
    await program.ask("PATCH", f"/portals/{door.portal.id}", {"paused": True}, status=403)
    assert (await program.ask("GET", "/permissions"))["level"] == "relay"
    _, near = (await app.parts.status.look())["instances"]
    (trouble,) = near["logins_in_trouble"]
    assert (trouble["state"], trouble["reason"]) == ("off", WHY)


async def test_a_login_whose_owner_loses_the_leave_is_off_with_the_reason_and_comes_back(
    town: Town, folder: Path, database_settings: DatabaseSettings, network: Network
) -> None:
    network.tokens["good"] = "dana"
    alice = await town.person("alice")
    async with run_ngircd() as irc, irc_user(irc.port, "carl") as carl:
        await carl.join("#leave")
        (options,) = irc_module(irc).values()
        base = town.settings_for(
            folder, database_settings,
            modules=make_modules({"near": ("device", {}), "far": options}),
            web=WebSettings(listen=Address("127.0.0.1", 0), manager_url="http://m.example"),
        )  # fmt: skip
        file = Again(base)
        async with running(base, read_again=file.read) as app, aiohttp.ClientSession() as web:
            room = await bridge(alice, "#leave", "far")
            await alice.say(room, "by my own connection")
            puppet = (await carl.expect(":by my own connection")).partition("!")[0]
            chat = await Chat.begun_by(alice)
            await link(app, alice.id, "good")
            await wait_until(lambda: state_of(app, alice.id)[0] is LoginState.CONNECTED)
            program = await sign_in(app, web, alice.id)
            changed = await file.reload(app, permissions={alice.id: Permission.RELAY})
            assert "changed permissions" in changed.sentences()
            assert state_of(app, alice.id) == (LoginState.OFF, WHY)
            await chat.expect(f"Your login dana on near is off: {WHY}.")
            # The connection that the bridge made goes too; the relay speaks, as the level has it.
            await carl.expect(f"{puppet}!", " QUIT ")
            await alice.say(room, "by the relay")
            assert (await carl.expect("by the relay")).startswith(":trestle!")
            await see_that_it_is_off(app, chat, program)
            last = (await acts(app))[-1]
            assert (last.action, last.target) == (AuditAction.RELOAD, "changed permissions")
        async with running(file.read(), read_again=file.read) as app:
            await wait_until(lambda: app.parts.instances[NEAR].is_open)
            assert state_of(app, alice.id) == (LoginState.OFF, WHY)
            await file.reload(app, permissions={})
            await wait_until(lambda: state_of(app, alice.id)[0] is LoginState.CONNECTED)
            await alice.say(room, "by my own again")
            assert (await carl.expect(":by my own again")).startswith(puppet)
        async with running(file.read(), read_again=file.read) as app:
            await wait_until(lambda: app.parts.instances[NEAR].is_open)
            levels = {"*": Permission.NONE, "test.example": Permission.RELAY}
            await file.reload(app, permissions=levels)
            await chat.expect(f"Your login dana on near is off: {WHY}.")
            # It can be ended without the leave to use it.
            await chat.say("logout near")
            await chat.expect("Logged out of near.")
            assert await app.parts.vault.records_of(UserId(alice.id)) == []
            linked, *_, ended = [(row.action, row.target) for row in await acts(app)][1:]
            assert linked == (AuditAction.LINK, "dana on near")
            assert ended == (AuditAction.LOGOUT, "dana on near")
        assert len(chat.said("is off: ")) == 2
