"""A bot that was put out of a room stays out until somebody invites it, and then it hears."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from bridge.core.traffic.bothsides import say_here
from bridge.core.traffic.doorway import Doorway
from bridge.sdk.errors import PermanentFailure
from bridge.sdk.ids import RoomId, UserId
from bridge.settings.records import DatabaseSettings
from tests.conformance.stage import ALICE, DICE, ROOM, Play, ask, play
from tests.flow.networks import NEAR, connected, irc_module
from tests.flow.rooms import BOT
from tests.rigs.irc_user import IrcUser, irc_user
from tests.rigs.ngircd import run_ngircd
from tests.rigs.scripted_homeserver import SERVER, Answer, Asked, ScriptedHomeserver
from tests.rigs.trestle import wait_until

State = dict[tuple[str, str], dict[str, Any]]
"""By room and user, the event that says what became of the user there."""
HALL = RoomId(f"!hall:{SERVER}")


def member(user: str, membership: str, room: str = HALL, sender: str = ALICE) -> dict[str, Any]:
    """What became of one of ours in a room."""
    return {
        "type": "m.room.member", "state_key": user, "room_id": room, "sender": sender,
        "event_id": f"$member-{user}-{membership}-{room}", "origin_server_ts": 1,
        "content": {"membership": membership},
    }  # fmt: skip


@asynccontextmanager
async def hall(
    database_settings: DatabaseSettings, folder: Path
) -> AsyncIterator[tuple[Play, IrcUser, State, Doorway]]:
    """Have the hall bridged, the bot hearing what it is told there, and carl in its channel.

    The homeserver tells of who is in a room what the state says that the test is given.
    """
    state: State = {}

    def tell_state(asked: Asked) -> Answer | None:
        if asked.parts[2:4] != ("state", "m.room.member"):
            return None
        event = state.get((asked.parts[1], asked.parts[4]))
        return None if event is None else Answer(content=event)

    async with (
        run_ngircd() as irc,
        irc_user(irc.port, "carl") as carl,
        play(database_settings, folder, rules=[tell_state], modules=irc_module(irc)) as stage,
    ):
        parts = stage.app.parts
        near = parts.instances[NEAR]
        stage.homeserver.rooms[HALL] = {BOT, ALICE}
        await carl.join("#hall")
        await connected(near)
        door = await parts.plumbing.bridge(near, "#hall", HALL, UserId(ALICE))
        # However it came in, it hears what it is told.
        assert await stage.put(member(BOT, "join", sender=BOT), name="in") == 200
        await wait_until(lambda: parts.routes.has_seat(BOT, HALL))
        yield stage, carl, state, door


async def put_out(stage: Play, state: State, user: str, room: str) -> None:
    """Have it kicked."""
    kick = state[room, user] = member(user, "leave", room)
    stage.homeserver.rooms[room].discard(user)
    assert await stage.put(kick, name=f"out-{user}-{room}") == 200
    evictions = stage.app.parts.intents.evictions
    await wait_until(lambda: evictions.is_out(RoomId(room), UserId(user)))


def joins(homeserver: ScriptedHomeserver) -> int:
    """How often the main bot came into the hall."""
    return sum(one.user == BOT for one in homeserver.of("POST", "rooms", HALL, "join"))


async def chats_in_trouble(stage: Play) -> dict[str, str]:
    """What `status` says of the chats."""
    (near,) = (await stage.app.parts.main_bot.status.look())["instances"]
    found: dict[str, str] = near["chats_in_trouble"]
    return found


async def check_that_a_kick_of_which_nobody_told_is_found(stage: Play, state: State) -> None:
    """A homeserver that is killed may never tell of it: it is asked, and nobody must speak."""
    state[HALL, BOT] = member(BOT, "leave")
    stage.homeserver.rooms[HALL].discard(BOT)
    before = joins(stage.homeserver)
    stage.app.parts.intake.on_restart()
    await stage.app.parts.reconciler._look_before()
    assert "#hall" in await chats_in_trouble(stage)
    assert joins(stage.homeserver) == before


async def test_nothing_gets_past_a_kick_of_the_bot_until_it_is_invited_again(
    database_settings: DatabaseSettings, folder: Path
) -> None:
    async with hall(database_settings, folder) as (stage, carl, state, _):
        homeserver, parts = stage.homeserver, stage.app.parts
        carl.say("PRIVMSG #hall :one")
        await homeserver.wait_until(lambda: "one" in homeserver.texts(HALL))

        await put_out(stage, state, BOT, HALL)
        assert not parts.routes.has_seat(BOT, HALL)
        before = joins(homeserver)
        carl.say("PRIVMSG #hall :two")
        await carl.wait_for_answer_of("trestle")
        await parts.sender.put([say_here(parts.house, HALL, "I am the bot")])
        await wait_until(lambda: parts.sender.waiting == 0)
        (parked,) = await parts.aside.all(HALL)
        assert parked.detail == f"{BOT} was put out of the room; invite it there again"
        assert "has put the bot out" in (await chats_in_trouble(stage))["#hall"]
        # A new process finds it so.
        parts.intents.evictions._known.clear()
        await parts.stage_bots()
        assert parts.intents.evictions.is_out(HALL, BOT)
        assert joins(homeserver) == before

        # Nor does a module's bot come back by itself.
        await put_out(stage, state, DICE, ROOM)
        with pytest.raises(PermanentFailure, match="was put out"):
            await parts.intents.ensure_joined(RoomId(ROOM), UserId(DICE))

        state.clear()
        assert await stage.put(member(BOT, "invite"), name="again") == 200
        await wait_until(lambda: parts.routes.has_seat(BOT, HALL))
        carl.say("PRIVMSG #hall :three")
        await homeserver.wait_until(lambda: "three" in homeserver.texts(HALL))
        assert "two" not in homeserver.texts(HALL)
        assert not await chats_in_trouble(stage)
        await check_that_a_kick_of_which_nobody_told_is_found(stage, state)


async def test_who_says_stop_just_before_the_bot_is_put_out_is_heard_when_it_is_back(
    database_settings: DatabaseSettings, folder: Path
) -> None:
    async with hall(database_settings, folder) as (stage, carl, state, door):
        parts = stage.app.parts
        # The lane stands still for a while.
        parts.house.policies.waiting.add(door.portal.id)
        assert await stage.put(*map(said, ("one", "two", "three")), name="paste") == 200
        await wait_until(lambda: len(parts.router.lanes[door.name]) == 3)
        assert await stage.put(said("STOP"), name="stop") == 200
        await wait_until(lambda: bool(door.stops._stopped))
        await put_out(stage, state, BOT, HALL)
        parts.house.policies.waiting.discard(door.portal.id)
        await wait_until(lambda: len(parts.router.lanes[door.name]) == 0)
        state.clear()
        assert await stage.put(member(BOT, "invite"), name="again") == 200
        await wait_until(lambda: parts.routes.has_seat(BOT, HALL))
        assert await stage.put(said("four"), name="four") == 200
        await carl.expect("PRIVMSG #hall", "four")


def said(text: str) -> dict[str, Any]:
    """What ALICE says in the hall."""
    return ask(text, HALL, content={"msgtype": "m.text", "body": text})
