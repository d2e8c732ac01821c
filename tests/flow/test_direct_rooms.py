"""Direct chats that begin while the homeserver or the database fails."""

import asyncio
from collections import Counter
from pathlib import Path

from bridge.core.portals.directchats import NEW_MOST
from bridge.matrix.intents import MARK
from bridge.sdk.ids import RemoteChatId, RoomId
from bridge.settings.records import DatabaseSettings
from tests.flow.firstwords import says, scene
from tests.flow.rooms import BOT, ghost
from tests.flow.scripted import ANN, invite
from tests.rigs.irc_user import irc_user
from tests.rigs.scripted_homeserver import SERVER, Answer, Asked, refuse
from tests.rigs.trestle import wait_until

BUSY = refuse(429, "M_LIMIT_EXCEEDED", retry_after_ms=20)


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


async def test_who_is_invited_while_they_write_for_the_first_time_has_one_chat_with_all_of_it(
    database_settings: DatabaseSettings, folder: Path
) -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()
    own = RoomId(f"!own:{SERVER}")

    def note(asked: Asked) -> Answer | None:
        if asked.parts[:2] == ("rooms", own) and asked.parts[2:] == ("joined_members",):
            begun.set()
        return None

    async with scene(database_settings, folder, note) as here:
        homeserver = here.stage.homeserver
        homeserver.rooms[own] = {ANN}
        homeserver.hold = lambda asked: (
            go_on if asked.parts == ("rooms", own, "joined_members") else None
        )
        direct = {"membership": "invite", "is_direct": True}
        come = invite(own, ghost("carl"), sender=ANN, content=direct)
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
