"""A database that takes nothing into the outbox for a while."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg

from bridge.demo.matrix_user import PATIENCE
from bridge.settings.records import DatabaseSettings

_REFUSE = """
CREATE SEQUENCE refusals;
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    PERFORM nextval('refusals');
    RAISE EXCEPTION 'starting up' USING ERRCODE = 'cannot_connect_now';
END $$;
CREATE TRIGGER refuse BEFORE INSERT ON outbox FOR EACH STATEMENT EXECUTE FUNCTION refuse();
"""
"""Has the database answer as one does that is starting, and count how often."""


@asynccontextmanager
async def refusing(database: DatabaseSettings) -> AsyncIterator[None]:
    """Nothing is taken in the block, nor after it until something has been refused."""
    connection = await asyncpg.connect(database.url)
    try:
        await connection.execute(_REFUSE)
        yield
        async with asyncio.timeout(PATIENCE):
            while not await connection.fetchval("SELECT is_called FROM refusals"):
                await asyncio.sleep(0.01)
        await connection.execute("DROP TRIGGER refuse ON outbox")
    finally:
        await connection.close()
