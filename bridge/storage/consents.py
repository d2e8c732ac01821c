"""Who was asked to let a chat be bridged, and until when an answer counts."""

from collections.abc import Sequence
from datetime import datetime

import asyncpg

from bridge.model import Asked, AskedState
from bridge.sdk.ids import InstanceId, RemoteChatId, RoomId, UserId
from bridge.storage.door import at_the_door
from bridge.storage.pool import Database


class ConsentStore:
    """At most one request a chat."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def find(self, instance: InstanceId, chat: RemoteChatId) -> Asked | None:
        """The request about a chat, also one that was refused or not answered."""
        with at_the_door():
            row = await self._database.core.fetchrow(
                "SELECT * FROM consent WHERE instance = $1 AND chat = $2", instance, chat
            )
        return None if row is None else _asked(row)

    async def put(self, asked: Asked) -> None:
        """Note the request, instead of what was known of the chat."""
        with at_the_door():
            await self._database.core.execute(
                "INSERT INTO consent (instance, chat, chat_name, room, room_name, subject, state, "
                "asked_at, answer_by, until) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) "
                "ON CONFLICT (instance, chat) DO UPDATE SET chat_name = $3, room = $4, "
                "room_name = $5, subject = $6, state = $7, asked_at = $8, answer_by = $9, "
                "until = $10",
                asked.instance, asked.chat, asked.chat_name, asked.room, asked.room_name,
                asked.by, asked.state.value, asked.at, asked.until, asked.again_at,
            )  # fmt: skip

    async def settle(
        self, asked: Asked, state: AskedState, again_at: datetime | None = None
    ) -> None:
        """Note what came of a request, and when it may be made again."""
        with at_the_door():
            await self._database.core.execute(
                "UPDATE consent SET state = $3, until = $4 WHERE instance = $1 AND chat = $2",
                asked.instance, asked.chat, state.value, again_at or asked.again_at,
            )  # fmt: skip

    async def forget(self, instance: InstanceId, chat: RemoteChatId) -> None:
        """Know nothing of a request about the chat."""
        with at_the_door():
            await self._database.core.execute(
                "DELETE FROM consent WHERE instance = $1 AND chat = $2", instance, chat
            )

    async def open(self) -> Sequence[Asked]:
        """The requests that nobody has answered yet, those whose time is over too."""
        with at_the_door():
            rows = await self._database.core.fetch(
                "SELECT * FROM consent WHERE state = 'asked' ORDER BY answer_by"
            )
        return [_asked(row) for row in rows]


class BlockStore:
    """Rows of (instance, chat, Matrix user or homeserver)."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def all(self) -> set[tuple[InstanceId, RemoteChatId, str]]:
        """Every one."""
        with at_the_door():
            rows = await self._database.core.fetch(
                "SELECT instance, chat, subject FROM chat_block"
            )
        return {
            (InstanceId(row["instance"]), RemoteChatId(row["chat"]), row["subject"])
            for row in rows
        }

    async def add(self, instance: InstanceId, chat: RemoteChatId, whom: str) -> None:
        """Note that the chat takes nothing of them."""
        with at_the_door():
            await self._database.core.execute(
                "INSERT INTO chat_block (instance, chat, subject, since) VALUES ($1, $2, $3, $4) "
                "ON CONFLICT DO NOTHING",
                instance, chat, whom, self._database.clock.now(),
            )  # fmt: skip

    async def remove(self, instance: InstanceId, chat: RemoteChatId, whom: str) -> None:
        """Note that the chat takes what they say again."""
        with at_the_door():
            await self._database.core.execute(
                "DELETE FROM chat_block WHERE instance = $1 AND chat = $2 AND subject = $3",
                instance, chat, whom,
            )  # fmt: skip


def _asked(row: asyncpg.Record) -> Asked:
    return Asked(
        instance=InstanceId(row["instance"]),
        chat=RemoteChatId(row["chat"]),
        chat_name=row["chat_name"],
        room=RoomId(row["room"]),
        room_name=row["room_name"],
        by=UserId(row["subject"]),
        state=AskedState(row["state"]),
        at=row["asked_at"],
        until=row["answer_by"],
        again_at=row["until"],
    )
