"""A connection as the owner of the tables, for what no part of the program does to them."""

from bridge.storage.pool import Database
from bridge.storage.schema import OWNER, Connection


async def owner_of(database: Database) -> Connection:
    """Open one, whose commands may take any time."""
    return await database._access.connect(OWNER)
