"""What is parked, in people's hands."""

import asyncio
import json
import os
import sys
from pathlib import Path

from bridge.core.oversight.aside import HERE
from bridge.demo.matrix_user import PATIENCE
from bridge.model import AuditAction, SystemClock
from bridge.settings.records import DatabaseSettings
from bridge.storage.audit import Audit
from bridge.storage.keys import DayKeys
from bridge.storage.pool import Database
from tests.rigs.chaos import install_chaos, read_ledger
from tests.rigs.program import TrestleProgram, trestle_program
from tests.rigs.trestle import Town, make_modules, wait_until

BOT = "@_trestle_chaos:test.example"
MAIN = "@trestle:test.example"


async def test_a_parked_item_is_seen_tried_again_and_let_go_by_chat_and_by_command(
    town: Town, folder: Path, database_settings: DatabaseSettings
) -> None:
    ledger = folder / "ledger"
    modules = make_modules({"chaos": ("chaos", {"ledger": str(ledger)})})
    settings = town.settings_for(folder, database_settings, modules=modules)
    env = {"PYTHONPATH": f"{install_chaos(folder)}:{os.getcwd()}"}
    async with trestle_program(settings, folder, env=env) as trestle:
        alice = await town.person("alice")
        room = await alice.create_room(preset="public_chat")
        for bot in (BOT, MAIN):
            await alice.invite(room, bot)
            await alice.wait_until_joined(room, bot)
        await alice.say(room, "flaky")
        await alice.say(room, "after")
        await wait_until(lambda: read_ledger(ledger, room) == ["after"])
        (row,) = json.loads(await _trestle(trestle, "list", "--json"))
        assert row["consumer"] == f"bot:chaos:{room}"
        assert row["reason"] == "failed"
        assert "flaky" not in json.dumps(row)
        assert "flaky" in await _trestle(trestle, "show", row["name"])
        # Tried again too early, it comes back.
        assert "Runs again" in await _trestle(trestle, "retry", row["name"])
        (again,) = await _wait_for_parked(trestle)
        await alice.say(room, "!trestle parked")
        await alice.wait_for_text(room, f"{again['name']}: failed")
        Path(f"{ledger}.mended").touch()
        await alice.say(room, f"!trestle parked retry {again['name']}")
        await wait_until(lambda: _heard(ledger, room) == ["after", "flaky"])
        await alice.say(room, "!trestle parked")
        await alice.wait_for_text(room, "Nothing of this room is parked.")
        await alice.say(room, "raise")
        (last,) = await _wait_for_parked(trestle)
        mallory = await town.person("mallory")
        await mallory.join(room)
        await mallory.say(room, f"!trestle parked drop {last['name']}")
        await mallory.wait_for_text(room, "you need the power")
    # The program has ended: the command does it alone.
    assert "Let go" in await _trestle(trestle, "drop", last["name"])
    assert await _trestle(trestle, "list") == "Nothing is parked.\n"
    assert "is not running" in await _trestle(trestle, "retry", last["name"], ends_with=1)
    async with Database.open(database_settings, settings.state_dir, SystemClock()) as database:
        audit = Audit(database, DayKeys(settings.state_dir, database.clock), settings.state_dir)
        acts = [(act.actor, act.action, act.target) async for act in audit.rows()]
        assert await audit.verify() == []
    assert acts == [
        (HERE, AuditAction.RETRY, row["name"]),
        (alice.id, AuditAction.RETRY, again["name"]),
        (HERE, AuditAction.DROP, last["name"]),
    ]


def _heard(ledger: Path, room: str) -> list[str]:
    return [text for text in read_ledger(ledger, room) if not text.startswith("!")]


async def _wait_for_parked(trestle: TrestleProgram) -> list[dict[str, str]]:
    async with asyncio.timeout(PATIENCE):
        while not (rows := json.loads(await _trestle(trestle, "list", "--json"))):
            await asyncio.sleep(0.1)
    return list(rows)


async def _trestle(trestle: TrestleProgram, *words: str, ends_with: int = 0) -> str:
    """Run ``trestle parked ...``, and give what it says."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bridge", "parked", *words, "-c", str(trestle.config),
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    async with asyncio.timeout(PATIENCE):
        said, _ = await process.communicate()
    assert process.returncode == ends_with, said.decode()
    return said.decode()
