"""Somebody on IRC who writes to somebody on Matrix for the first time."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from bridge.core.host.instances import Session
from bridge.demo.matrix_user import PATIENCE
from bridge.sdk.events import RemoteChat
from bridge.sdk.ids import RemoteChatId, RoomId
from bridge.sdk.module import NamesPuppets
from bridge.settings.records import DatabaseSettings
from tests.conformance.stage import Play, play
from tests.flow.networks import NEAR, irc_module
from tests.flow.scripted import ANN
from tests.rigs.irc_user import IrcUser, irc_user
from tests.rigs.ircd import IrcServer
from tests.rigs.ngircd import run_ngircd
from tests.rigs.scripted_homeserver import Answer, Asked
from tests.rigs.trestle import wait_until


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
