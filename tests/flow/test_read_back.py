"""What the homeserver has and has forgotten that it has it is not sent again."""

import sqlite3
from pathlib import Path

from bridge.demo.matrix_user import MatrixUser
from bridge.failpoint import VARIABLE
from bridge.settings.records import DatabaseSettings
from tests.rigs.program import trestle_program
from tests.rigs.trestle import make_modules, run_town

DICE = "@_trestle_dice:test.example"


async def test_an_answer_that_was_sent_before_the_crash_is_found_in_the_room_of_a_forgetful_server(
    folder: Path, database_settings: DatabaseSettings
) -> None:
    async with run_town() as town:
        settings = town.settings_for(
            folder, database_settings, modules=make_modules({"dice": ("dice", {})})
        )
        async with trestle_program(settings, folder) as trestle:
            alice = await town.person("alice")
            room = await alice.create_room(preset="public_chat")
            await alice.invite(room, DICE)
            await alice.wait_until_joined(room, DICE)
            await trestle.program.stop(limit=25)
            trestle.env[VARIABLE] = "sent:1"
            await trestle.start()
            await alice.say(room, "!choose first, first")
            await trestle.wait_until_ended()
            del trestle.env[VARIABLE]
            await town.synapse.stop()
            assert forget_transactions(town.synapse.folder) > 0
            await town.synapse.start()
            await trestle.start()
            await alice.say(room, "!choose second, second")
            await alice.wait_until(lambda: "second" in answers(alice, room))
        assert answers(alice, room) == ["first", "second"]
        assert "[read_back]" in trestle.log_text()


def forget_transactions(folder: Path) -> int:
    """Have Synapse forget which transaction made which event, as it does after a day."""
    with sqlite3.connect(folder / "homeserver.db") as database:
        return database.execute("DELETE FROM event_txn_id_device_id").rowcount


def answers(alice: MatrixUser, room: str) -> list[str]:
    return [event["content"]["body"] for event in alice.heard(room, DICE)]
