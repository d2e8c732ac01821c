"""A request is settled in time, and what was ended is untied when the homeserver lets us."""

import asyncio
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from bridge.core.consent.consents import Consents
from bridge.core.host.instances import Instance
from bridge.core.portals.plumbing import Plumbing
from bridge.core.portals.portals import Portals
from bridge.core.traffic.doorway import Doorway
from bridge.matrix.client import HomeserverAway
from bridge.model import SystemClock
from bridge.sdk.events import ConsentRequest, RemoteChat, RemoteUser
from bridge.sdk.ids import UserId
from bridge.settings.records import DatabaseSettings
from bridge.storage.consents import ConsentStore
from bridge.storage.pool import Database
from tests.core.ground import ALICE, CHAT, NEAR, ROOM, Ground
from tests.rigs.trestle import wait_until


class Others(Ground):
    """A network of others that never says whom it asked, and what ties its chat."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[ConsentRequest] = []
        self.name, self.blocks = NEAR, self
        cast(Any, self.house).blocks = self
        self.door: Doorway | None = None
        self.untied = 0
        """How often it was tried to untie it."""

    async def room_name(self, room: str) -> str:
        """Call it by its id."""
        return room

    async def try_now(self) -> None:
        """Be there."""

    async def ask(self, request: ConsentRequest) -> list[RemoteUser]:
        """Never come back."""
        self.asked.append(request)
        await asyncio.Event().wait()
        return []

    # --- the plumbing ---

    async def read_chat(self, instance: Instance, text: str, limit: float) -> RemoteChat:
        """The one that there is."""
        return RemoteChat(id=CHAT, name=CHAT)

    async def check(self, *of: object) -> None:
        """Have it tied to no room."""

    def needs_consent(self, *of: object) -> bool:
        """Leave it to those who run it."""
        return True

    def find_door(self, *of: object) -> Doorway | None:
        """What it is tied to."""
        return self.door

    async def halt(self, door: Doorway, by: UserId) -> None:
        """Have nothing cross."""

    async def leave(self, door: Doorway, reason: str) -> None:
        """Leave it."""

    async def unbridge(self, door: Doorway, by: UserId, reason: str) -> None:
        """Have the homeserver ask for patience."""
        self.untied += 1
        raise HomeserverAway("it asks for patience", retry_after=0.1)

    def consents(self, database: Database) -> Consents:
        """Of its chat."""
        portals, plumbing = cast(Portals, SimpleNamespace()), cast(Plumbing, self)
        return Consents(self.house, portals, plumbing, ConsentStore(database))


async def test_a_request_whose_command_was_cut_off_is_settled_when_its_time_is_over(
    database_settings: DatabaseSettings, folder: Path
) -> None:
    others = Others()
    async with Database.open(database_settings, folder, SystemClock()) as database:
        consents = others.consents(database)
        async with asyncio.TaskGroup() as group:
            run = group.create_task(consents.run())
            command = group.create_task(consents.bridge(cast(Instance, others), CHAT, ROOM, ALICE))
            await wait_until(lambda: bool(others.asked))
            command.cancel()
            past = database.clock.now() - timedelta(seconds=1)
            await database.core.execute("UPDATE consent SET answer_by = $1", past)
            await wait_until(lambda: bool(others.waiting), 20)
            run.cancel()
    (said,) = others.waiting
    assert "nobody who runs it has answered in time" in said.content["body"]


async def test_a_homeserver_that_asks_for_patience_is_not_asked_to_untie_a_room_before_that(
    database_settings: DatabaseSettings, folder: Path
) -> None:
    others = Others()
    door = others.door = Doorway(others.portal, others.house)
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
