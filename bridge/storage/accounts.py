"""Logins, our users' devices, and remote ids too long to stand in a Matrix id."""

import secrets
from collections.abc import Sequence

import asyncpg

from bridge.model import LoginRow
from bridge.sdk.ids import InstanceId, LoginId, UserId
from bridge.sdk.login import LoginKind
from bridge.storage.door import at_the_door
from bridge.storage.pool import Database


class Accounts:
    """Who is who."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def get_or_add_login(
        self, instance: InstanceId, kind: LoginKind, owner: UserId | None
    ) -> LoginRow:
        """Give the login of that kind and owner, made if there is none. Not for ``PERSON``."""
        with at_the_door():
            row = await self._database.core.fetchrow(
                "INSERT INTO login (instance, kind, subject, made_at) VALUES ($1, $2, $3, $4) "
                "ON CONFLICT (instance, kind, subject) WHERE kind <> 'person' "
                "DO UPDATE SET kind = excluded.kind "
                "RETURNING *",
                instance, kind.value, owner, self._database.clock.now(),
            )  # fmt: skip
        assert row is not None  # noqa: S101 - RETURNING gives the row
        return _login(row)

    async def link_login(self, instance: InstanceId, owner: UserId, name: str) -> LoginRow:
        """Give the person's login of that name on the network, made if there is none.

        The first on an instance is the preferred one.
        """
        with at_the_door():
            row = await self._database.core.fetchrow(
                "INSERT INTO login (instance, kind, subject, name, preferred, made_at) "
                "VALUES ($1, 'person', $2, $3, NOT EXISTS (SELECT FROM login "
                "WHERE instance = $1 AND subject = $2 AND preferred), $4) "
                "ON CONFLICT (instance, subject, name) WHERE kind = 'person' "
                "DO UPDATE SET name = excluded.name RETURNING *",
                instance, owner, name, self._database.clock.now(),
            )  # fmt: skip
        assert row is not None  # noqa: S101 - RETURNING gives the row
        return _login(row)

    async def prefer_login(self, row: LoginRow) -> None:
        """Have this one of its owner's logins on the instance speak."""
        with at_the_door():
            async with self._database.core.acquire() as connection, connection.transaction():
                await connection.execute(
                    "UPDATE login SET preferred = false "
                    "WHERE instance = $1 AND subject = $2 AND preferred",
                    row.instance, row.owner,
                )  # fmt: skip
                await connection.execute("UPDATE login SET preferred = true WHERE id = $1", row.id)

    async def remove_login(self, login: LoginId) -> None:
        """Forget a login. Its credentials go with it."""
        with at_the_door():
            await self._database.core.execute("DELETE FROM login WHERE id = $1", login)

    async def logins(self, instance: InstanceId) -> Sequence[LoginRow]:
        """All logins of an instance."""
        with at_the_door():
            rows = await self._database.core.fetch(
                "SELECT * FROM login WHERE instance = $1 ORDER BY id", instance
            )
        return [_login(row) for row in rows]

    async def personal_logins(self) -> Sequence[LoginRow]:
        """All logins that people signed in to."""
        with at_the_door():
            rows = await self._database.core.fetch("SELECT * FROM login WHERE kind = 'person'")
        return [_login(row) for row in rows]

    async def send_device(self, user: UserId) -> str:
        """The fixed device id under which the user sends: the homeserver remembers by it."""
        with at_the_door():
            device = await self._database.core.fetchval(
                "INSERT INTO device (user_id, send_device) VALUES ($1, $2) "
                "ON CONFLICT (user_id) DO UPDATE SET user_id = excluded.user_id "
                "RETURNING send_device",
                user, f"TRESTLE{secrets.token_hex(6).upper()}",
            )  # fmt: skip
        return str(device)

    async def note_long_id(self, spelled: str, instance: InstanceId, remote_id: str) -> None:
        """Remember what a shortened Matrix id stands for."""
        with at_the_door():
            await self._database.core.execute(
                "INSERT INTO long_id (user_id, instance, remote_id) VALUES ($1, $2, $3) "
                "ON CONFLICT DO NOTHING",
                spelled, instance, remote_id.encode("utf-8", "surrogatepass"),
            )  # fmt: skip

    async def long_ids(self) -> dict[str, tuple[InstanceId, str]]:
        """All shortened Matrix ids, of people and of chats."""
        with at_the_door():
            rows = await self._database.core.fetch("SELECT * FROM long_id")
        return {
            row["user_id"]: (
                InstanceId(row["instance"]), row["remote_id"].decode("utf-8", "surrogatepass")
            )
            for row in rows
        }  # fmt: skip


def _login(row: asyncpg.Record) -> LoginRow:
    return LoginRow(
        id=LoginId(row["id"]),
        instance=InstanceId(row["instance"]),
        kind=LoginKind(row["kind"]),
        owner=None if row["subject"] is None else UserId(row["subject"]),
        name=row["name"],
        preferred=row["preferred"],
    )
