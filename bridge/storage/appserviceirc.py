"""The Postgres of matrix-appservice-irc, read at one moment and never written to."""

import asyncio
from dataclasses import dataclass, field
from typing import Any

import asyncpg
import orjson

from bridge.sdk.errors import TrestleError
from bridge.storage.door import AWAY, first_line

NEWEST = 9
"""The newest schema that we know."""
_LIMIT = 60.0
_NOT_ITS = (
    "there is no matrix-appservice-irc in that database; is it the one that its config.yaml names "
    "under database.connectionString?"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RoomRow:
    """A row of ``rooms``."""

    room: str
    origin: str
    domain: str
    channel: str
    is_channel: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigRow:
    """A row of ``client_config``."""

    user: str
    domain: str
    config: dict[str, Any] = field(repr=False)
    password: str = field(repr=False)
    """Encrypted; empty if there is none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """What is of use to us."""

    rooms: list[RoomRow]
    configs: list[ConfigRow]
    private_chats: list[tuple[str, str, str]]
    """Who talks to which nick on which network."""
    bot_chats: list[tuple[str, str]]
    """Who talks to its bot in which room."""
    deactivated: frozenset[str]
    """People who are to be bridged no more."""
    features: list[tuple[str, dict[str, Any]]]
    """What people chose for themselves."""
    listed: int
    """How many rooms it has in its list of rooms that are to be found."""
    unread: list[str]
    """Whose choices are no JSON: a person, or one on a network."""


async def read_appservice_irc(url: str) -> Rows:
    """Read it all. Raises ``TrestleError`` with the way out."""
    try:
        async with asyncio.timeout(_LIMIT):
            connection = await asyncpg.connect(url, timeout=10)
            try:
                async with connection.transaction(isolation="repeatable_read", readonly=True):
                    return await _read(connection)
            finally:
                connection.terminate()
    except (asyncpg.UndefinedTableError, asyncpg.UndefinedColumnError) as error:
        raise TrestleError(_NOT_ITS) from error
    except asyncpg.InsufficientPrivilegeError as error:
        raise TrestleError(
            f"its database does not let us read: {first_line(error)}; use the role of its own"
        ) from error
    except asyncpg.PostgresError as error:
        raise TrestleError(f"its database refuses us: {first_line(error)}") from error
    except ValueError as error:  # Its text may quote the password.
        raise TrestleError(
            "that is no address of a database: give postgresql://user:password@host/name"
        ) from error
    except (*AWAY, TimeoutError) as error:
        raise TrestleError(
            "its database cannot be reached; is it running, and the address right?"
        ) from error


async def _read(connection: "asyncpg.Connection[Any]") -> Rows:
    version = await connection.fetchval("SELECT max(version) FROM schema")
    if version is None:
        raise TrestleError(_NOT_ITS)
    if version > NEWEST:
        raise TrestleError(
            f"its database has the schema {version}, and {NEWEST} is the newest that this Trestle "
            "can read; a newer Trestle may"
        )
    rooms = await connection.fetch(
        "SELECT room_id, origin, type, irc_domain, irc_channel FROM rooms "
        "ORDER BY irc_domain, lower(irc_channel), origin IN ('alias', 'join'), room_id"
    )
    configs = await connection.fetch(
        "SELECT user_id, domain, config, password FROM client_config "
        "WHERE user_id IS NOT NULL ORDER BY domain, user_id"
    )
    private = await connection.fetch(
        "SELECT matrix_user_id, irc_nick, irc_domain FROM pm_rooms ORDER BY 1, 3, 2"
    )
    chats = await _if_there(
        connection, "admin_rooms",
        "SELECT user_id, room_id FROM admin_rooms WHERE user_id IS NOT NULL ORDER BY 1, 2",
    )  # fmt: skip
    gone = await _if_there(
        connection, "deactivated_users", "SELECT user_id FROM deactivated_users"
    )
    features = await _if_there(
        connection, "user_features", "SELECT user_id, features FROM user_features ORDER BY 1"
    )
    listed = await _if_there(
        connection, "room_visibility",
        "SELECT 1 FROM room_visibility JOIN rooms USING (room_id) WHERE visibility = 'public' "
        "GROUP BY room_id",
    )  # fmt: skip
    unread: list[str] = []
    return Rows(
        rooms=[
            RoomRow(
                room=row["room_id"], origin=row["origin"], domain=row["irc_domain"],
                channel=row["irc_channel"], is_channel=row["type"] == "channel",
            )
            for row in rooms
        ],
        configs=[
            ConfigRow(
                user=row["user_id"], domain=row["domain"],
                config=_object(row["config"], f"{row['user_id']} on {row['domain']}", unread),
                password=row["password"] or "",
            )
            for row in configs
        ],
        private_chats=[(row[0] or "", row[1], row[2]) for row in private],
        bot_chats=[(row["user_id"], row["room_id"]) for row in chats],
        deactivated=frozenset(row["user_id"] for row in gone),
        features=[
            (row["user_id"], _object(row["features"], row["user_id"], unread)) for row in features
        ],
        listed=len(listed), unread=unread,
    )  # fmt: skip


async def _if_there(connection: "asyncpg.Connection[Any]", table: str, query: str) -> list[Any]:
    """Rows of a table that older schemas do not have."""
    if not await connection.fetchval("SELECT to_regclass($1) IS NOT NULL", table):
        return []
    return list(await connection.fetch(query))


def _object(text: str | None, whose: str, unread: list[str]) -> dict[str, Any]:
    try:
        found = orjson.loads(text) if text else None
    except orjson.JSONDecodeError:
        unread.append(whose)
        found = None
    return found if isinstance(found, dict) else {}
