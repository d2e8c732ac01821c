"""What goes into Matrix waits in the table, not in memory, and goes out in order."""

from pathlib import Path

from bridge.model import Outgoing, SendKind
from bridge.sdk.ids import RoomId, UserId
from bridge.settings import DatabaseSettings
from tests.conformance.stage import DICE, ROOM, play, settings_for
from tests.rigs.scripted_homeserver import Answer, Asked, refuse, scripted_homeserver
from tests.rigs.trestle import running, wait_until

MANY = 1500
"""More than a room holds in memory, several times."""


def say(text: str, room: str = ROOM) -> Outgoing:
    return Outgoing(
        room=RoomId(room), user=UserId(DICE), kind=SendKind.EVENT, type="m.room.message",
        content={"msgtype": "m.text", "body": text}, transaction_id=f"t {room} {text}",
    )  # fmt: skip


def away(asked: Asked) -> Answer | None:
    return refuse(502, "M_UNKNOWN") if "send" in asked.parts else None


async def test_what_waits_while_the_homeserver_is_away_lies_in_the_table_and_comes_in_order(
    database_settings: DatabaseSettings, folder: Path
) -> None:
    async with play(database_settings, folder, rules=[away]) as stage:
        sender = stage.app.parts.sender
        wanted = [f"line {number}" for number in range(MANY)]
        for at in range(0, MANY, 50):
            await sender.put([say(text) for text in wanted[at : at + 50]])
        await sender.put([say("elsewhere", "!elsewhere")])
        assert sender.waiting == MANY + 1
        assert sender._held < 200
        assert sender.holding() == {ROOM: MANY, "!elsewhere": 1}
        stage.homeserver.rules.clear()
        await stage.homeserver.wait_until(lambda: len(stage.homeserver.texts(ROOM)) == MANY)
        assert stage.homeserver.texts(ROOM) == wanted
        assert stage.homeserver.texts("!elsewhere") == ["elsewhere"]
        await wait_until(lambda: sender.waiting == 0)
        await wait_until(lambda: not sender.holding())
        assert sender._held == 0


async def test_a_backlog_of_the_last_process_goes_out_before_what_is_new(
    database_settings: DatabaseSettings, folder: Path
) -> None:
    async with scripted_homeserver() as homeserver:
        homeserver.rules.append(away)
        settings = settings_for(homeserver, database_settings, folder)
        old = [f"old {number}" for number in range(250)]
        async with running(settings) as app:
            await app.parts.sender.put([say(text) for text in old])
        homeserver.rules.clear()
        async with running(settings) as app:
            await app.parts.sender.put([say("new")])
            await homeserver.wait_until(lambda: "new" in homeserver.texts(ROOM))
        assert homeserver.texts(ROOM) == [*old, "new"]


async def test_what_is_in_the_room_is_not_put_again_after_a_restart_of_the_homeserver(
    database_settings: DatabaseSettings, folder: Path
) -> None:
    """The answer to the first attempt is lost, and with it what the homeserver remembers."""
    async with play(database_settings, folder) as stage:
        homeserver, sender = stage.homeserver, stage.app.parts.sender
        lost = [refuse(502, "M_UNKNOWN")]

        def lose_answer(asked: Asked) -> Answer | None:
            if "send" in asked.parts and lost:
                homeserver.take(asked)
                return lost.pop()
            return None

        homeserver.rules.append(lose_answer)
        await sender.put([say("once"), say("after")])
        await homeserver.wait_until(lambda: not lost)
        homeserver.forget_transactions()
        sender.doubt()
        await homeserver.wait_until(lambda: "after" in homeserver.texts(ROOM))
        assert homeserver.texts(ROOM) == ["once", "after"]
