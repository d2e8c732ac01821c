"""A room that its bridge has left, and that the homeserver does not manage."""

from dataclasses import replace
from pathlib import Path

from bridge.model import SendKind
from bridge.sdk.events import RemoteChat
from bridge.sdk.ids import InstanceId, RemoteChatId, RoomId, UserId
from bridge.settings.records import DatabaseSettings
from tests.conformance.stage import ALICE, DICE, play
from tests.core.outgoing import say
from tests.rigs.scripted_homeserver import SERVER, Answer, Asked, refuse
from tests.rigs.trestle import wait_until

OLD, NEW = RoomId(f"!old:{SERVER}"), RoomId(f"!new:{SERVER}")
BOT = f"@trestle:{SERVER}"


def broken(asked: Asked) -> Answer | None:
    """Take nothing back in the old room, for now."""
    return refuse(502, "M_UNKNOWN") if asked.parts[1:3] == (OLD, "redact") else None


async def test_what_is_taken_back_in_a_room_that_was_left_keeps_nothing_waiting_in_the_new_one(
    database_settings: DatabaseSettings, folder: Path
) -> None:
    async with play(database_settings, folder, rules=[broken]) as stage:
        homeserver, parts = stage.homeserver, stage.app.parts
        homeserver.rooms |= {OLD: {BOT, DICE, ALICE}, NEW: {BOT, DICE, ALICE}}
        door = await parts.portals.add(
            instance=InstanceId("mine"), chat=RemoteChat(id=RemoteChatId("mine"), name="mine"),
            room=OLD, created_by=UserId(ALICE),
        )  # fmt: skip
        said = replace(say("said", OLD), portal=door.portal.id, remote_id="said")
        await parts.sender.put([said])
        await homeserver.wait_until(lambda: homeserver.texts(OLD) == ["said"])
        await parts.portals.move(door, NEW, UserId(ALICE), takes=True)
        gone = replace(
            said, room=NEW, user=UserId(BOT), kind=SendKind.REDACT, about="said",
            content={"reason": "a secret"}, remote_id=None, transaction_id="gone",
        )  # fmt: skip
        last = replace(say("the last", NEW), portal=door.portal.id, remote_id="last")
        await parts.sender.put([gone, last])
        await homeserver.wait_until(lambda: homeserver.texts(NEW) == ["the last"])
        await wait_until(lambda: parts.sender.holding() == {OLD: 1})
        homeserver.rules.remove(broken)
        await wait_until(lambda: not parts.sender.holding())
        tries = [one for one in homeserver.asked if one.parts[1:3] == (OLD, "redact")]
        assert {one.user for one in tries} == {BOT}
        assert not any(one.content for one in tries)
