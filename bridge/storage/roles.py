"""The three roles: how each connects, in our own server and in one that is named by its URL."""

import json
import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import asyncpg

from bridge.sdk.errors import ConfigError
from bridge.settings.records import DatabaseSettings
from bridge.storage.files import make_folder, write_private
from bridge.storage.postgres import EmbeddedPostgres
from bridge.storage.schema import APPLICATION, CORE, OWNER, SUBJECT, Connection, roles_sql

Pool: TypeAlias = "asyncpg.Pool[asyncpg.Record]"

_CONNECT_LIMIT = 5.0
_STATEMENT_LIMIT = 30.0


@dataclass(frozen=True, slots=True)
class Access:
    """How to connect as each role."""

    parameters: Mapping[str, Mapping[str, Any]]
    """By role, what asyncpg needs to connect."""

    by_url: bool
    """The URL's role connects and then becomes the one that is wanted."""

    name: str = APPLICATION
    """What the sessions call themselves."""

    async def log_in(self, role: str, limit: float | None = None) -> Connection:
        """Open a connection, and stay who the URL says."""
        return await asyncpg.connect(
            **self.parameters[role], server_settings=self._session, timeout=_CONNECT_LIMIT,
            command_timeout=limit,
        )  # fmt: skip

    async def connect(self, role: str, limit: float | None = None) -> Connection:
        """Open a connection as the role; ``limit``: seconds for each of its statements."""
        connection = await self.log_in(role, limit)
        try:
            await self.become(role)(connection)
        except BaseException:
            connection.terminate()
            raise
        return connection

    async def pool(self, role: str, size: int) -> Pool:
        """Open a pool of connections as the role.

        A connection that the core gives back is taken as it is: the core changes nothing that
        outlives a database transaction, and the question that undoes such changes would double
        the price of most others. One of a person's is put back into its first state all the same.
        """
        become = self.become(role)

        async def init(connection: Any) -> None:
            await become(connection)

        parameters: dict[str, Any] = {**self.parameters[role], "timeout": _CONNECT_LIMIT}
        return await asyncpg.create_pool(
            min_size=0,
            max_size=size,
            max_inactive_connection_lifetime=0,
            command_timeout=_STATEMENT_LIMIT,
            init=init,
            reset=_leave_as_it_is if role == CORE else None,
            server_settings=self._session,
            **parameters,
        )

    def become(self, role: str) -> Callable[[Connection], Awaitable[None]]:
        """What makes a new connection the role's.

        Not a parameter of the connection: poolers of sessions know only some of those.
        """

        async def set_role(connection: Connection) -> None:
            if self.by_url:
                await connection.execute(f"SET ROLE {role}")

        return set_role

    @property
    def _session(self) -> dict[str, str]:
        return {"application_name": self.name}


async def _leave_as_it_is(connection: Any) -> None:
    """A transaction that was left open is ended by asyncpg itself."""


async def embedded_access(server: EmbeddedPostgres, state_dir: Path) -> Access:
    """Have the roles and the database in our own server."""
    path = state_dir / "keys" / "database"
    make_folder(path.parent)
    if not path.exists():
        names = (OWNER, CORE, SUBJECT)
        write_private(path, json.dumps({n: secrets.token_urlsafe(32) for n in names}).encode())
    access = access_to(server.socket_dir, state_dir)
    connection = await asyncpg.connect(
        user="postgres", password=server.password, host=str(server.socket_dir), database="postgres"
    )
    try:
        await connection.execute(roles_sql(with_schema=False))
        for role, parameters in access.parameters.items():
            # The password is ours and of an alphabet without quotes.
            await connection.execute(
                f"ALTER ROLE {role} LOGIN PASSWORD '{parameters['password']}'"
            )
        if not await connection.fetchval("SELECT 1 FROM pg_database WHERE datname = 'trestle'"):
            await connection.execute(f"CREATE DATABASE trestle OWNER {OWNER}")
    finally:
        await connection.close()
    return access


def access_to(sockets: Path, state_dir: Path) -> Access:
    """The roles of our own server, whose socket is in that folder.

    Raises ``ConfigError`` if the file of their passwords cannot be read.
    """
    path = state_dir / "keys" / "database"
    try:
        passwords = json.loads(path.read_bytes())
        return Access(
            {
                role: {
                    "user": role, "password": passwords[role], "host": str(sockets),
                    "database": "trestle",
                }
                for role in (OWNER, CORE, SUBJECT)
            },
            by_url=False,
        )  # fmt: skip
    except (OSError, ValueError, TypeError, KeyError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is damaged"
        raise ConfigError(
            f"{path} cannot be read: {reason}; it holds the passwords of the embedded database, "
            "and a start of Trestle makes it anew if it is removed"
        ) from error


def access_by_url(settings: DatabaseSettings, name: str = APPLICATION) -> Access:
    """The URL's role acts as the core and the subjects; ``owner_url``'s owns the tables."""
    daily: Mapping[str, Any] = {"dsn": settings.url}
    return Access(
        {OWNER: {"dsn": settings.owner_url or settings.url}, CORE: daily, SUBJECT: daily},
        by_url=True,
        name=name,
    )


async def be_missed(connection: Connection, limit: int) -> None:
    """Have the server end the session so many seconds after our machine died, not hours.

    It is also how long the server waits for us to take what it has sent.
    """
    await connection.execute(
        "SET tcp_keepalives_idle = 5; SET tcp_keepalives_interval = 2; "
        f"SET tcp_keepalives_count = 3; SET tcp_user_timeout = {limit * 1000}"
    )


async def have_roles(access: Access) -> None:
    """Have the three roles on a server by URL, if its role may make them.

    Raises ``asyncpg.InsufficientPrivilegeError`` if they are missing and it may not.
    """
    daily = await access.log_in(CORE)
    try:
        login = await daily.fetchval("SELECT current_user")
        if await _is_member(daily, CORE, SUBJECT):
            login = None
    finally:
        await daily.close()
    owner = await access.log_in(OWNER)
    try:
        if login is None and await _is_member(owner, OWNER) and await _may_create(owner):
            return
        owner_login = await owner.fetchval("SELECT current_user")
        await owner.execute(roles_sql(login=login, owner_login=owner_login))
    finally:
        await owner.close()


async def _is_member(connection: Connection, *roles: str) -> bool:
    found = await connection.fetchval(
        "SELECT count(*) FROM pg_roles WHERE rolname = ANY($1) "
        "AND pg_has_role(current_user, oid, 'MEMBER')",
        roles,
    )
    return bool(found == len(roles))


async def _may_create(connection: Connection) -> bool:
    return bool(
        await connection.fetchval("SELECT has_schema_privilege($1, 'public', 'CREATE')", OWNER)
    )


async def refuse_unbound(connection: Connection) -> None:
    """Row-level security must hold for whoever works with the rows.

    Raises ``ConfigError`` if it does not.
    """
    role = await connection.fetchval(
        "SELECT rolname FROM pg_roles WHERE rolname = current_user AND (rolsuper OR rolbypassrls)"
    )
    if role is not None:
        raise ConfigError(
            f"the database role {role} may pass by row-level security; as an admin run: "
            f"ALTER ROLE {role} NOSUPERUSER NOBYPASSRLS",
            path="database.url",
        )
