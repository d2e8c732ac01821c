"""The page behind a link by keyboard: the focus is on what is new, each button has a name."""

from pathlib import Path

from playwright.async_api import Page, Route

from bridge.app import App
from bridge.sdk.ids import UserId
from bridge.settings.records import DatabaseSettings
from tests.flow.networks import NEAR
from tests.rigs.browser import open_page
from tests.rigs.ngircd import run_ngircd
from tests.rigs.trestle import Town, running, wait_until
from tests.web.sites import SERVER_PASSWORD, settings_with

MOST_STEPS = 50


async def wait_for_focus(page: Page, selector: str) -> None:
    await page.wait_for_selector(f"{selector}:focus")


async def press(page: Page, selector: str) -> None:
    """Come to a control and press it, as one does without a mouse."""
    await page.wait_for_selector(selector)
    for _ in range(MOST_STEPS):
        if await page.locator(f"{selector}:focus").count():
            await page.keyboard.press("Enter")
            return
        await page.keyboard.press("Tab")
    raise AssertionError(f"no Tab leads to {selector}")


async def open_link(page: Page, app: App, person: str, purpose: str) -> None:
    await wait_until(lambda: app.parts.instances[NEAR].is_open)
    await page.goto(str(await app.parts.web.make_link(UserId(person), purpose)))
    await press(page, "#open")
    await wait_for_focus(page, "#whose")


async def fail_for_the_moment(route: Route) -> None:
    said = {"errcode": "M_UNKNOWN", "error": "This does not work at the moment; try again soon."}
    await route.fulfill(status=503, json=said)


async def fill(page: Page, password: str, nick: str) -> None:
    """Answer what the network's password and nick are, from the first field on."""
    await wait_for_focus(page, "#field-server_password")
    assert await page.get_attribute("#field-server_password", "aria-describedby") == "step-text"
    await page.keyboard.type(password)
    await page.keyboard.press("Tab")
    await page.keyboard.type(nick)
    await page.keyboard.press("Enter")


async def test_signing_in_and_out_takes_no_mouse_and_loses_nobodys_place(
    town: Town, folder: Path, database_settings: DatabaseSettings, tmp_path: Path
) -> None:
    alice = await town.person("alice")
    async with run_ngircd(SERVER_PASSWORD) as irc, open_page() as page:
        settings = settings_with(town, irc, folder, database_settings, password=SERVER_PASSWORD)
        async with running(settings) as app:
            await open_link(page, app, alice.id, "login:near")
            way = "#ways p:last-child button"
            await press(page, way)
            await wait_for_focus(page, "#field-server_password")
            await press(page, "#step button[aria-label='Cancel']")
            await wait_for_focus(page, "h2:has-text('Sign in')")
            for nick in ("one", "two"):
                await press(page, way)
                if nick == "one":
                    await fill(page, "wrong", nick)
                    await page.wait_for_selector("[role=alert]:has-text('Bad password')")
                await fill(page, SERVER_PASSWORD, nick)
                await wait_for_focus(page, "#done")
                await page.wait_for_selector(f"#logins li:has-text('{nick} on near: connected')")
            # Each of several buttons says what it is about, and what is seen is in its name.
            speak = page.get_by_role("button", name="Let it speak: two on near")
            assert await speak.inner_text() == "Let it speak"
            await press(page, "[aria-label='Let it speak: two on near']")
            await wait_for_focus(page, "h2:has-text('Your logins')")
            await page.get_by_role("button", name="Let it speak: one on near").wait_for()

            await press(page, "[aria-label='Log out one on near']")
            await wait_for_focus(page, "dialog button[aria-label='Cancel']")
            await page.get_by_role("dialog", name="Log out one on near?").wait_for()
            await page.screenshot(path=tmp_path / "asked.png", full_page=True)
            for key in ("Enter", "Escape"):
                await page.keyboard.press(key)
                await wait_for_focus(page, "[aria-label='Log out one on near']")
                await page.keyboard.press("Enter")
                await wait_for_focus(page, "dialog button[aria-label='Cancel']")
            assert len(app.parts.logins.of(UserId(alice.id))) == 2
            await press(page, "dialog button[aria-label='Log out']")
            await wait_for_focus(page, "h2:has-text('Your logins')")
            await page.wait_for_selector("#logins:not(:has-text('one on near'))")
            assert len(app.parts.logins.of(UserId(alice.id))) == 1
            await press(page, "#leave")
            await wait_for_focus(page, "#trouble:has-text('You are signed out')")


async def test_who_is_asked_while_the_list_gets_other_rows_is_back_at_the_same_button(
    town: Town, folder: Path, database_settings: DatabaseSettings
) -> None:
    alice = await town.person("alice")
    async with run_ngircd(SERVER_PASSWORD) as irc, open_page() as page:
        settings = settings_with(town, irc, folder, database_settings, password=SERVER_PASSWORD)
        async with running(settings) as app:
            await page.clock.install()
            await open_link(page, app, alice.id, "login:near")
            await press(page, "#ways p:last-child button")
            await fill(page, SERVER_PASSWORD, "one")
            await wait_for_focus(page, "#done")
            await press(page, "[aria-label='Log out one on near']")
            await wait_for_focus(page, "dialog button[aria-label='Cancel']")
            await page.evaluate("document.querySelector('#logins li').className = 'before'")
            # The page looks once more how the login is.
            await page.clock.fast_forward(2000)
            await page.wait_for_selector("#logins li:not(.before)")
            await page.keyboard.press("Escape")
            await wait_for_focus(page, "[aria-label='Log out one on near']")


async def test_all_sessions_end_when_that_was_confirmed_and_a_link_that_fails_is_told(
    town: Town, folder: Path, database_settings: DatabaseSettings
) -> None:
    alice = await town.person("alice")
    async with run_ngircd() as irc, open_page() as page:
        settings = settings_with(town, irc, folder, database_settings)
        async with running(settings) as app:
            await open_link(page, app, alice.id, "manager")
            link = str(await app.parts.web.make_link(UserId(alice.id), "manager"))
            await press(page, "[aria-label='End all sessions']")
            await wait_for_focus(page, "dialog button[aria-label='Cancel']")
            await page.keyboard.press("Escape")
            await wait_for_focus(page, "[aria-label='End all sessions']")
            await page.wait_for_selector("#sessions li")
            await page.keyboard.press("Enter")
            await press(page, "dialog button[aria-label='End all']")
            await wait_for_focus(page, "#trouble:has-text('You are signed out')")

            # What failed for the moment is tried again with the same link.
            await page.route("**/links/take", fail_for_the_moment, times=1)
            await page.goto(link.replace("/link", "/link?once"))
            await press(page, "#open")
            await page.wait_for_selector("#trouble:has-text('try again soon')")
            await wait_for_focus(page, "#open")
            await page.keyboard.press("Enter")
            await wait_for_focus(page, "#whose")
            await page.goto(link.replace("/link", "/link?again"))
            await press(page, "#open")
            await wait_for_focus(page, "#trouble:has-text('This link was opened before')")
