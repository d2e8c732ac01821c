"""What was parked and is tried again is said once, whatever was not heard or is being read."""

import asyncio
from collections import Counter, deque
from dataclasses import replace
from pathlib import Path

import asyncpg

from bridge.core.outbox.roomlane import RoomLane
from bridge.core.oversight.byhand import Choice
from bridge.model import SendKind
from bridge.sdk.events import RemoteChat
from bridge.sdk.ids import InstanceId, RemoteChatId, RoomId, UserId
from bridge.settings.records import DatabaseSettings
from tests.conformance.stage import ALICE, DICE, ROOM, play
from tests.core.outgoing import LostAnswer, away, say
from tests.rigs.cluster import until_one_waits
from tests.rigs.scripted_homeserver import SERVER, Answer, Asked, refuse
from tests.rigs.trestle import wait_until

NEW, BOT = RoomId(f"!new:{SERVER}"), UserId(f"@trestle:{SERVER}")
MANY = 150
"""More than a room holds in memory."""


async def test_what_is_tried_again_unheard_is_not_said_twice_by_a_homeserver_that_forgets(
    database_settings: DatabaseSettings, folder: Path
) -> None:
    async with play(database_settings, folder) as stage:
        homeserver, parts = stage.homeserver, stage.app.parts
        homeserver.rules += [lost := LostAnswer(homeserver), away]
        await parts.sender.put([say("once")])
        await wait_until(lambda: lost.is_lost)
        await parts.aside.set_aside(RoomId(ROOM))
        await wait_until(lambda: not parts.sender.holding())
        homeserver.rules.clear()
        (parked,) = await parts.aside.all()
        admin = await asyncpg.connect(database_settings.url)
        try:
            await admin.execute("BEGIN; LOCK TABLE outbox IN SHARE MODE")
            async with asyncio.TaskGroup() as group:
                retrying = group.create_task(parts.aside.retry(parked.name))
                await until_one_waits(parts.database.core)
                retrying.cancel()
            # The server may have come to it all the same.
            await admin.execute("UPDATE outbox SET state = 'queued'; COMMIT")
        finally:
            admin.terminate()
        await wait_until(lambda: not parts.sender._outbox.has_unclaimed)
        await wait_until(lambda: not parts.sender.holding())
        assert await parts.database.core.fetchval("SELECT state FROM outbox") == "sent"
        assert homeserver.texts(ROOM) == ["once"]


async def test_of_many_that_are_tried_again_each_is_put_once_though_more_comes_behind_them(
    database_settings: DatabaseSettings, folder: Path
) -> None:
    taken: Counter[str] = Counter()
    answer: Answer | None = refuse(400, "M_BAD_JSON")

    def rule(asked: Asked) -> Answer | None:
        if "send" in asked.parts and answer is None:
            taken[asked.content["body"]] += 1
        return answer if "send" in asked.parts else None

    async with play(database_settings, folder, rules=[rule]) as stage:
        sender, aside = stage.app.parts.sender, stage.app.parts.aside
        wanted = [f"line {number}" for number in range(MANY)]
        await sender.put([say(text) for text in wanted])
        await wait_until(lambda: not sender.holding(), limit=30)
        answer = refuse(502, "M_UNKNOWN")
        async for _ in aside.retry_all(Choice()):
            pass
        assert sender._held < MANY
        await sender.put([say("behind")])
        answer = None
        await stage.homeserver.wait_until(lambda: "behind" in stage.homeserver.texts(ROOM))
        await wait_until(lambda: not sender.holding())
        assert stage.homeserver.texts(ROOM) == [*wanted, "behind"]
        assert set(taken.values()) == {1}


async def test_what_is_tried_again_while_a_backlog_is_being_read_is_in_memory_once(
    database_settings: DatabaseSettings, folder: Path
) -> None:
    room = RoomId("!nobody sends here")
    async with play(database_settings, folder) as stage:
        sender, core = stage.app.parts.sender, stage.app.parts.database.core
        first, second = await sender._outbox.add([say("first", room), say("second", room)])
        await core.execute("UPDATE outbox SET state = 'parked', reason = 'refused' WHERE seq = $1",
                           first.seq)  # fmt: skip
        # As it is just after a restart.
        lane = sender._lanes[room] = RoomLane(
            room, deque(), beyond=1, until=second.seq, is_running=True
        )
        admin = await asyncpg.connect(database_settings.url)
        try:
            await admin.execute("BEGIN; LOCK TABLE outbox")
            async with asyncio.TaskGroup() as group:
                group.create_task(sender._feed(lane))
                await until_one_waits(core)
                sender.push(first)
                await admin.execute("COMMIT")
        finally:
            admin.terminate()
        assert not lane.queue
        await core.execute("UPDATE outbox SET state = 'queued' WHERE seq = $1", first.seq)
        await sender._feed(lane)
        sender.push(first)  # Whoever took it back goes on only now.
        assert [one.seq for one in lane.queue] == [first.seq, second.seq]
        lane.is_running = False
        sender.go_on(lane)
        await stage.homeserver.wait_until(
            lambda: stage.homeserver.texts(room) == ["first", "second"]
        )


async def test_a_deletion_in_a_room_that_was_left_meanwhile_is_done_there_by_the_bot(
    database_settings: DatabaseSettings, folder: Path
) -> None:
    is_refused = True

    def rule(asked: Asked) -> Answer | None:
        is_it = is_refused and "redact" in asked.parts
        return refuse(403, "M_FORBIDDEN") if is_it else None

    async with play(database_settings, folder, rules=[rule]) as stage:
        homeserver, parts = stage.homeserver, stage.app.parts
        homeserver.rooms |= {ROOM: {BOT, DICE, ALICE}, NEW: {BOT, DICE, ALICE}}
        door = await parts.portals.add(
            instance=InstanceId("dice"), chat=RemoteChat(id=RemoteChatId("#tea"), name="#tea"),
            room=RoomId(ROOM), created_by=UserId(ALICE),
        )  # fmt: skip
        said = replace(say("said"), portal=door.portal.id, remote_id="said")
        gone = replace(
            say("gone"), kind=SendKind.REDACT, user=BOT, content={}, about="said",
            portal=door.portal.id,
        )  # fmt: skip
        for one in (said, gone):
            await parts.sender.put([one])
            await wait_until(lambda: not parts.sender.holding())
        (parked,) = await parts.aside.all()
        await parts.portals.move(door, NEW, UserId(ALICE), takes=True)
        await parts.intents.leave(RoomId(ROOM), UserId(DICE))
        is_refused = False
        before = len(homeserver.asked)
        await parts.aside.retry(parked.name)
        await wait_until(lambda: not parts.sender.holding())
        # The ghost that said it has left.
        asked = [one for one in homeserver.asked[before:] if one.parts[:2] == ("rooms", ROOM)]
        assert {one.user for one in asked} == {BOT}
        assert "redact" in asked[-1].parts
