"""What was deleted is known for longer than any link to it can work."""

from datetime import timedelta

import pytest

from bridge.storage.deletions import DeletionStore
from bridge.storage.pool import Database


@pytest.mark.parametrize(("link_days", "known_days"), [(30, 393), (1000, 1028)])
async def test_a_deletion_is_known_until_no_link_works(
    database: Database, link_days: int, known_days: int
) -> None:
    store = DeletionStore(database, link_days=link_days)
    for mark in ("gone", "gone"):
        await store.add(mark)
    assert await store.has("gone")
    assert not await store.has("there")
    (row,) = await database.core.fetch("SELECT mark, until FROM deleted_message")
    life = row["until"] - database.clock.now()
    assert timedelta(days=known_days) - life < timedelta(minutes=1)
