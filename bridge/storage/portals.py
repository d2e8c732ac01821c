"""Portals, what crossed them, and which rooms our bots are in."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import asyncpg

from bridge.model import (
    Follow,
    ItemId,
    LinkKind,
    Members,
    MessageLink,
    Portal,
    Puppets,
    Telling,
    Uncertain,
)
from bridge.sdk.errors import PermanentFailure
from bridge.sdk.ids import EventId, InstanceId, LoginId, RemoteChatId, RoomId, UserId
from bridge.storage.arrays import but_for, packed
from bridge.storage.door import at_the_door
from bridge.storage.pool import Database

_LONGEST_ID = 1000
"""Bytes of a message's id on a network: its index takes little more than twice that."""
_NOTE_NEWEST = (
    "INSERT INTO room (room, newest) SELECT * FROM unnest($1::text[], $2::bytea[]) "
    "ON CONFLICT (room) DO UPDATE SET newest = excluded.newest"
)


class PortalStore:
    """Rooms tied to remote chats."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(
        self,
        *,
        instance: InstanceId,
        chat: RemoteChatId,
        chat_name: str,
        room: RoomId,
        receiver: LoginId | None = None,
        created_by: UserId | None = None,
        follow: Follow = Follow.TOPIC,
        members: Members | None = None,
    ) -> Portal:
        """Store a portal. Raises ``PermanentFailure`` if the chat or the room has one already."""
        if "\0" in chat + chat_name:
            raise PermanentFailure("a chat's name cannot hold a zero character")
        try:
            with at_the_door():
                row = await self._database.core.fetchrow(
                    "INSERT INTO portal (instance, chat, chat_name, room, receiver, created_by, "
                    "paused, made_at, follow, members) "
                    "VALUES ($1, $2, $3, $4, $5, $6, false, $7, $8, $9) RETURNING *",
                    instance, chat, chat_name, room, receiver, created_by,
                    self._database.clock.now(), follow.value,
                    None if members is None else members.value,
                )  # fmt: skip
        except asyncpg.UniqueViolationError as error:
            raise PermanentFailure(f"{chat_name} on {instance} is bridged already") from error
        assert row is not None  # noqa: S101 - RETURNING gives the row
        return _portal(row)

    async def remove(self, portal_id: int) -> None:
        """Forget a portal and what crossed it."""
        with at_the_door():
            async with self._database.core.acquire() as connection, connection.transaction():
                await connection.execute("DELETE FROM message WHERE portal = $1", portal_id)
                await connection.execute("DELETE FROM portal WHERE id = $1", portal_id)

    async def all(self) -> Sequence[Portal]:
        """Every portal, oldest first."""
        with at_the_door():
            rows = await self._database.core.fetch("SELECT * FROM portal ORDER BY id")
        return [_portal(row) for row in rows]

    async def set_chat(self, portal_id: int, chat: RemoteChatId, name: str) -> None:
        """Note how the chat is called now. Raises ``PermanentFailure`` if another is."""
        try:
            with at_the_door():
                await self._database.core.execute(
                    "UPDATE portal SET chat = $2, chat_name = $3 WHERE id = $1",
                    portal_id, chat, name,
                )  # fmt: skip
        except asyncpg.UniqueViolationError as error:
            raise PermanentFailure(f"{name} is the name of another chat") from error

    async def set_paused(self, portal_id: int, paused: bool) -> None:
        """Note whether nothing crosses."""
        with at_the_door():
            await self._database.core.execute(
                "UPDATE portal SET paused = $2 WHERE id = $1", portal_id, paused
            )

    async def set_blocked(self, portal_id: int, blocked: bool) -> None:
        """Note whether nothing comes in because somebody reads who is not seen in the chat."""
        with at_the_door():
            await self._database.core.execute(
                "UPDATE portal SET blocked = $2 WHERE id = $1", portal_id, blocked
            )

    async def set_choices(self, portal: Portal) -> None:
        """Note what the room's people chose, as it stands in the portal."""
        puppets = None if portal.puppets is None else portal.puppets.value
        with at_the_door():
            await self._database.core.execute(
                "UPDATE portal SET uncertain = $2, telling = $3, puppets = $4, relay_name = $5, "
                "relay = $6, follow = $7, privacy = $8, members = $9 "
                "WHERE id = $1",
                portal.id, portal.uncertain.value, portal.telling.value, puppets,
                portal.relay_name, portal.relay, portal.follow.value, portal.privacy,
                None if portal.members is None else portal.members.value,
            )  # fmt: skip

    async def set_access(
        self, portal_id: int, *, listed: bool, is_open: bool | None, closed: bool
    ) -> None:
        """Note who sees the chat and may come into it, and whether we closed the room for it.

        ``is_open``: None if it is not known, or the room does not follow it yet.
        """
        with at_the_door():
            await self._database.core.execute(
                "UPDATE portal SET listed = $2, open = $3, closed = $4 WHERE id = $1",
                portal_id, listed, is_open, closed,
            )  # fmt: skip

    async def set_quieted(self, portal_id: int, quieted: bool) -> None:
        """Note whether we let only those speak in the room who are heard in the chat."""
        with at_the_door():
            await self._database.core.execute(
                "UPDATE portal SET quieted = $2 WHERE id = $1", portal_id, quieted
            )

    async def set_shut_out(self, portal_id: int, shut_out: bool) -> None:
        """Note whether the room was told that the relay is out of the chat."""
        with at_the_door():
            await self._database.core.execute(
                "UPDATE portal SET shut_out = $2 WHERE id = $1", portal_id, shut_out
            )

    async def set_left_out(self, portal_id: int, item: ItemId) -> None:
        """Note up to which item what waited too long is left out."""
        with at_the_door():
            await self._database.core.execute(
                "UPDATE portal SET left_out = $2 WHERE id = $1", portal_id, str(item)
            )

    async def find_message(self, portal_id: int, event_id: EventId) -> Sequence[MessageLink]:
        """The parts that an event of the portal is; empty if it did not cross, or long ago."""
        with at_the_door():
            rows = await self._database.core.fetch(
                "SELECT * FROM message WHERE portal = $1 AND event_id = $2 ORDER BY part",
                portal_id, event_id,
            )  # fmt: skip
        return [link_of(row) for row in rows]

    async def find_remote(self, portal_id: int, remote_id: str) -> Sequence[MessageLink]:
        """The events that a message of the network is in the portal, in the order of its parts, of
        one part the oldest first."""
        with at_the_door():
            rows = await self._database.core.fetch(
                "SELECT * FROM message WHERE portal = $1 AND remote_id = $2 "
                "ORDER BY part, confirmed_at",
                portal_id, remote_bytes(remote_id),
            )  # fmt: skip
        return [link_of(row) for row in rows]


class BotRooms:
    """Where our bots are, whom they told what, and which rooms are encrypted."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add_bot_room(self, user: UserId, room: RoomId, direct_with: UserId | None) -> None:
        """Note that the bot is in the room, maybe as a direct chat with a person."""
        with at_the_door():
            await self._database.core.execute(
                "INSERT INTO bot_room (user_id, room, direct_with, since) "
                "VALUES ($1, $2, $3, $4) ON CONFLICT (user_id, room) "
                "DO UPDATE SET direct_with = excluded.direct_with",
                user, room, direct_with, self._database.clock.now(),
            )  # fmt: skip

    async def keep_bot_room(self, user: UserId, room: RoomId) -> None:
        """Note that the bot is in the room; what was noted of it before stays."""
        with at_the_door():
            await self._database.core.execute(
                "INSERT INTO bot_room (user_id, room, since) VALUES ($1, $2, $3) "
                "ON CONFLICT (user_id, room) DO NOTHING",
                user, room, self._database.clock.now(),
            )  # fmt: skip

    async def remove_bot_room(self, user: UserId, room: RoomId) -> None:
        """Note that the bot is no longer in the room."""
        with at_the_door():
            await self._database.core.execute(
                "DELETE FROM bot_room WHERE (user_id, room) = ($1, $2)", user, room
            )

    async def bot_rooms(self) -> Sequence[tuple[UserId, RoomId, UserId | None]]:
        """All rooms of all bots: (bot, room, direct chat with)."""
        with at_the_door():
            rows = await self._database.core.fetch(
                "SELECT user_id, room, direct_with FROM bot_room ORDER BY since"
            )
        return [(row["user_id"], row["room"], row["direct_with"]) for row in rows]

    async def was_told(self, person: UserId, what: str) -> bool:
        """Whether the person was told before."""
        return await self.told_at(person, what) is not None

    async def told_at(self, person: UserId, what: str) -> datetime | None:
        """When the person was told; None if that never was."""
        with at_the_door():
            at: datetime | None = await self._database.core.fetchval(
                "SELECT at FROM told WHERE (subject, what) = ($1, $2)", person, what
            )
        return at

    async def note_told(self, person: UserId, what: str) -> None:
        """Note that the person was told."""
        with at_the_door():
            await self._database.core.execute(
                "INSERT INTO told (subject, what, at) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
                person, what, self._database.clock.now(),
            )  # fmt: skip

    async def forget_told(self, person: UserId, what: str) -> None:
        """Have the person told again when it happens again."""
        with at_the_door():
            await self._database.core.execute(
                "DELETE FROM told WHERE (subject, what) = ($1, $2)", person, what
            )

    async def mark_encrypted(self, room: RoomId) -> None:
        """Note that the room is encrypted. Once it is, it stays so."""
        with at_the_door():
            await self._database.core.execute(
                "INSERT INTO room (room, encrypted_since) VALUES ($1, $2) ON CONFLICT (room) "
                "DO UPDATE SET encrypted_since = coalesce(room.encrypted_since, "
                "excluded.encrypted_since)",
                room, self._database.clock.now(),
            )  # fmt: skip

    async def unmark_encrypted(self, room: RoomId) -> None:
        """Take the mark back: the room never was encrypted."""
        with at_the_door():
            await self._database.core.execute(
                "UPDATE room SET encrypted_since = NULL WHERE room = $1", room
            )

    async def encrypted_rooms(self) -> set[RoomId]:
        """The rooms known to be encrypted."""
        with at_the_door():
            rows = await self._database.core.fetch(
                "SELECT room FROM room WHERE encrypted_since IS NOT NULL"
            )
        return {RoomId(row["room"]) for row in rows}

    async def newest(self) -> dict[RoomId, bytes]:
        """The key of the newest event known of each room, where one is noted."""
        with at_the_door():
            rows = await self._database.core.fetch(
                "SELECT room, newest FROM room WHERE newest IS NOT NULL"
            )
        return {RoomId(row["room"]): row["newest"] for row in rows}

    async def is_restored(self) -> bool:
        """Whether the database was restored since rooms were looked at."""
        with at_the_door():
            return bool(await self._database.core.fetchval(
                "SELECT looked < generation FROM instance_state"
            ))  # fmt: skip

    async def start_over(self, marks: Mapping[RoomId, bytes]) -> None:
        """Note that these are the newest events since the restore, and forget all others."""
        with at_the_door():
            async with self._database.core.acquire() as connection, connection.transaction():
                await connection.execute("UPDATE room SET newest = NULL")
                await connection.execute(_NOTE_NEWEST, list(marks), list(marks.values()))
                await connection.execute("UPDATE instance_state SET looked = generation")

    async def note_newest(self, fresh: Mapping[RoomId, bytes], *, ours: Sequence[RoomId]) -> None:
        """Note the newest events; forget those of rooms that are not among ``ours`` any more."""
        core = self._database.core
        with at_the_door():
            await core.execute(_NOTE_NEWEST, list(fresh), list(fresh.values()))
            await core.execute(
                "DELETE FROM room WHERE encrypted_since IS NULL AND room <> ALL($1::text[])",
                list(ours),
            )


def _portal(row: asyncpg.Record) -> Portal:
    return Portal(
        id=row["id"],
        instance=InstanceId(row["instance"]),
        chat=RemoteChatId(row["chat"]),
        chat_name=row["chat_name"],
        room=RoomId(row["room"]),
        former_rooms=tuple(RoomId(room) for room in row["former_rooms"]),
        receiver=None if row["receiver"] is None else LoginId(row["receiver"]),
        created_by=None if row["created_by"] is None else UserId(row["created_by"]),
        paused=row["paused"],
        uncertain=Uncertain(row["uncertain"]),
        telling=Telling(row["telling"]),
        follow=Follow(row["follow"]),
        listed=row["listed"],
        open=row["open"],
        closed=row["closed"],
        quieted=row["quieted"],
        shut_out=row["shut_out"],
        puppets=None if row["puppets"] is None else Puppets(row["puppets"]),
        relay_name=row["relay_name"],
        relay=None if row["relay"] is None else LoginId(row["relay"]),
        members=None if row["members"] is None else Members(row["members"]),
        privacy=row["privacy"],
        blocked=row["blocked"],
        left_out=None if row["left_out"] is None else ItemId.read(row["left_out"]),
    )


def link_of(row: asyncpg.Record) -> MessageLink:
    """Read a row of ``message``."""
    remote_id = row["remote_id"]
    return MessageLink(
        portal=row["portal"],
        event_id=EventId(row["event_id"]),
        remote_id=None if remote_id is None else remote_id.decode("utf-8", "surrogatepass"),
        part=row["part"],
        sender=UserId(row["sender"]),
        room=RoomId(row["room"]),
        kind=LinkKind(row["kind"]),
        received_at=row["received_at"],
        laned_at=row["laned_at"],
        sent_at=row["sent_at"],
        confirmed_at=row["confirmed_at"],
    )


def link_columns(links: Sequence[MessageLink]) -> list[Any]:
    """The columns of ``message`` behind the day, each with a value for each link.

    The portals are :func:`packed`; of parts and kinds the usual ones (0, a message) may be left
    out.
    """
    return [
        packed(one.portal for one in links),
        [one.event_id for one in links],
        [remote_bytes(one.remote_id) for one in links],
        but_for(0, [one.part for one in links]),
        [one.sender for one in links],
        [one.room for one in links],
        but_for(LinkKind.MESSAGE, [one.kind for one in links]),
        [one.received_at for one in links],
        [one.laned_at for one in links],
        [one.sent_at for one in links],
        [one.confirmed_at for one in links],
    ]


def remote_bytes(remote_id: str | None) -> bytes | None:
    """A network's id as it is stored: networks have ids that are no Unicode.

    What is too long for one is none: the message crosses, and nothing can be about it later.
    """
    encoded = (remote_id or "").encode("utf-8", "surrogatepass")
    return None if remote_id is None or len(encoded) > _LONGEST_ID else encoded
