"""The bridges of encrypted rooms end although a network, its module or the homeserver fails."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path

import pytest

from bridge import sdk
from bridge.core.portals.portals import Portals
from bridge.core.traffic.doorway import Doorway
from bridge.sdk.events import RemoteChat, RemoteRemark
from bridge.sdk.ids import InstanceId, RemoteChatId, RemoteMessageId, RoomId, UserId
from bridge.sdk.login import LoginKind
from bridge.settings.records import DatabaseSettings
from tests.conformance.stage import ALICE, ROOM, Play, ask, play
from tests.rigs.scripted_homeserver import SERVER, Answer, Asked, refuse
from tests.rigs.trestle import wait_until
from tests.rigs.vivid_bridge import Vivid, VividClient

NEAR, FAR = InstanceId("near"), InstanceId("far")
OVER = "This channel is no longer bridged to Matrix"
ENCRYPTED = Answer(content={"algorithm": "m.megolm.v1.aes-sha2"})
AWAY = refuse(503, "M_UNKNOWN")


class HalfThere(VividClient):
    """A client that reaches the network ``near`` alone."""

    async def run(self) -> None:
        if self._login.name == NEAR:
            await super().run()
        await asyncio.Event().wait()


class Crashing(VividClient):
    """A client that fails whatever it is to say, and when it is to leave."""

    async def join(self, chat: RemoteChat) -> None:
        pass

    async def leave(self, chat: RemoteChat, reason: str) -> None:
        raise RuntimeError("nobody leaves")

    async def send(self, message: sdk.Message) -> sdk.Receipt:
        raise asyncio.CancelledError


ABOUT_ENCRYPTION = ("rooms", f"!secret0:{SERVER}", "state", "m.room.encryption")


class Homeserver:
    """What it answers about encryption, and to whoever makes a room."""

    def __init__(self) -> None:
        self.about_encryption = ENCRYPTED
        self.about_rooms: Answer | None = None

    def answer(self, asked: Asked) -> Answer | None:
        if asked.method == "GET" and asked.parts[2:4] == ("state", "m.room.encryption"):
            return self.about_encryption if asked.parts[1].startswith("!secret") else None
        return self.about_rooms if asked.parts == ("createRoom",) else None


@asynccontextmanager
async def bridges(
    database: DatabaseSettings, folder: Path, chats: Sequence[tuple[InstanceId, str]],
    homeserver: Homeserver | None = None, kind: LoginKind = LoginKind.RELAY,
) -> AsyncIterator[tuple[Play, list[Doorway]]]:  # fmt: skip
    """Run Trestle with a room for each of the chats; ``kind``: whose login each chat is."""
    modules: dict[str, tuple[str, dict[str, object]]] = {NEAR: ("vivid", {}), FAR: ("vivid", {})}
    rules = [(homeserver or Homeserver()).answer]
    async with play(database, folder, modules=modules, rules=rules) as stage:
        parts = stage.app.parts
        await wait_until(lambda: all(one.is_open for one in parts.instances.values()))
        doors = []
        for number, (instance, name) in enumerate(chats):
            row = None
            if kind is not LoginKind.RELAY:
                row = await parts.accounts.get_or_add_login(instance, kind, UserId(ALICE))
            doors.append(await parts.portals.add(
                instance=instance, chat=RemoteChat(id=RemoteChatId(name), name=name),
                room=RoomId(f"!secret{number}:{SERVER}"), created_by=UserId(ALICE),
                receiver=None if row is None else row.id,
            ))  # fmt: skip
        yield stage, doors


async def note(stage: Play, *doors: Doorway) -> None:
    """Have it known that the rooms are encrypted."""
    for door in doors:
        await stage.app.parts.encryption.note(door.portal.room)


def is_over(portals: Portals, door: Doorway) -> bool:
    """Whether it is no bridge any more."""
    return portals.numbered(door.portal.id) is None


def told(stage: Play) -> list[str]:
    """What Alice was told of the end."""
    return [said.text for said in stage.homeserver.said if "has ended" in said.text]


def looks(stage: Play, door: Doorway) -> list[float]:
    """When it was asked whether the room is encrypted."""
    found = stage.homeserver.of("GET", "rooms", door.portal.room, "state", "m.room.encryption")
    return [asked.at for asked in found]


async def test_a_network_that_is_away_holds_up_the_end_of_no_other_bridge(
    database_settings: DatabaseSettings, folder: Path, vivid: Vivid
) -> None:
    vivid.client = HalfThere
    chats = [*((FAR, f"chat {number}") for number in range(12)), (NEAR, "hall")]
    async with bridges(database_settings, folder, chats) as (stage, doors):
        parts = stage.app.parts
        parts.encrypted_rooms.connect_seconds = 3600.0
        await note(stage, *doors)
        await wait_until(partial(is_over, parts.portals, doors[-1]))
        assert [text.startswith(OVER) for text in vivid.texts()] == [True]
        # They wait for their network, so that those there hear of it; nothing crosses meanwhile.
        assert [door for door in parts.portals.all if door.is_shut] == doors[:-1]
        await wait_until(lambda: len(told(stage)) == len(doors))


async def test_neither_a_module_that_crashes_nor_a_network_that_stays_away_holds_up_an_end(
    database_settings: DatabaseSettings, folder: Path, vivid: Vivid
) -> None:
    clients = {NEAR: Crashing, FAR: HalfThere}
    vivid.client = lambda login, host: clients[InstanceId(login.name)](login, host)
    chats = [(NEAR, "hall"), (FAR, "den")]
    async with bridges(database_settings, folder, chats) as (stage, doors):
        parts = stage.app.parts
        parts.encrypted_rooms.connect_seconds = 0.1
        await note(stage, *doors)
        await wait_until(lambda: not parts.portals.all and len(told(stage)) == 2)
        assert len(parts.encrypted_rooms.troubles()) == 2
        assert not vivid.texts()


async def test_a_direct_chat_that_cannot_end_yet_ends_when_the_homeserver_is_back(
    database_settings: DatabaseSettings, folder: Path, vivid: Vivid
) -> None:
    homeserver = Homeserver()
    homeserver.about_rooms = AWAY
    chats = [(NEAR, "carl")]
    kind = LoginKind.AUTOMATIC
    async with bridges(database_settings, folder, chats, homeserver, kind) as (stage, (door,)):
        parts = stage.app.parts
        parts.encrypted_rooms.pauses = (0.1, 0.1)
        await note(stage, door)
        await wait_until(lambda: len(looks(stage, door)) > 2)
        assert not is_over(parts.portals, door)
        homeserver.about_rooms = None
        await wait_until(partial(is_over, parts.portals, door))
        await wait_until(lambda: bool(told(stage)))
        (text,) = told(stage)
        assert text.startswith("Your chat with carl on near has ended")
        assert not vivid.texts()
        assert not parts.encrypted_rooms.troubles()


async def test_what_is_said_in_a_direct_chat_that_cannot_end_yet_comes_in_the_next_one(
    database_settings: DatabaseSettings, folder: Path, vivid: Vivid,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    homeserver, carl = Homeserver(), RemoteChatId("carl")
    homeserver.about_rooms = AWAY
    kind = LoginKind.AUTOMATIC
    async with bridges(database_settings, folder, [(NEAR, carl)], homeserver, kind) as made:
        stage, (door,) = made
        parts = stage.app.parts
        parts.encrypted_rooms.pauses = (0.1, 0.1)
        stage.homeserver.rooms[door.portal.room] = {ALICE, parts.namespaces.bot}
        session = await parts.instances[NEAR].session_of(UserId(ALICE), "alice")
        await note(stage, door)
        await wait_until(lambda: len(looks(stage, door)) > 2)
        said = replace(vivid.message("Carl", "m1", "still here"), chat=carl, direct=True)
        remark = RemoteRemark(chat=carl, id=RemoteMessageId("r1"), text="Carl is away")
        await session.client._host.receive(remark)  # Nobody waits for that.
        async with asyncio.TaskGroup() as group:
            group.create_task(session.client._host.receive(said))
            await wait_until(lambda: "An event waits to be stored" in caplog.text)
            homeserver.about_rooms = None
        (other,) = parts.portals.all
        assert (other.portal.chat, other.portal.receiver) == (carl, session.row.id)
        await wait_until(lambda: stage.homeserver.texts(other.portal.room) == ["still here"])
        assert is_over(parts.portals, door)
        assert await parts.aside.all() == []


async def test_it_is_looked_more_seldom_until_something_new_is_noted(
    database_settings: DatabaseSettings, folder: Path, vivid: Vivid
) -> None:
    homeserver = Homeserver()
    homeserver.about_rooms = AWAY
    chats = [(NEAR, "hall"), (NEAR, "den")]
    async with bridges(database_settings, folder, chats, homeserver) as (stage, (first, second)):
        stage.app.parts.encrypted_rooms.pauses = (0.2, 3600.0)
        await note(stage, first)
        await wait_until(lambda: len(looks(stage, first)) == 6)
        before = looks(stage, first)
        gaps = [later - earlier for earlier, later in pairwise(before)]
        assert all(gap >= 0.19 * 2**number for number, gap in enumerate(gaps))
        await note(stage, second)
        await wait_until(lambda: len(looks(stage, second)) == 2)
        # The next of the old ones would have come after as long as all of these together.
        assert looks(stage, second)[1] - before[-1] < before[-1] - before[0]


async def test_a_bridge_whose_room_turns_out_to_be_clear_while_its_end_waits_is_heard_again(
    database_settings: DatabaseSettings, folder: Path, vivid: Vivid
) -> None:
    homeserver, chats = Homeserver(), [(NEAR, "hall")]
    homeserver.about_encryption, homeserver.about_rooms = refuse(403, "M_FORBIDDEN"), AWAY
    async with bridges(database_settings, folder, chats, homeserver) as (stage, (door,)):
        stage.app.parts.encrypted_rooms.pauses = (0.1, 0.1)
        await note(stage, door)
        await wait_until(lambda: door.is_shut and len(looks(stage, door)) > 1)
        homeserver.about_encryption = refuse(404, "M_NOT_FOUND")
        await wait_until(lambda: not door.is_shut)
        await door.receive(vivid.message("Carl", "m1", "still here"))
        await wait_until(lambda: stage.homeserver.texts(door.portal.room) == ["still here"])


@pytest.mark.parametrize("question", [ABOUT_ENCRYPTION, ("createRoom",)])
async def test_a_bridge_that_moves_on_while_the_homeserver_is_asked_stays_and_nobody_is_told(
    database_settings: DatabaseSettings, folder: Path, vivid: Vivid, question: tuple[str, ...]
) -> None:
    asked_it, may_answer, new = asyncio.Event(), asyncio.Event(), RoomId(ROOM)

    def hold(asked: Asked) -> asyncio.Event | None:
        if asked.parts[: len(question)] != question:
            return None
        asked_it.set()
        return may_answer

    async with bridges(database_settings, folder, [(NEAR, "hall")]) as (stage, (door,)):
        parts, old = stage.app.parts, door.portal.room
        stage.homeserver.hold = hold
        await note(stage, door)
        await asked_it.wait()
        await parts.portals.move(door, new, UserId(ALICE))
        may_answer.set()
        await wait_until(lambda: door.ends_in == old and not parts.encrypted_rooms._at_work)
        assert parts.portals.all == [door]
        assert not door.is_shut
        await door.receive(vivid.message("Carl", "m1", "still here"))
        await stage.homeserver.wait_until(lambda: "still here" in stage.homeserver.texts(new))
        assert await stage.put(ask("so am I", new)) == 200
        await vivid.wait_until(lambda network: bool(network.texts()))
        assert ["so am I" in text for text in vivid.texts()] == [True]
        assert not told(stage)
        assert not parts.encrypted_rooms.troubles()
