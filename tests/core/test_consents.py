"""A request is settled in time, and what was ended is untied when the homeserver lets us."""

import asyncio
import logging
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import pytest

from bridge.core.consent.consents import Consents
from bridge.core.portals.plumbing import Plumbing
from bridge.core.portals.portals import Portals
from bridge.core.traffic.doorway import Doorway
from bridge.matrix.client import HomeserverAway
from bridge.model import Asked, AskedState, SystemClock
from bridge.sdk.errors import PermanentFailure, TrestleError
from bridge.sdk.events import ConsentRequest, RemoteChat, RemoteUser
from bridge.sdk.ids import RemoteChatId, RemoteUserId, RoomId, UserId
from bridge.sdk.module import Directory
from bridge.settings.records import DatabaseSettings
from bridge.storage.consents import ConsentStore
from bridge.storage.pool import Database
from tests.core.ground import ALICE, CHAT, NEAR, ROOM, Ground
from tests.core.instances import Line, at_work, network
from tests.rigs.owner import owner_of
from tests.rigs.trestle import wait_until


class Owned(Line):
    """A network all of whose chats are others'."""

    directory = Directory(protocol="line", chat_field="chat", user_field="nick", patterns={})

    async def find_chat(self, text: str) -> RemoteChat:
        return RemoteChat(id=RemoteChatId(text), name=text)

    async def find_user(self, text: str) -> RemoteUser:
        raise PermanentFailure("nobody is looked for")

    def needs_consent(self, chat: RemoteChat) -> bool:
        return True


class Unanswered:
    """A relay that never says whom it asked."""

    def __init__(self) -> None:
        self.asked: list[ConsentRequest] = []
        self.left: list[RemoteChatId] = []
        self.shut = ""
        """Why nobody gets into a chat."""

    async def join(self, chat: RemoteChat) -> None:
        if self.shut:
            raise PermanentFailure(f"{chat.name} cannot be joined: {self.shut}")

    async def leave(self, chat: RemoteChat, reason: str) -> None:
        self.left.append(chat.id)

    async def ask(self, request: ConsentRequest) -> Sequence[RemoteUser]:
        self.asked.append(request)
        await asyncio.Event().wait()
        return ()


class Others(Ground):
    """A network of others, and a homeserver that lets nobody untie a room just now."""

    def __init__(self) -> None:
        super().__init__()
        self.relay = Unanswered()
        self.near = self.instances[NEAR] = network(NEAR, Owned())
        at_work(self.near, self.relay)
        self.portals = Portals(self.house)
        self.plumbing = Plumbing(self.house, self.portals)
        self.plumbing.before_unbridging = self._ask_for_patience
        self.untied = 0
        """How often it was tried to untie one."""

    async def room_name(self, room: str) -> str:
        """Call it by its id."""
        return room

    async def is_encrypted(self, room: RoomId) -> bool:
        """Have it be read by all."""
        return False

    async def _ask_for_patience(self, door: Doorway, by: UserId) -> None:
        self.untied += 1
        raise HomeserverAway("it asks for patience", retry_after=0.1)

    def consents(self, database: Database) -> Consents:
        """Of its chats."""
        return Consents(self.house, self.portals, self.plumbing, ConsentStore(database))


async def test_a_request_whose_command_was_cut_off_is_settled_when_its_time_is_over(
    database_settings: DatabaseSettings, folder: Path
) -> None:
    others = Others()
    async with Database.open(database_settings, folder, SystemClock()) as database:
        consents = others.consents(database)
        async with asyncio.TaskGroup() as group:
            run = group.create_task(consents.run())
            command = group.create_task(consents.bridge(others.near, CHAT, ROOM, ALICE))
            await wait_until(lambda: bool(others.relay.asked))
            command.cancel()
            past = database.clock.now() - timedelta(seconds=1)
            await database.core.execute("UPDATE consent SET answer_by = $1", past)
            await wait_until(lambda: bool(others.waiting), 20)
            run.cancel()
    (said,) = others.waiting
    assert "nobody who runs it has answered in time" in said.content["body"]


async def test_a_yes_counts_in_its_time_alone_and_what_kept_it_from_being_done_is_told(
    database_settings: DatabaseSettings, folder: Path
) -> None:
    others = Others()
    others.members.add(ALICE)
    olga = RemoteUser(id=RemoteUserId("olga"), name="olga")
    tea, den = (RemoteChat(id=RemoteChatId(name), name=name) for name in ("#tea", "#den"))
    async with Database.open(database_settings, folder, SystemClock()) as database:
        consents = others.consents(database)
        async with asyncio.TaskGroup() as group:
            asking = [
                group.create_task(consents.bridge(others.near, chat.id, ROOM, ALICE))
                for chat in (tea, den)
            ]
            await wait_until(lambda: len(others.relay.asked) == 2)
            for one in asking:
                one.cancel()
        others.relay.shut = "it is for invited people only"
        with pytest.raises(PermanentFailure, match="cannot be joined"):
            await consents.agree(NEAR, tea, olga)
        past = database.clock.now() - timedelta(seconds=1)
        await database.core.execute("UPDATE consent SET answer_by = $1", past)
        others.relay.shut = ""
        for chat in (tea, den):
            with pytest.raises(PermanentFailure, match="nobody asks to bridge"):
                await consents.agree(NEAR, chat, olga)
        assert not await consents.look()
    assert sorted(said.content["body"] for said in others.waiting) == [
        "#den on near is not bridged: nobody who runs it has answered in time.",
        "#tea on near is not bridged: olga, who runs it, agreed, but #tea cannot be joined: it is "
        "for invited people only.",
    ]


@pytest.mark.parametrize("is_away", [False, True])
async def test_of_a_yes_that_came_to_nothing_the_room_is_told_and_not_what_is_the_admins(
    database_settings: DatabaseSettings, folder: Path, is_away: bool
) -> None:
    others = Others()
    others.members.add(ALICE)
    olga = RemoteUser(id=RemoteUserId("olga"), name="olga")
    chat = RemoteChat(id=CHAT, name=CHAT)
    async with Database.open(database_settings, folder, SystemClock()) as database:
        consents = others.consents(database)
        async with asyncio.TaskGroup() as group:
            asking = group.create_task(consents.bridge(others.near, CHAT, ROOM, ALICE))
            await wait_until(lambda: bool(others.relay.asked))
            asking.cancel()
        others.is_away = is_away
        others.refusing.add("can")
        with pytest.raises(TrestleError):
            await consents.agree(NEAR, chat, olga)
        others.is_away = False
        past = database.clock.now() - timedelta(seconds=1)
        await database.core.execute("UPDATE consent SET answer_by = $1", past)
        assert not await consents.look()
    (said,) = others.waiting
    assert said.content["body"] == (
        "#room on near is not bridged: olga, who runs it, agreed, but it could not be done just "
        "then."
    )


async def test_a_homeserver_that_asks_for_patience_is_not_asked_to_untie_a_room_before_that(
    database_settings: DatabaseSettings, folder: Path
) -> None:
    others = Others()
    door = others.portals._open(others.portal)
    async with Database.open(database_settings, folder, SystemClock()) as database:
        consents = others.consents(database)
        assert await consents.withdraw(door, ALICE, "as olga wishes")
        consents.untie_soon(door)
        loop = asyncio.get_running_loop()
        begun = loop.time()
        async with asyncio.timeout(10):
            while others.untied < 2:
                assert await consents.look()
        assert loop.time() - begun >= 0.1


async def test_a_database_that_answers_in_a_way_nobody_foresaw_ends_nothing(
    database_settings: DatabaseSettings, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    others = Others()
    async with Database.open(database_settings, folder, SystemClock()) as database:
        consents = others.consents(database)
        owner = await owner_of(database)
        async with asyncio.TaskGroup() as group:
            command = group.create_task(consents.bridge(others.near, CHAT, ROOM, ALICE))
            await wait_until(lambda: bool(others.relay.asked))
            command.cancel()
            past = database.clock.now() - timedelta(seconds=1)
            await database.core.execute("UPDATE consent SET answer_by = $1", past)
            await owner.execute("ALTER TABLE consent RENAME TO elsewhere")
            run = group.create_task(consents.run())
            await wait_until(lambda: len(caplog.records) == 2, 20)
            await owner.execute("ALTER TABLE elsewhere RENAME TO consent")
            await wait_until(lambda: bool(others.waiting), 20)
            run.cancel()
        await owner.close()
    assert [vars(one)["event"] for one in caplog.records] == ["round_failed"] * 2


async def test_a_request_that_cannot_be_settled_holds_up_no_other_and_no_end_of_a_bridge(
    database_settings: DatabaseSettings, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    others = Others()
    door = others.portals._open(others.portal)

    async def refuse() -> None:
        raise PermanentFailure("that cannot be stored")

    async with Database.open(database_settings, folder, SystemClock()) as database:
        consents, store = others.consents(database), ConsentStore(database)
        assert await consents.withdraw(door, ALICE, "as olga wishes")
        consents.untie_soon(door)
        past = database.clock.now() - timedelta(seconds=1)
        for chat in ("#one", "#two"):
            await store.put(Asked(
                instance=NEAR, chat=RemoteChatId(chat), chat_name=chat, room=ROOM, room_name=ROOM,
                by=ALICE, state=AskedState.ASKED, at=past, until=past, again_at=past,
            ))  # fmt: skip
        others.meanwhile["put event"] = refuse
        for _ in range(2):
            assert await consents.look()
            assert len(await store.open()) == 1
            assert others.untied
    (warned,) = [one for one in caplog.records if one.levelno == logging.WARNING]
    assert "on near cannot be settled" in warned.getMessage()


@pytest.mark.parametrize(
    "failure", [KeyError("what is not there"), PermanentFailure("it is refused for good")]
)
async def test_the_relay_leaves_a_chat_whose_room_cannot_be_untied(
    database_settings: DatabaseSettings, folder: Path, failure: Exception,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    others = Others()
    door = others.portals._open(others.portal)

    async def fail(door: Doorway, by: UserId) -> None:
        raise failure

    others.plumbing.before_unbridging = fail
    async with Database.open(database_settings, folder, SystemClock()) as database:
        consents = others.consents(database)
        assert await consents.withdraw(door, ALICE, "as olga wishes")
        consents.untie_soon(door)
        for _ in range(2):
            assert await consents.look()
            assert others.relay.left == [CHAT]
    assert len([one for one in caplog.records if one.levelno >= logging.WARNING]) == 1


async def test_a_bridge_of_a_network_that_is_switched_off_is_shown_by_its_name_alone() -> None:
    others = Others()
    door = others.portals._open(others.portal)
    others.instances.clear()
    await others.plumbing.publish(door, ALICE)
    contents = [entry.content for entry in others.waiting]
    assert [one["protocol"] for one in contents] == [{"id": NEAR, "displayname": NEAR}] * 2
