"""A request is settled in time, whatever becomes of the command that made it."""

import asyncio
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from bridge.core.consent.consents import Consents
from bridge.core.host.instances import Instance
from bridge.core.portals.plumbing import Plumbing
from bridge.core.portals.portals import Portals
from bridge.model import SystemClock
from bridge.sdk.events import ConsentRequest, RemoteChat, RemoteUser
from bridge.settings.records import DatabaseSettings
from bridge.storage.consents import ConsentStore
from bridge.storage.pool import Database
from tests.core.ground import ALICE, CHAT, NEAR, ROOM, Ground
from tests.rigs.trestle import wait_until


class Others(Ground):
    """A network of others that never says whom it asked."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[ConsentRequest] = []
        self.name, self.blocks = NEAR, self
        cast(Any, self.house).blocks = self

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

    def find_door(self, *of: object) -> None:
        """Have it tied to no room."""


async def test_a_request_whose_command_was_cut_off_is_settled_when_its_time_is_over(
    database_settings: DatabaseSettings, folder: Path
) -> None:
    others = Others()
    async with Database.open(database_settings, folder, SystemClock()) as database:
        consents = Consents(
            others.house, cast(Portals, SimpleNamespace()), cast(Plumbing, others),
            ConsentStore(database),
        )  # fmt: skip
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
