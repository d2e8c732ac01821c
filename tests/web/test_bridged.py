"""The public page in a real browser: what is bridged, the way there, and what one may say."""

from pathlib import Path
from urllib.parse import quote

from bridge.settings.records import Address, DatabaseSettings, WebSettings
from tests.flow.networks import irc_module
from tests.flow.records import page_of
from tests.flow.rooms import bridge
from tests.rigs.browser import open_page
from tests.rigs.irc_user import irc_user
from tests.rigs.ngircd import run_ngircd
from tests.rigs.trestle import Town, make_modules, running, wait_until

WEB = WebSettings(
    public_listen=Address("127.0.0.1", 0), public_url="http://public.example",
    policy="Be kind <i>: https://example.org/rules.", contact="admin@test.example",
)  # fmt: skip
ALIAS = '#h\u00f6f/<b>"?a&b=%25:test.example'


async def test_a_public_room_is_linked_by_its_alias_alone_and_the_relay_is_named(
    town: Town, folder: Path, database_settings: DatabaseSettings, tmp_path: Path
) -> None:
    alice = await town.person("alice")
    async with run_ngircd() as irc, irc_user(irc.port, "carl") as carl:
        modules = make_modules(irc_module(irc, nick="carrier"))
        settings = town.settings_for(folder, database_settings, modules=modules, web=WEB)
        async with running(settings) as app, open_page() as page:
            for channel in ("#linked", "#nameless"):
                await carl.join(channel)
            room = await bridge(alice, "#linked")
            await bridge(alice, "#nameless")
            path = f"v3/directory/room/{quote(ALIAS, safe='')}"
            await alice.call("PUT", path, {"room_id": room})
            await alice.set_state(room, "m.room.canonical_alias", {"alias": ALIAS})
            await wait_until(lambda: all(one.portal.open for one in app.parts.portals.all))
            await page_of(app)  # Has it looked at anew.
            await page.goto(f"http://{app.parts.web.public_address}/bridged")
            await page.screenshot(path=tmp_path / "bridged.png", full_page=True)

            assert await page.get_attribute("html", "lang") == "en"
            headings = await page.locator("h1, h2").all_inner_texts()
            assert headings == ["What is bridged here", "If you are in one of these chats", "near"]
            around = page.locator("main > p").get_by_role("link")
            shown = await around.evaluate_all("all => all.map((one) => [one.href, one.innerText])")
            assert shown == [
                ["https://example.org/rules", "https://example.org/rules"],
                ["mailto:admin@test.example", "admin@test.example"],
            ]
            assert await page.get_by_text("Be kind <i>: https").count() == 1
            bridged = page.get_by_role("table", name="Bridged on near")
            assert await bridged.get_by_role("columnheader").all_inner_texts() == [
                "Chat", "Matrix room",
            ]  # fmt: skip
            (link,) = await bridged.get_by_role("link").all()
            assert await link.inner_text() == ALIAS
            where = "https://matrix.to/#/%23h%C3%B6f%2F%3Cb%3E%22%3Fa&b=%2525:test.example"
            assert await link.evaluate("one => one.href") == where
            assert await bridged.get_by_role("row").last.inner_text() == "#nameless\t#nameless"
            await page.set_viewport_size({"width": 360, "height": 800})
            name = bridged.get_by_role("cell", name="#nameless").first
            heights = "one => [one.clientHeight, parseFloat(getComputedStyle(one).lineHeight)]"
            height, line = await name.evaluate(heights)
            assert height < 2 * line, "the name is broken on a phone"
            said = page.get_by_role("table", name="What you can say to the bridge on near")
            assert (await said.locator("code").all_inner_texts())[:4] == [
                "/msg carrier help", "/msg carrier optout", "/msg carrier optin",
                "/msg carrier status",
            ]  # fmt: skip
            leave = said.get_by_role("row", name="/msg carrier leave")
            assert "operators of a channel: the bridge ends" in await leave.inner_text()

            await alice.set_state(room, "m.room.join_rules", {"join_rule": "invite"})
            assert "matrix.to" not in await page_of(app)


async def test_where_all_rooms_are_closed_it_says_how_to_learn_what_to_type(
    town: Town, folder: Path, database_settings: DatabaseSettings
) -> None:
    settings = town.settings_for(folder, database_settings, web=WEB)
    async with running(settings) as app:
        shown = await page_of(app)
    assert "No chat that is open to everybody is bridged." in shown
    assert "Write <code>help</code> to it in a private message, and it says what to type." in shown
    assert "below" not in shown
