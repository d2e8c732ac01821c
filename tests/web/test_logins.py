"""A person links an account by the page behind a link, in a real browser, and by HTTP."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import aiohttp
import pytest_asyncio
from playwright.async_api import Route

from bridge.app import App
from bridge.demo.processes import free_port
from bridge.model import InstanceRules, Permission
from bridge.sdk.ids import UserId
from bridge.sdk.login import LoginState
from bridge.settings.records import Address, DatabaseSettings, WebSettings
from tests.flow.chats import Chat
from tests.flow.networks import NEAR
from tests.flow.rooms import bridge, give_power
from tests.rigs.browser import open_page
from tests.rigs.device_bridge import Network
from tests.rigs.irc_user import irc_user
from tests.rigs.ircd import IrcServer
from tests.rigs.ngircd import run_ngircd
from tests.rigs.people import sign_in
from tests.rigs.services import register, run_services
from tests.rigs.trestle import Town, make_modules, running, wait_until
from tests.web.sites import SERVER_PASSWORD, settings_with

PASSWORD = "correct-horse"


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def services() -> AsyncIterator[IrcServer]:
    """An IRC network with accounts."""
    async with run_services() as server:
        await register(server, "wanda", PASSWORD)
        yield server


async def test_an_account_is_linked_on_the_page_behind_a_link_from_the_bot(
    town: Town,
    services: IrcServer,
    folder: Path,
    database_settings: DatabaseSettings,
    tmp_path: Path,
) -> None:
    alice = await town.person("alice")
    settings = settings_with(town, services, folder, database_settings)
    async with irc_user(services.port, "carl") as carl, running(settings) as app:
        await carl.join("#page")
        room = await bridge(alice, "#page")
        # Said in the room; the link comes to the direct chat only.
        await alice.say(room, "!trestle login")
        chat = await Chat.accepted_by(alice)
        link = (await chat.expect("Open this link within ten minutes")).splitlines()[-1]
        assert link not in str(await alice.messages(room))
        async with open_page() as page:
            await page.goto(link)
            await page.click("#open")
            await page.click("text=near: An account with the network's services")
            assert await page.get_attribute("#field-password", "type") == "password"
            await page.fill("#field-account", "wanda")
            await page.fill("#field-password", "wrong")
            await page.click("text=Continue")
            await page.wait_for_selector("[role=alert]:has-text('refused the account wanda')")
            await page.fill("#field-account", "wanda")
            await page.fill("#field-password", PASSWORD)
            await page.click("text=Continue")
            await page.wait_for_selector("#done:has-text('You are signed in to near')")
            await page.wait_for_selector("#logins li:has-text('wanda on near: connected')")
            assert PASSWORD not in await page.content()
            await page.screenshot(path=tmp_path / "linked.png", full_page=True)
            await alice.say(room, "from the page")
            assert (await carl.expect(":from the page")).startswith(":wanda!")
            await page.click("text=Log out")
            await page.click("dialog >> text='Log out'")
            await page.wait_for_selector("#logins li:has-text('None yet.')")
            await carl.expect(":wanda!", " QUIT ")
            assert app.parts.logins.of(UserId(alice.id)) == []
            await page.goto(link.replace("/link", "/link?again"))
            await page.click("#open")
            await page.wait_for_selector("#trouble:has-text('This link was opened before')")


async def test_an_account_is_linked_by_http_and_nobody_else_sees_it(
    town: Town, services: IrcServer, folder: Path, database_settings: DatabaseSettings
) -> None:
    alice, bea = await town.person("alice"), await town.person("bea")
    settings = settings_with(town, services, folder, database_settings)
    async with running(settings) as app, aiohttp.ClientSession() as session:
        program = await sign_in(app, session, alice.id)
        other = await sign_in(app, session, bea.id)
        await wait_until(lambda: app.parts.instances[NEAR].is_open)
        (network,) = (await program.ask("GET", "/networks"))["networks"]
        assert [flow["id"] for flow in network["flows"]] == ["sasl", "server_password"]
        begun = await program.ask("POST", "/sign-ins", {"network": "near", "flow": "sasl"})
        assert begun["step"]["type"] == "ask"
        assert [field["secret"] for field in begun["step"]["fields"]] == [False, True, False]
        path = f"/sign-ins/{begun['id']}"
        await other.ask("GET", path, status=404)
        await other.ask("POST", path, {"answers": {}}, status=404)
        missing = await program.ask("POST", path, {"answers": {"account": "wanda"}}, status=400)
        assert "Password: that is needed" in missing["error"]
        answers = {"account": "wanda", "password": "wrong"}
        refused = await program.ask("POST", path, {"answers": answers})
        assert "refused the account wanda" in refused["trouble"]
        assert refused["step"] == begun["step"]
        answers["password"] = PASSWORD
        done = await program.ask("POST", path, {"answers": answers})
        assert (done["step"], done["trouble"]) == (None, "")
        (session_there,) = app.parts.logins.of(UserId(alice.id))
        await wait_until(lambda: session_there.supervisor.state is LoginState.CONNECTED)
        (login,) = (await program.ask("GET", "/logins"))["logins"]
        assert login == {
            "id": done["login"], "network": "near", "name": "wanda", "preferred": True,
            "state": "connected", "reason": "",
        }  # fmt: skip
        assert (await other.ask("GET", "/logins"))["logins"] == []
        await other.ask("DELETE", f"/logins/{login['id']}", status=404)
        assert (await program.ask("DELETE", f"/logins/{login['id']}"))["remark"] == ""
        assert (await program.ask("GET", "/logins"))["logins"] == []


async def test_a_password_of_the_server_is_given_on_the_page_and_by_http_and_may_become_wrong(
    town: Town, folder: Path, database_settings: DatabaseSettings
) -> None:
    alice = await town.person("alice")
    async with run_ngircd(SERVER_PASSWORD) as irc:
        settings = settings_with(town, irc, folder, database_settings, password=SERVER_PASSWORD)
        async with (
            running(settings) as app, aiohttp.ClientSession() as session, open_page() as page,
        ):  # fmt: skip
            await wait_until(lambda: app.parts.instances[NEAR].is_open)
            chat = await Chat.begun_by(alice)
            await page.goto(str(await app.parts.web.make_link(UserId(alice.id), "login:near")))
            await page.click("#open")
            await page.click("text=near: A password of the server")
            for given, then in (("wrong", "[role=alert]:has-text('Bad password')"),
                                (SERVER_PASSWORD, "#done")):  # fmt: skip
                await page.fill("#field-server_password", given)
                await page.fill("#field-nick", "one")
                await page.click("text=Continue")
                await page.wait_for_selector(then)
            program = await sign_in(app, session, alice.id)
            begun = {"network": "near", "flow": "server_password"}
            path = f"/sign-ins/{(await program.ask('POST', '/sign-ins', begun))['id']}"
            answers = {"server_password": "wrong", "nick": "two"}
            refused = await program.ask("POST", path, {"answers": answers})
            assert "Bad password" in refused["trouble"]
            answers["server_password"] = SERVER_PASSWORD
            assert (await program.ask("POST", path, {"answers": answers}))["login"] is not None
            await wait_until(lambda: states_of(app, alice.id) == [LoginState.CONNECTED] * 2)
    async with run_ngircd("another") as irc:
        settings = settings_with(town, irc, folder, database_settings, password="another")
        async with running(settings) as app, aiohttp.ClientSession() as session:
            await wait_until(lambda: states_of(app, alice.id) == [LoginState.SIGN_IN_NEEDED] * 2)
            for name in ("one", "two"):
                await chat.expect(f"Your login {name} on near needs you to sign in again: ")
            logins = (await (await sign_in(app, session, alice.id)).ask("GET", "/logins"))[
                "logins"
            ]
            assert {one["state"] for one in logins} == {"sign-in needed"}
            assert all("Bad password" in one["reason"] for one in logins)


def states_of(app: App, person: str) -> list[LoginState]:
    return [one.supervisor.state for one in app.parts.logins.of(UserId(person))]


async def test_a_room_is_bridged_changed_and_let_go_by_http_with_the_power_to(
    town: Town, services: IrcServer, folder: Path, database_settings: DatabaseSettings
) -> None:
    alice, bea = await town.person("alice"), await town.person("bea")
    settings = settings_with(town, services, folder, database_settings)
    async with running(settings) as app, aiohttp.ClientSession() as session:
        program = await sign_in(app, session, alice.id)
        other = await sign_in(app, session, bea.id)
        narrow = await sign_in(app, session, alice.id, "login:near")
        room = await alice.create_room(preset="public_chat", invite=["@trestle:test.example"])
        await alice.wait_until_joined(room, "@trestle:test.example")
        await bea.join(room)
        wanted = {"network": "near", "chat": "#api", "room": room}
        await other.ask("POST", "/portals", wanted, status=403)
        await narrow.ask("POST", "/portals", wanted, status=401)
        assert len((await narrow.ask("GET", "/networks"))["networks"]) == 1
        made = await program.ask("POST", "/portals", wanted)
        assert (made["name"], made["state"]) == ("#api", "running")
        assert (await program.ask("GET", "/portals"))["portals"] == [made]
        assert (await other.ask("GET", "/portals"))["portals"] == []
        path = f"/portals/{made['id']}"
        await other.ask("PATCH", path, {"paused": True}, status=403)
        await program.ask("PATCH", path, {"uncertain": "maybe"}, status=400)
        changed = await program.ask("PATCH", path, {"paused": True, "uncertain": "hold"})
        assert (changed["paused"], changed["uncertain"]) == (True, "hold")
        # What goes on brings back the relay, as it does when it is said in the room.
        app.parts.instances[NEAR].trouble["#api"] = "we are out of it"
        goes_on = await program.ask("PATCH", path, {"paused": False})
        assert (goes_on["paused"], goes_on["reason"]) == (False, "")
        await program.ask("PATCH", path, {"relay_name": "{nobody}"}, status=400)
        chosen = {"puppets": "relay", "relay_name": "{name} of {server}", "relay": "bot"}
        assert chosen.items() <= (await program.ask("PATCH", path, chosen)).items()
        await other.ask("DELETE", path, status=403)
        await program.ask("DELETE", path)
        assert app.parts.portals.all == []
        await program.ask("DELETE", path, status=403)
        levels = await program.ask("GET", "/permissions")
        assert levels == {"user_id": alice.id, "level": "user", "networks": {"near": "user"}}
        await program.ask("GET", f"/permissions?user={bea.id}", status=403)


async def test_a_networks_own_levels_come_first_for_it_by_http_too(
    town: Town, services: IrcServer, folder: Path, database_settings: DatabaseSettings
) -> None:
    relayed, outsider = await town.person("relayed"), await town.person("outsider")
    stranger = await town.person("stranger")
    general = dict.fromkeys((outsider.id, stranger.id), Permission.NONE)
    own = {relayed.id: Permission.RELAY, outsider.id: Permission.USER}
    settings = settings_with(town, services, folder, database_settings)
    near = replace(settings.modules[NEAR], rules=InstanceRules(permissions=own))
    settings = replace(settings, permissions=general, modules={NEAR: near})
    async with running(settings) as app, aiohttp.ClientSession() as session:
        one, two, three = [
            await sign_in(app, session, person.id) for person in (relayed, outsider, stranger)
        ]
        room = await relayed.create_room(preset="public_chat", invite=["@trestle:test.example"])
        await relayed.wait_until_joined(room, "@trestle:test.example")
        await outsider.join(room)
        await stranger.join(room)
        await give_power(relayed, room, {outsider.id: 50, stranger.id: 50})
        wanted = {"network": "near", "chat": "#own", "room": room}
        for refused in (one, three):
            assert (await refused.ask("GET", "/networks"))["networks"] == []
            begun = {"network": "near", "flow": "sasl"}
            await refused.ask("POST", "/sign-ins", begun, status=404)
            await refused.ask("POST", "/portals", wanted, status=403)
        assert [one["id"] for one in (await two.ask("GET", "/networks"))["networks"]] == ["near"]
        made = await two.ask("POST", "/portals", wanted)
        assert (await two.ask("GET", "/portals"))["portals"] == [made]
        path = f"/portals/{made['id']}"
        for refused in (one, three):
            assert (await refused.ask("GET", "/portals"))["portals"] == []
            await refused.ask("PATCH", path, {"paused": True}, status=403)
            await refused.ask("DELETE", path, status=403)
        assert (await two.ask("PATCH", path, {"paused": True}))["paused"]
        # The level of now counts, and not that of the time when somebody signed in.
        app.parts.permissions.set(general, {NEAR: {**own, outsider.id: Permission.RELAY}})
        assert (await two.ask("GET", "/portals"))["portals"] == []
        await two.ask("PATCH", path, {"paused": False}, status=403)
        await two.ask("DELETE", path, status=403)
        app.parts.permissions.set(general, {NEAR: own})
        await two.ask("DELETE", path)


async def fail_for_the_moment(route: Route) -> None:
    said = {"errcode": "M_UNKNOWN", "error": "This does not work at the moment; try again soon."}
    await route.fulfill(status=503, json=said)


async def test_a_link_and_a_code_are_shown_on_the_page_which_goes_on_by_itself(
    town: Town, folder: Path, database_settings: DatabaseSettings, network: Network
) -> None:
    alice = await town.person("alice")
    port = free_port()
    settings = town.settings_for(
        folder, database_settings, modules=make_modules({"near": ("device", {})}),
        web=WebSettings(listen=Address("127.0.0.1", port), manager_url=f"http://127.0.0.1:{port}"),
    )  # fmt: skip
    async with running(settings) as app, open_page() as page:
        await wait_until(lambda: app.parts.instances[NEAR].is_open)
        await page.goto(str(await app.parts.web.make_link(UserId(alice.id), "login:near")))
        await page.click("#open")
        await page.click("text=near: By a link")
        await page.wait_for_selector("#code:has-text('AB-12')")
        link = await page.get_attribute("#step a", "href")
        assert link == "https://device.example/"
        await page.route("**/sign-ins/*", fail_for_the_moment, times=1)
        network.opened.set()
        await page.wait_for_selector("#step:has-text('Now say yes there.')")
        await page.wait_for_selector("[role=alert]:has-text('try again soon')")
        network.confirmed.set()
        await page.wait_for_selector("#done:has-text('You are signed in to near')")
        network.is_there = False
        await page.click("text=Log out")
        await page.click("dialog >> text='Log out'")
        await page.wait_for_selector("[role=alert]:has-text('End the session there too.')")
        await page.wait_for_selector("#logins li:has-text('None yet.')")
