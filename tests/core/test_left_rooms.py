"""A room that its bridge has left, and that the homeserver does not manage."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

from bridge.core.outbox.targets import aim
from bridge.model import LinkKind, MessageLink, Outgoing, SendKind
from bridge.sdk.events import RemoteChat
from bridge.sdk.ids import EventId, InstanceId, RemoteChatId, RoomId, UserId
from bridge.settings.records import DatabaseSettings
from tests.conformance.stage import ALICE, DICE, Play, play
from tests.core.outgoing import say
from tests.rigs.scripted_homeserver import SERVER, Answer, Asked, ScriptedHomeserver, refuse
from tests.rigs.trestle import wait_until
from tests.storage.conftest import TurnedClock

OLD, NEW = RoomId(f"!old:{SERVER}"), RoomId(f"!new:{SERVER}")
BOT = f"@trestle:{SERVER}"


def broken(asked: Asked) -> Answer | None:
    """Take nothing back in the old room, for now."""
    return refuse(502, "M_UNKNOWN") if asked.parts[1:3] == (OLD, "redact") else None


def broken_anew(asked: Asked) -> Answer | None:
    """Take nothing back in the new room, for now."""
    return refuse(502, "M_UNKNOWN") if asked.parts[1:3] == (NEW, "redact") else None


def taken_back(homeserver: ScriptedHomeserver, room: RoomId) -> int:
    """How often that was asked for in the room."""
    return len([one for one in homeserver.asked if one.parts[1:3] == (room, "redact")])


async def say_and_move(stage: Play) -> Outgoing:
    """Have a bridge say something in the old room, and then be in the new one; give what."""
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
    return said


async def test_what_is_taken_back_in_a_room_that_was_left_keeps_nothing_waiting_in_the_new_one(
    database_settings: DatabaseSettings, folder: Path
) -> None:
    async with play(database_settings, folder, rules=[broken]) as stage:
        homeserver, parts = stage.homeserver, stage.app.parts
        said = await say_and_move(stage)
        gone = replace(
            said, room=NEW, user=UserId(BOT), kind=SendKind.REDACT, about="said",
            content={"reason": "a secret"}, remote_id=None, transaction_id="gone",
        )  # fmt: skip
        last = replace(say("the last", NEW), portal=said.portal, remote_id="last")
        await parts.sender.put([gone, last])
        await homeserver.wait_until(lambda: homeserver.texts(NEW) == ["the last"])
        await wait_until(lambda: parts.sender.holding() == {OLD: 1})
        homeserver.rules.remove(broken)
        await wait_until(lambda: not parts.sender.holding())
        tries = [one for one in homeserver.asked if one.parts[1:3] == (OLD, "redact")]
        assert {one.user for one in tries} == {BOT}
        assert not any(one.content for one in tries)


async def test_what_is_taken_back_in_a_room_that_was_left_is_so_once_however_long_the_new_waits(
    database_settings: DatabaseSettings, folder: Path
) -> None:
    clock = TurnedClock()
    async with play(database_settings, folder, clock=clock, rules=[broken_anew]) as stage:
        homeserver, parts = stage.homeserver, stage.app.parts
        said = await say_and_move(stage)
        edit = replace(
            say("in other words", NEW), portal=said.portal, remote_id="edit", about="said",
            link=LinkKind.EDIT,
        )  # fmt: skip
        gone = replace(
            said, room=NEW, user=UserId(BOT), kind=SendKind.REDACT, about="said", content={},
            remote_id=None, transaction_id="gone",
        )  # fmt: skip
        await parts.sender.put([edit, gone])
        await wait_until(lambda: taken_back(homeserver, OLD) == 1)
        clock.ahead = timedelta(days=2)
        before = taken_back(homeserver, NEW)
        await wait_until(lambda: taken_back(homeserver, NEW) > before + 1)
        homeserver.rules.remove(broken_anew)
        await wait_until(lambda: not parts.sender.holding())
        assert taken_back(homeserver, OLD) == 1


def test_what_is_taken_back_is_the_same_in_each_try_though_more_is_found_by_then() -> None:
    here, there = (
        MessageLink(portal=7, event_id=EventId(f"$in {room}"), remote_id="said", part=0,
                    sender=UserId(DICE), room=room, kind=LinkKind.MESSAGE)
        for room in (NEW, OLD)
    )  # fmt: skip
    gone = replace(say("gone", NEW), kind=SendKind.REDACT, content={}, about="said", portal=7)
    (first,) = aim(gone, [there], [])
    second = {one.target: one.transaction_id for one in aim(gone, [here, there], [])}
    assert second[EventId(f"$in {OLD}")] == first.transaction_id
    assert len(set(second.values())) == 2
