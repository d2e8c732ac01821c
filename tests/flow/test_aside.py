"""What is parked, in people's hands."""

import json
from pathlib import Path

from bridge.core.oversight.byhand import HERE
from bridge.model import AuditAction, SystemClock
from bridge.settings.records import DatabaseSettings
from bridge.storage.audit import Audit
from bridge.storage.pool import Database
from tests.flow.rooms import BOT
from tests.rigs.chaos import chaos
from tests.rigs.trestle import Town, wait_until


async def test_a_parked_item_is_seen_tried_again_and_let_go_by_chat_and_by_command(
    town: Town, folder: Path, database_settings: DatabaseSettings
) -> None:
    async with chaos(town, folder, database_settings) as stage:
        alice, trestle, (room,) = stage.alice, stage.trestle, stage.rooms
        await alice.invite(room, BOT)
        await alice.wait_until_joined(room, BOT)
        await alice.say(room, "flaky")
        await alice.say(room, "after")
        await wait_until(lambda: stage.did(room) == ["after"])
        (row,) = await trestle.parked()
        assert row["consumer"] == f"bot:chaos:{room}"
        assert row["reason"] == "failed"
        assert "flaky" not in json.dumps(row)
        assert "flaky" in await trestle.ask("parked", "show", row["name"])
        # Tried again too early, it comes back.
        assert "Runs again" in await trestle.ask("parked", "retry", row["name"])
        (again,) = await trestle.wait_for_parked(1)
        await alice.say(room, "!trestle parked")
        await alice.wait_for_text(room, f"{again['name']}: failed")
        stage.mend()
        await alice.say(room, f"!trestle parked retry {again['name']}")
        # The bot hears the commands, too.
        await wait_until(lambda: [t for t in stage.did(room) if t[0] != "!"] == ["after", "flaky"])
        await alice.say(room, "!trestle parked")
        await alice.wait_for_text(room, "Nothing of this room is parked.")
        await alice.say(room, "raise")
        (last,) = await trestle.wait_for_parked(1)
        mallory = await town.person("mallory")
        await mallory.join(room)
        await mallory.say(room, f"!trestle parked drop {last['name']}")
        await mallory.wait_for_text(room, "you need the power")
    # The program has ended: the command does it alone.
    assert "Let go" in await trestle.ask("parked", "drop", last["name"])
    assert await trestle.ask("parked", "list") == "Nothing is parked.\n"
    assert "is not running" in await trestle.ask("parked", "retry", last["name"], code=1)
    state_dir = trestle.settings.state_dir
    async with Database.open(database_settings, state_dir, SystemClock()) as database:
        audit = Audit(database, state_dir)
        acts = [(act.actor, act.action, act.target) async for act in audit.rows()]
        assert await audit.verify() == []
    assert acts == [
        (HERE, AuditAction.RETRY, row["name"]),
        (alice.id, AuditAction.RETRY, again["name"]),
        (HERE, AuditAction.DROP, last["name"]),
    ]
