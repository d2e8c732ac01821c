"""Direct chats that begin while the homeserver or the database fails."""

import asyncio
from collections import Counter
from pathlib import Path

from bridge.core.portals.directchats import NEW_MOST
from bridge.core.traffic.bothsides import say_here
from bridge.demo.matrix_user import PATIENCE
from bridge.matrix.intents import MARK
from bridge.sdk.events import RemoteChat, RemoteRename, RemoteUser
from bridge.sdk.ids import RemoteChatId, RemoteUserId, RoomId
from bridge.settings.records import DatabaseSettings
from bridge.storage.pool import Database
from tests.flow.firstwords import Scene, says, scene
from tests.flow.rooms import BOT, ghost
from tests.flow.scripted import ANN, invite
from tests.rigs.irc_user import irc_user
from tests.rigs.scripted_homeserver import SERVER, Answer, Asked, refuse
from tests.rigs.trestle import wait_until

BUSY = refuse(429, "M_LIMIT_EXCEEDED", retry_after_ms=20)
HELD = "SELECT count(*) FROM pg_locks WHERE NOT granted"
DIRECT = {"membership": "invite", "is_direct": True}


async def test_a_first_message_waits_for_the_homeserver_however_often_it_is_tried(
    database_settings: DatabaseSettings, folder: Path
) -> None:
    tried = 0

    def busy(asked: Asked) -> Answer | None:
        nonlocal tried
        if asked.parts != ("createRoom",):
            return None
        tried += 1
        return BUSY if tried <= NEW_MOST + 2 else None

    async with scene(database_settings, folder, busy) as here:
        here.whisper("the first word")
        chat = await here.wait_for_chat()
        await here.stage.homeserver.wait_until(says(here, chat, "the first word"))
        assert tried == NEW_MOST + 3


async def test_what_was_half_made_is_gone_on_with_and_left_if_it_cannot_be(
    database_settings: DatabaseSettings, folder: Path
) -> None:
    """No answer comes to a ``createRoom``, and then the bot cannot come in for a while."""
    marks: list[str] = []
    tried: Counter[str] = Counter()
    closed = asyncio.Event()

    def half(asked: Asked) -> Answer | None:
        match asked.method, asked.parts:
            case "POST", ("createRoom",):
                marks.append(asked.content["creation_content"][MARK])
                here.stage.homeserver.do(asked)
                return BUSY
            case "GET", ("rooms", _, "state", "m.room.create", ""):
                return Answer(content={MARK: marks[-1]})
            case "POST", ("rooms", room, "join") if asked.user == BOT and room in here.made:
                tried[room] += 1
                if closed.is_set():
                    return refuse(403, "M_FORBIDDEN")
                return BUSY if tried[room] <= 3 else None
        return None

    async with scene(database_settings, folder, half) as here:
        homeserver = here.stage.homeserver
        here.whisper("the first word")
        chat = await here.wait_for_chat()
        await homeserver.wait_until(says(here, chat, "the first word"))
        assert here.made == [chat]
        assert tried == {chat: 4}
        invited = homeserver.of("POST", "rooms", chat, "invite")
        assert [one.content["user_id"] for one in invited] == [BOT, ANN]
        closed.set()
        async with irc_user(here.irc.port, "dora") as dora:
            dora.say(f"PRIVMSG {here.nick} :hello")
            assert "cannot join the room" in await dora.expect("NOTICE dora")
        (other,) = {*here.made} - {chat}
        await homeserver.wait_until(lambda: ghost("dora") not in homeserver.rooms[other])


def hold_the_coming(here: Scene, room: RoomId) -> tuple[asyncio.Event, asyncio.Event]:
    """Whether somebody is asked who is in Ann's own room, and what lets that be answered."""
    begun, go_on = asyncio.Event(), asyncio.Event()

    def hold(asked: Asked) -> asyncio.Event | None:
        if asked.parts != ("rooms", room, "joined_members"):
            return None
        begun.set()
        return go_on

    here.stage.homeserver.rooms[room] = {ANN}
    here.stage.homeserver.hold = hold
    return begun, go_on


async def test_who_takes_a_name_while_its_ghost_is_just_coming_goes_on_in_that_chat(
    database_settings: DatabaseSettings, folder: Path
) -> None:
    own = RoomId(f"!own:{SERVER}")
    async with scene(database_settings, folder, lambda asked: None) as here:
        homeserver, portals = here.stage.homeserver, here.stage.app.parts.portals
        await here.carl.join("#own")
        here.whisper("the first word")
        chat = await here.wait_for_chat()
        begun, go_on = hold_the_coming(here, own)
        come = invite(own, ghost("karl"), sender=ANN, content=DIRECT)
        assert await here.stage.put(come) == 200
        await wait_until(begun.is_set)
        coming = portals.direct_chats._lock((here.session.row.id, RemoteChatId("karl")))
        here.carl.say("NICK karl")
        await wait_until(lambda: bool(coming._waiters))
        here.whisper("it is me")
        go_on.set()
        assert await here.wait_for_chat("karl") == own
        await homeserver.wait_until(says(here, own, "it is me"))
        assert homeserver.texts(chat)[-1].endswith(f"That goes on in {own}")


async def wait_until_held(database: Database, number: int) -> None:
    """Return when so many statements wait for a lock."""
    async with asyncio.timeout(PATIENCE):
        while await database.core.fetchval(HELD) < number:
            await asyncio.sleep(0.01)


async def test_a_chat_that_ends_while_it_gets_another_name_is_no_more(
    database_settings: DatabaseSettings, folder: Path
) -> None:
    async with scene(database_settings, folder, lambda asked: None) as here:
        portals, database = here.stage.app.parts.portals, here.stage.app.parts.database
        here.whisper("the first word")
        await here.wait_for_chat()
        (door,) = portals.all
        karl = RemoteChat(id=RemoteChatId("karl"), name="karl")
        async with (
            asyncio.TaskGroup() as group,
            database.core.acquire() as holder, holder.transaction(),
        ):  # fmt: skip
            await holder.execute("SELECT FROM portal FOR UPDATE")
            group.create_task(portals.remove(door, ANN))
            await wait_until_held(database, 1)
            group.create_task(portals.call(door, karl))
            await wait_until_held(database, 2)
        assert portals.all == []


async def test_a_room_whose_chat_ends_while_it_gets_another_name_is_left_alone(
    database_settings: DatabaseSettings, folder: Path
) -> None:
    async with scene(database_settings, folder, lambda asked: None) as here:
        parts, homeserver = here.stage.app.parts, here.stage.homeserver
        portals, database = parts.portals, parts.database
        here.whisper("the first word")
        await here.wait_for_chat()
        (door,) = portals.all
        room, (carl, karl) = door.portal.room, map(named, ("carl", "karl"))
        rename = RemoteRename(chat=door.portal.chat, old=carl, new=karl)
        async with (
            asyncio.TaskGroup() as group,
            database.core.acquire() as holder, holder.transaction(),
        ):  # fmt: skip
            await holder.execute("SELECT FROM portal FOR UPDATE")
            group.create_task(portals.direct_chats.rename(door, rename))
            await wait_until_held(database, 1)
            group.create_task(portals.direct_chats.end(door))
            await wait_until_held(database, 2)
        assert portals.all == []
        # Our bot has left it, and would come in again for whatever is put there as the bot's.
        await parts.sender.put([say_here(portals.direct_chats._house, room, "the end")])
        await homeserver.wait_until(lambda: "the end" in homeserver.texts(room))
        assert not homeserver.of("PUT", "rooms", room, "state", "m.room.name")


def named(nick: str) -> RemoteUser:
    return RemoteUser(id=RemoteUserId(nick), name=nick)


async def test_a_homeserver_that_does_not_know_us_just_now_has_a_first_message_wait(
    database_settings: DatabaseSettings, folder: Path
) -> None:
    answers: dict[tuple[str, ...], Answer] = {
        ("createRoom",): BUSY, ("joined_rooms",): refuse(401, "M_UNKNOWN_TOKEN"),
    }  # fmt: skip

    def forget(asked: Asked) -> Answer | None:
        return answers.pop(asked.parts, None) if asked.user == ghost("carl") else None

    async with scene(database_settings, folder, forget) as here:
        here.whisper("the first word")
        chat = await here.wait_for_chat()
        await here.stage.homeserver.wait_until(says(here, chat, "the first word"))
    assert not answers


async def test_who_is_invited_while_they_write_for_the_first_time_has_one_chat_with_all_of_it(
    database_settings: DatabaseSettings, folder: Path
) -> None:
    own = RoomId(f"!own:{SERVER}")
    async with scene(database_settings, folder, lambda asked: None) as here:
        homeserver = here.stage.homeserver
        begun, go_on = hold_the_coming(here, own)
        come = invite(own, ghost("carl"), sender=ANN, content=DIRECT)
        assert await here.stage.put(come) == 200
        await wait_until(begun.is_set)
        here.whisper("the first word")
        direct_chats = here.stage.app.parts.portals.direct_chats
        coming = direct_chats._lock((here.session.row.id, RemoteChatId("carl")))
        await wait_until(lambda: bool(coming._waiters))
        go_on.set()
        assert await here.wait_for_chat() == own
        await homeserver.wait_until(says(here, own, "the first word"))
        makers = {asked.user for asked in homeserver.of("POST", "createRoom")}
        assert ghost("carl") not in makers
