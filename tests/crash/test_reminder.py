"""A reminder outlives ``kill -9``: it comes, and it comes once."""

from pathlib import Path

import aiohttp

from bridge.settings.records import DatabaseSettings
from tests.rigs.program import TrestleProgram, trestle_program
from tests.rigs.trestle import Town, make_modules

BOT = "@_trestle_remind:test.example"


async def test_a_reminder_comes_once_though_the_program_is_killed_before_it_is_due(
    town: Town, folder: Path, database_settings: DatabaseSettings
) -> None:
    modules = make_modules({"remind": ("remind", {})})
    settings = town.settings_for(folder, database_settings, modules=modules)
    async with trestle_program(settings, folder) as trestle:
        alice = await town.person("alice")
        room = await alice.create_room(preset="public_chat")
        await alice.invite(room, BOT)
        await alice.wait_until_joined(room, BOT)
        for number, text in enumerate(("!remind 7s later", "!remind 2s while it is down"), 1):
            await alice.say(room, text)
            await alice.wait_for_text(room, f"!remind cancel {number}")
        await trestle.kill()
        await trestle.start()
        for text in ("while it is down", "later"):
            await alice.wait_for_text(room, f": {text}")
        assert await samples(trestle, 'trestle_module_remind_reminders_total{instance="remind"')
        await trestle.kill()
        await trestle.start()
        await alice.say(room, "!remind list")
        await alice.wait_for_text(room, "You have no reminders")
    said = [event["content"] for event in alice.heard(room, BOT)]
    rung = [content for content in said if content["msgtype"] == "m.text"]
    assert sorted(content["body"].partition(": ")[2] for content in rung) == [
        "later", "while it is down",
    ]  # fmt: skip
    assert all(content["m.mentions"] == {"user_ids": [alice.id]} for content in rung)
    assert "timer_parked" not in trestle.log_text()


async def samples(trestle: TrestleProgram, start: str) -> list[str]:
    """The lines of ``/metrics`` that begin so."""
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"http://127.0.0.1:{trestle.ops_port}/metrics") as response,
    ):
        text = await response.text()
    return [line for line in text.splitlines() if line.startswith(start)]
