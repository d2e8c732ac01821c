"""An invitation of a ghost that is spelled oddly, comes twice, or has nobody to pass it on."""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from bridge.core.intake.watch import watch_name
from bridge.core.traffic.doorway import Doorway
from bridge.model import Members, ParkReason, Puppets
from bridge.running.parts import Parts
from bridge.sdk.events import RemoteChat
from bridge.sdk.ids import RemoteChatId, RemoteUserId, RoomId, UserId
from bridge.sdk.login import LoginState
from bridge.settings.records import DatabaseSettings
from tests.conformance.stage import ALICE, Play, play
from tests.flow.networks import NEAR, connected, irc_module
from tests.flow.rooms import BOT, ghost
from tests.flow.scripted import ANN, invite
from tests.rigs.irc_user import IrcUser, irc_user
from tests.rigs.ngircd import run_ngircd
from tests.rigs.scripted_homeserver import SERVER, Answer, Asked, refuse
from tests.rigs.trestle import wait_until

ROOM = RoomId(f"!club:{SERVER}")


@dataclass
class Club:
    """A room that is tied to #club, which Alice runs."""

    stage: Play
    door: Doorway
    dora: IrcUser
    parts: Parts
    invited: int = 0

    async def invite(self, whom: str, by: str = ALICE) -> None:
        """Have a ghost invited just now."""
        self.invited += 1
        now = int(self.parts.database.clock.now().timestamp() * 1000)
        event = invite(ROOM, whom, str(self.invited), sender=by, origin_server_ts=now)
        assert await self.stage.put(event) == 200

    def reasons(self) -> list[Any]:
        """With what reasons ghosts have declined."""
        asked = self.stage.homeserver.of("POST", "rooms", ROOM, "leave")
        return [one.content.get("reason", "") for one in asked]

    async def answer(self, whom: str, by: str = ALICE) -> str:
        """Have a ghost invited; give the reason with which it declines."""
        before = len(self.reasons())
        await self.invite(whom, by)
        await self.stage.homeserver.wait_until(lambda: len(self.reasons()) > before)
        return str(self.reasons()[-1])


def empower(asked: Asked) -> Answer | None:
    """Alice and the bot may do all."""
    if asked.parts[2:4] != ("state", "m.room.power_levels"):
        return None
    return Answer(content={"users": {BOT: 100, ALICE: 100}, "invite": 0})


@asynccontextmanager
async def club(database: DatabaseSettings, folder: Path, *rules: Any) -> AsyncIterator[Club]:
    """Have the room tied, and Dora on the network, in no channel."""
    async with (
        run_ngircd() as irc,
        play(database, folder, rules=[*rules, empower], modules=irc_module(irc)) as stage,
        irc_user(irc.port, "Dora") as dora,
    ):
        parts = stage.app.parts
        network = await connected(parts.instances[NEAR])
        stage.homeserver.rooms[ROOM] = {BOT, ALICE}
        chat = RemoteChat(id=RemoteChatId("#club"), name="#club")
        door = await parts.portals.add(
            instance=NEAR, chat=chat, room=ROOM, created_by=UserId(ALICE)
        )
        await network.join(chat)
        yield Club(stage, door, dora, parts)


async def test_a_person_of_the_network_is_invited_by_one_spelling_alone(
    database_settings: DatabaseSettings, folder: Path
) -> None:
    async with club(database_settings, folder) as here:
        reason = await here.answer(ghost("=44ora"))
        assert reason.endswith("nobody can have that name there")
        await here.dora.sync()
        assert not any("INVITE" in line for line in here.dora.heard)
        assert "are invited into #club" in await here.answer(ghost("dora"))


async def test_who_is_invited_is_invited_once_however_often_the_answer_is_tried(
    database_settings: DatabaseSettings, folder: Path
) -> None:
    tries: list[str] = []

    def fail_twice(asked: Asked) -> Answer | None:
        if asked.parts[2:] != ("leave",) or len(tries) >= 2:
            return None
        tries.append(asked.path)
        return refuse(502, "M_UNKNOWN")

    async with club(database_settings, folder, fail_twice) as here:
        await here.invite(ghost("dora"))
        await here.stage.homeserver.wait_until(lambda: len(here.reasons()) == 3)
        assert set(here.reasons()) == {"They are invited into #club on near now"}
        await here.dora.sync()
        assert sum("INVITE" in line for line in here.dora.heard) == 1


async def test_who_is_known_to_be_in_the_channel_comes_in_and_the_network_is_not_asked(
    database_settings: DatabaseSettings, folder: Path
) -> None:
    async with club(database_settings, folder) as here:
        here.door.portal = replace(here.door.portal, members=Members.SPEAKERS)
        await here.dora.join("#club")
        await wait_until(lambda: here.door.arrivals.attendance.has(RemoteUserId("dora")))
        # Nobody is connected who could ask for Ann.
        await here.invite(ghost("dora"), by=ANN)
        homeserver = here.stage.homeserver
        await homeserver.wait_until(
            lambda: bool(here.reasons()) or ghost("dora") in homeserver.rooms[ROOM]
        )
        assert not here.reasons()


async def test_who_has_nobody_to_invite_for_them_is_told_what_leads_on(
    database_settings: DatabaseSettings, folder: Path
) -> None:
    async with club(database_settings, folder) as here:
        door, instances = here.door, here.parts.portals.direct_chats._house.instances
        for puppets, what in (
            (Puppets.AUTOMATIC, "say something here, and invite them again"),
            (Puppets.LOGIN, "say !trestle login near, and invite them again"),
            (Puppets.RELAY, "the one that speaks for all invites for those alone who run"),
        ):
            door.portal = replace(door.portal, puppets=puppets)
            assert what in await here.answer(ghost("dora"), by=ANN)
        relay = instances[NEAR].relay
        assert relay is not None
        relay.supervisor.report(LoginState.RECONNECTING)
        what = "the bridge is not connected to near just now; invite them again"
        assert what in await here.answer(ghost("dora"))
        here.parts.instances.pop(NEAR)
        assert "this network is not switched on" in await here.answer(ghost("dora"))


def said_of(caplog: pytest.LogCaptureFixture, event: str) -> int:
    """How often the log tells of an event."""
    return [vars(one).get("event") for one in caplog.records].count(event)


async def test_an_id_that_nobody_can_have_declines_or_is_left_alone_with_a_word(
    database_settings: DatabaseSettings, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    broken, loud, chat = ghost("="), ghost("Bob"), RoomId(f"!chat:{SERVER}")

    def refuse_loud(asked: Asked) -> Answer | None:
        is_loud = "Bob" in f"{asked.user} {asked.content.get('username')}"
        return refuse(400, "M_INVALID_USERNAME") if is_loud else None

    async with club(database_settings, folder, refuse_loud) as here:
        parts, homeserver = here.parts, here.stage.homeserver
        nobody = "No network that is switched on here has anybody of that name"
        for odd in (broken, ghost("=zz"), ghost("=c3"), f"@_trestle_near:{SERVER}"):
            assert await here.answer(odd) == nobody
        direct = {"membership": "invite", "is_direct": True}
        come = [invite(chat, one, one, content=direct) for one in (broken, loud)]
        assert await here.stage.put(*come) == 200
        await homeserver.wait_until(lambda: bool(homeserver.of("POST", "rooms", chat, "leave")))
        await here.invite(loud)
        await wait_until(lambda: said_of(caplog, "invitation_void") == 2)
        for room in (chat, ROOM):
            await wait_until(lambda room=room: watch_name(room) not in parts.router.lanes)  # type: ignore[misc]
        assert await parts.items.count_parked() == {}
        (said,) = homeserver.of("POST", "rooms", chat, "leave")
        assert (said.user, said.content) == (broken, {"reason": nobody})


async def test_an_invitation_is_put_aside_while_the_registration_lacks_our_namespaces(
    database_settings: DatabaseSettings, folder: Path
) -> None:
    chat = RoomId(f"!chat:{SERVER}")

    def lack(asked: Asked) -> Answer | None:
        return refuse(400, "M_EXCLUSIVE") if "dora" in str(asked.content) else None

    async with club(database_settings, folder, lack) as here:
        direct = {"membership": "invite", "is_direct": True}
        assert await here.stage.put(invite(chat, ghost("dora"), "dora", content=direct)) == 200
        await wait_until(lambda: watch_name(chat) not in here.parts.router.lanes, 20)
        assert await here.parts.items.count_parked() == {ParkReason.REFUSED: 1}
