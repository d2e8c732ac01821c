"""Direct chats that begin while the homeserver or the database fails."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from bridge.core.directchats import NEW_MOST
from bridge.core.instances import Session
from bridge.demo.matrix_user import PATIENCE
from bridge.matrix.intents import MARK
from bridge.sdk.events import RemoteChat
from bridge.sdk.ids import RemoteChatId, RoomId
from bridge.sdk.module import NamesPuppets
from bridge.settings import DatabaseSettings
from tests.conformance.stage import Play, play
from tests.flow.networks import NEAR, irc_module
from tests.flow.rooms import BOT, ghost
from tests.flow.scripted import ANN, invite
from tests.rigs.irc_user import IrcUser, irc_user
from tests.rigs.ircd import IrcServer
from tests.rigs.ngircd import run_ngircd
from tests.rigs.scripted_homeserver import SERVER, Answer, Asked, refuse
from tests.rigs.trestle import wait_until

BUSY = refuse(429, "M_LIMIT_EXCEEDED", retry_after_ms=20)


@dataclass(slots=True)
class Scene:
    """Ann has a connection of her own, and carl writes to her."""

    stage: Play
    irc: IrcServer
    carl: IrcUser
    session: Session
    nick: str

    @property
    def made(self) -> list[str]:
        """The rooms that carl's ghost made."""
        rooms = self.stage.homeserver.rooms
        return [room for room in rooms if room.startswith("!made")]

    def whisper(self, text: str) -> None:
        self.carl.say(f"PRIVMSG {self.nick} :{text}")

    async def wait_for_chat(self, nick: str = "carl") -> RoomId:
        """Wait until there is one with that person; its room."""
        find, login = self.stage.app.parts.portals.find_direct, self.session.row.id
        await wait_until(lambda: find(NEAR, RemoteChatId(nick), login) is not None)
        door = find(NEAR, RemoteChatId(nick), login)
        assert door is not None
        return door.portal.room


@asynccontextmanager
async def scene(
    database: DatabaseSettings, folder: Path, rule: Callable[[Asked], Answer | None]
) -> AsyncIterator[Scene]:
    """Have the two on a network, and a homeserver that does as the rule says."""
    async with (
        run_ngircd() as irc,
        irc_user(irc.port, "carl") as carl,
        play(database, folder, rules=[rule], modules=irc_module(irc)) as stage,
    ):
        near = stage.app.parts.instances[NEAR]
        await wait_until(lambda: near.is_open)
        session = await near.session_of(ANN, "ann")
        async with asyncio.timeout(PATIENCE):
            await session.client.join(RemoteChat(id=RemoteChatId("#own"), name="#own"))
        assert isinstance(near.connector, NamesPuppets)
        nick = await near.connector.foretell_name(ANN, "ann")
        yield Scene(stage, irc, carl, session, nick)


def says(scene: Scene, room: RoomId, text: str) -> Callable[[], bool]:
    return lambda: text in scene.stage.homeserver.texts(room)


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
