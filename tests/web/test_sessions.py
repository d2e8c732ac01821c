"""A new session at the web is told to its person, who sees and ends it by chat and on the page."""

import re
from dataclasses import replace
from pathlib import Path

import aiohttp

from bridge.demo.processes import free_port
from bridge.model import AuditAction
from bridge.settings.records import Address, DatabaseSettings, WebSettings
from tests.flow.chats import Chat
from tests.flow.records import acts
from tests.rigs.browser import open_page
from tests.rigs.people import sign_in
from tests.rigs.trestle import Town, running

BEGAN = "You have signed in at the web"


def name_in(said: str) -> str:
    found = re.search(r"as session ([0-9a-f]{8})\. If that was not you", said)
    assert found is not None, said
    return found[1]


async def test_a_session_is_confirmed_by_the_bot_and_ended_by_chat_and_on_the_page(
    town: Town, folder: Path, database_settings: DatabaseSettings
) -> None:
    alice = await town.person("alice")
    port = free_port()
    web = WebSettings(listen=Address("127.0.0.1", port), manager_url=f"http://127.0.0.1:{port}")
    settings = town.settings_for(folder, database_settings, modules={})
    async with (
        running(replace(settings, web=web)) as app,
        aiohttp.ClientSession() as session,
        open_page() as page,
    ):
        chat = await Chat.begun_by(alice)
        program = await sign_in(app, session, alice.id)
        first = name_in(await chat.expect(BEGAN))
        await chat.say("manager")
        link = (await chat.expect("Open this link within ten minutes")).splitlines()[-1]
        await page.goto(link)
        await page.click("#open")
        await page.wait_for_selector("#sessions li:has-text('This page.')")
        told = await chat.expect(BEGAN)
        second = name_in(told)
        assert "to all that is yours here" in told
        await chat.say("sessions")
        listed = await chat.expect("last used")
        assert [line[:8] for line in listed.splitlines()] == [second, first]
        await page.click(f"[aria-label='End session {first}']")
        await page.wait_for_selector(f"#sessions:not(:has-text('{first}'))")
        await program.ask("GET", "/logins", status=401)
        await chat.say("sessions end 00000000")
        await chat.expect("there is no such session of yours")
        await chat.say(f"sessions end {second}")
        await chat.expect("That session has ended.")
        await page.click("[aria-label='End all sessions']")
        await page.click("dialog >> text='End all'")
        await page.wait_for_selector("[role=alert]:has-text('You are not signed in')")
        programs = [await sign_in(app, session, alice.id, "manager") for _ in range(2)]
        await chat.say("sessions end all")
        await chat.expect("Ended: 2.")
        for one in programs:
            await one.ask("GET", "/account", status=401)
        third = await sign_in(app, session, alice.id)
        assert await third.ask("DELETE", "/tokens") == {"ended": 1}
        await third.ask("GET", "/account", status=401)
        noted = [(row.actor, row.action, row.target) for row in await acts(app)]
        ends = (first, second, "all", "all")
        assert noted == [(alice.id, AuditAction.END_SESSION, which) for which in ends]
        await chat.say("sessions")
        await chat.expect("You are signed in nowhere at the web.")
