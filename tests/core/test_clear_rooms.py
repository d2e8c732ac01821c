"""Nothing is said in clear in a room that is encrypted, however late that is known."""

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson

from bridge.core.intake.reconciler import Pace
from bridge.demo.matrix_user import PATIENCE
from bridge.model import Outgoing, ParkReason
from bridge.sdk.ids import RoomId, UserId
from bridge.settings.records import DatabaseSettings
from tests.conformance.stage import ALICE, DICE, ROOM, ask, play
from tests.core.outgoing import say
from tests.rigs.scripted_homeserver import SERVER, Answer, Asked, refuse
from tests.rigs.trestle import wait_until

LATE = UserId(f"@_trestle_irc_late:{SERVER}")
SECRET = {"algorithm": "m.megolm.v1.aes-sha2"}


async def test_what_nobody_knows_to_be_clear_is_asked_once_before_anything_is_said_there(
    database_settings: DatabaseSettings, folder: Path
) -> None:
    # The event that made the room encrypted never came: the homeserver lost it.
    secret, hidden = RoomId("!secret"), RoomId("!hidden")

    def rule(asked: Asked) -> Answer | None:
        if asked.parts[2:] == ("state", "m.room.encryption", ""):
            if asked.parts[1] == hidden:
                return refuse(403, "M_FORBIDDEN")
            return Answer(content=SECRET) if asked.parts[1] == secret else None
        return None

    async with play(database_settings, folder, rules=[rule]) as stage:
        parts, homeserver = stage.app.parts, stage.homeserver
        await parts.sender.put([say(f"{n}", room) for n in range(3) for room in (ROOM, secret)])
        await parts.sender.put([say("unseen", hidden)])
        await wait_until(lambda: parts.sender.waiting == 0)
        assert homeserver.texts(ROOM) == ["0", "1", "2"]
        assert [said.room for said in homeserver.said] == [ROOM] * 3
        for room in (ROOM, secret, hidden):
            assert len(homeserver.of("GET", "rooms", room, "state", "m.room.encryption")) == 1
        parked = await parts.items.count_parked()
        assert parked == {ParkReason.NO_KEY: 3, ParkReason.REFUSED: 1}
        assert await parts.bot_rooms.encrypted_rooms() == {secret}
        # What nobody of us may have seen is asked anew.
        invitation = {
            "type": "m.room.member", "state_key": DICE, "event_id": "$again", "room_id": ROOM,
            "sender": ALICE, "content": {"membership": "invite"},
        }  # fmt: skip
        assert await stage.put(invitation) == 200
        await homeserver.wait_until(
            lambda: len(homeserver.of("GET", "rooms", ROOM, "state", "m.room.encryption")) == 2
        )
        await wait_until(lambda: parts.encryption.of(RoomId(ROOM)) is False)
        # And everywhere after a restart of the homeserver, which may have lost it.
        parts.intake.on_restart()
        await parts.sender.put([say("3"), say("not in clear", secret)])
        await homeserver.wait_until(lambda: "3" in homeserver.texts(ROOM))
        assert len(homeserver.of("GET", "rooms", ROOM, "state", "m.room.encryption")) == 3
        assert len(homeserver.of("GET", "rooms", secret, "state", "m.room.encryption")) == 1


async def test_a_room_that_comes_into_doubt_while_it_is_asked_for_is_asked_for_again(
    database_settings: DatabaseSettings, folder: Path
) -> None:
    room = RoomId("!doubted")
    asked_for, may_answer, answers = asyncio.Event(), asyncio.Event(), [refuse(404, "M_NOT_FOUND")]

    def rule(asked: Asked) -> Answer | None:
        if asked.parts[1:4] == (room, "state", "m.room.encryption"):
            return answers.pop() if answers else Answer(content=SECRET)
        return None

    def hold(asked: Asked) -> asyncio.Event | None:
        if asked.parts[1:4] != (room, "state", "m.room.encryption"):
            return None
        asked_for.set()
        return may_answer

    async with play(database_settings, folder, rules=[rule]) as stage, asyncio.timeout(PATIENCE):
        parts, stage.homeserver.hold = stage.app.parts, hold
        await parts.sender.put([say("secret", room)])
        await asked_for.wait()
        parts.encryption.doubt(room)
        may_answer.set()
        await wait_until(lambda: not parts.sender.holding())
        assert not stage.homeserver.texts(room)
        assert await parts.items.count_parked() == {ParkReason.NO_KEY: 1}


async def test_nothing_is_said_in_clear_in_a_room_that_is_encrypted_while_it_is_asked_who_reads(
    database_settings: DatabaseSettings, folder: Path
) -> None:
    async with play(database_settings, folder) as stage:
        parts = stage.app.parts

        async def may_go(outgoing: Outgoing) -> bool:
            await parts.encryption.note(outgoing.room)
            return True

        parts.sender.may_go = may_go
        await parts.sender.put([say("not in clear")])
        await wait_until(lambda: parts.sender.waiting == 0)
        assert not stage.homeserver.texts(ROOM)
        reasons = await parts.database.core.fetch("SELECT reason FROM outbox")
        assert [one["reason"] for one in reasons] == [ParkReason.NO_KEY.value]


async def test_nothing_is_said_in_clear_in_a_room_that_is_encrypted_while_the_speaker_comes_in(
    database_settings: DatabaseSettings, folder: Path
) -> None:
    is_in = asyncio.Event()
    async with play(database_settings, folder) as stage:
        parts, homeserver = stage.app.parts, stage.homeserver
        await parts.sender.put([say("while it was clear")])
        await homeserver.wait_until(lambda: bool(homeserver.texts(ROOM)))
        homeserver.hold = lambda asked: is_in if asked.parts[-1:] == ("join",) else None
        await parts.sender.put([replace(say("not in clear"), user=LATE)])
        try:
            await homeserver.wait_until(lambda: LATE in homeserver.rooms[ROOM])
            await parts.encryption.note(RoomId(ROOM))
        finally:
            is_in.set()
        await wait_until(lambda: parts.sender.waiting == 0)
        assert homeserver.texts(ROOM) == ["while it was clear"]


async def test_that_a_room_becomes_encrypted_counts_at_once_whatever_it_has_to_wait_behind(
    database_settings: DatabaseSettings, folder: Path
) -> None:
    came: list[dict[str, Any]] = []
    is_in = asyncio.Event()

    def rule(asked: Asked) -> Answer | None:
        is_asked = asked.parts[2:] == ("state", "m.room.encryption", "")
        return Answer(content=SECRET) if is_asked and came else None

    invitation = {
        "type": "m.room.member", "state_key": DICE, "event_id": "$again", "room_id": ROOM,
        "sender": ALICE, "content": {"membership": "invite"},
    }  # fmt: skip
    encryption = {
        "type": "m.room.encryption", "state_key": "", "event_id": "$secret", "room_id": ROOM,
        "sender": ALICE, "content": SECRET,
    }  # fmt: skip
    async with play(database_settings, folder, rules=[rule]) as stage:
        parts, homeserver = stage.app.parts, stage.homeserver
        homeserver.hold = lambda asked: (
            is_in if asked.parts[-1:] == ("join",) and asked.user == DICE else None
        )
        before = len(homeserver.of("POST", "rooms", ROOM, "join"))
        try:
            assert await stage.put(invitation) == 200
            await homeserver.wait_until(
                lambda: len(homeserver.of("POST", "rooms", ROOM, "join")) > before
            )
            await parts.sender.put([replace(say("while it was clear"), user=LATE)])
            await homeserver.wait_until(lambda: bool(homeserver.texts(ROOM)))
            came.append(encryption)
            assert await stage.put(encryption) == 200
            await parts.sender.put([replace(say("not in clear"), user=LATE)])
            await wait_until(lambda: parts.sender.waiting == 0)
        finally:
            is_in.set()
        assert homeserver.texts(ROOM) == ["while it was clear"]


async def test_a_room_that_becomes_encrypted_while_a_wrong_mark_is_removed_stays_marked(
    database_settings: DatabaseSettings, folder: Path
) -> None:
    room = RoomId("!said:elsewhere.example")
    async with play(database_settings, folder) as stage:
        parts = stage.app.parts
        await parts.encryption.note(room)
        async with (
            asyncio.TaskGroup() as group,
            parts.database.core.acquire() as other,
            other.transaction(),
        ):
            await other.execute("LOCK TABLE room IN SHARE MODE")
            checking = group.create_task(parts.encryption.check(room))
            async with asyncio.timeout(PATIENCE):
                while not await other.fetchval(
                    "SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted "
                    "AND relation = 'room'::regclass)"
                ):
                    await asyncio.sleep(0.01)
            await parts.encryption.note(room)
        assert checking.result()
        assert await parts.bot_rooms.encrypted_rooms() == {room}
        assert not await parts.encryption.check(room)
        assert not await parts.bot_rooms.encrypted_rooms()


async def test_a_room_whose_becoming_encrypted_was_lost_is_known_after_a_look_at_it(
    database_settings: DatabaseSettings, folder: Path
) -> None:
    lost = {
        "type": "m.room.encryption", "state_key": "", "event_id": "$lost", "sender": ALICE,
        "room_id": ROOM, "content": SECRET,
    }  # fmt: skip
    first, last = ask("first"), ask("second")

    def rule(asked: Asked) -> Answer | None:
        if asked.parts[2:] != ("messages",):
            return None
        types = orjson.loads(asked.query["filter"])["types"]
        return Answer(content={"chunk": [e for e in (last, lost, first) if e["type"] in types]})

    async with play(database_settings, folder, rules=[rule]) as stage:
        parts = stage.app.parts
        parts.reconciler._pace = Pace(grace=0.0)
        assert await stage.put(first, last) == 200
        await stage.homeserver.wait_until(lambda: len(stage.homeserver.texts(ROOM)) == 2)
        await parts.reconciler.run_once()
        await wait_until(lambda: parts.encryption.is_known(RoomId(ROOM)))
        await parts.sender.put([say("not in clear")])
        await wait_until(lambda: parts.sender.waiting == 0)
        assert "not in clear" not in stage.homeserver.texts(ROOM)
