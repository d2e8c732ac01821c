"""Reaching a database beside, or instead of, the Trestle that works with it."""

import contextlib
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg

from bridge.model import Clock
from bridge.sdk.errors import ConfigError, NotNow
from bridge.settings.records import DatabaseSettings
from bridge.storage.carry import Connect
from bridge.storage.door import AWAY, first_line
from bridge.storage.pool import (
    AtWork,
    Database,
    only_one,
    refuse_another_owner,
    refuse_none,
    told_as_settings,
)
from bridge.storage.postgres import EmbeddedPostgres, socket_folder
from bridge.storage.roles import Access, access_by_url, be_missed
from bridge.storage.schema import BACKUP, Connection
from bridge.storage.switch import refuse_undecided, settle

_CONNECT_LIMIT = 5.0
_MISSED = 60
"""Seconds. What is read may wait as long for the disk that it is written to."""


def by_access(access: Access) -> Connect:
    """Connect as the URL's role: as it is if it sees all, else as the role that is asked for."""

    async def connect(role: str) -> Connection:
        connection = await access.log_in(role)
        try:
            if not await connection.fetchval(
                "SELECT rolsuper FROM pg_roles WHERE rolname = current_user"
            ):
                await access.become(role)(connection)
            if access.name == BACKUP:
                await be_missed(connection, _MISSED)
        except BaseException:
            connection.terminate()
            raise
        return connection

    return connect


def connect_to(folder: Path, password: str) -> Connect:
    """Connect to an embedded server as its superuser, whatever role is asked for."""

    async def connect(_: str) -> Connection:
        return await asyncpg.connect(
            user="postgres", password=password, host=str(folder), database="trestle",
            timeout=_CONNECT_LIMIT,
        )  # fmt: skip

    return connect


@asynccontextmanager
async def readable(settings: DatabaseSettings, state_dir: Path) -> AsyncIterator[Connect]:
    """Have the database to read from, whether Trestle runs or not, or starts meanwhile.

    Raises ``TrestleError`` with the way out if it cannot be reached.
    """
    async with contextlib.AsyncExitStack() as stack:
        with told_as_settings(settings):
            if settings.url != "embedded":
                refuse_undecided(state_dir)
                yield by_access(access_by_url(settings, BACKUP))
                return
            _refuse_fresh(state_dir)
            try:
                stack.enter_context(only_one(state_dir))
            except AtWork:
                connect = await _running(state_dir)
            else:
                refuse_another_owner(state_dir)
                settle(state_dir)
                refuse_undecided(state_dir)
                server = refuse_nothing(state_dir)
                connect = await stack.enter_async_context(started(server))
            yield connect


@contextlib.contextmanager
def alone_in(state_dir: Path) -> Iterator[None]:
    """Have the state directory for ourselves, with all that was decided there done.

    Raises ``ConfigError`` if Trestle runs, or if what we make would be another user's.
    """
    refuse_another_owner(state_dir)
    with only_one(state_dir):
        settle(state_dir)
        yield


@asynccontextmanager
async def opened(
    settings: DatabaseSettings, state_dir: Path, clock: Clock
) -> AsyncIterator[Database]:
    """Have the database for a command, as it is: nothing is made, nothing is migrated.

    Raises ``ConfigError`` if Trestle runs, if there is no database yet or one of another
    version, or if what is written would be another user's.
    """
    refuse_another_owner(state_dir)
    if settings.url == "embedded":
        _refuse_fresh(state_dir)
    elif not state_dir.exists():
        raise ConfigError(
            f"there is no {state_dir}; the first start of Trestle makes it", path="state_dir"
        )
    async with Database.open(settings, state_dir, clock, as_it_is=True) as database:
        yield database


def _refuse_fresh(state_dir: Path) -> None:
    """Raise ``ConfigError`` if nothing was here yet; the look leaves nothing behind."""
    if not (state_dir / "lock").exists():
        refuse_another_owner(state_dir)
        refuse_none(state_dir)


@asynccontextmanager
async def started(server: EmbeddedPostgres) -> AsyncIterator[Connect]:
    """Have an embedded server run until the block ends. The caller has the folder's lock."""
    try:
        await server.start()
        yield connect_to(server.socket_dir, server.password)
    finally:
        await server.stop()


def refuse_nothing(state_dir: Path) -> EmbeddedPostgres:
    """The state directory's server. Raises ``ConfigError`` if it has none yet."""
    refuse_none(state_dir)
    return EmbeddedPostgres(state_dir)


async def _running(state_dir: Path) -> Connect:
    """Connect to the server of the Trestle that runs."""
    try:
        connect = connect_to(socket_folder(state_dir), EmbeddedPostgres(state_dir).password)
        await (await connect("")).close()
    except (*AWAY, ConfigError, TimeoutError, asyncpg.PostgresError) as error:
        # One that is just made has no password yet.
        raise NotNow(
            "the Trestle that works there is just starting or stopping, or its database stands "
            f"still ({first_line(error)}); try again",
            path="state_dir",
        ) from error
    return connect
