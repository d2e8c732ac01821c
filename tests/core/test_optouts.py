"""Who does not want to be bridged is remembered, whatever others say at the same moment."""

import asyncio
from typing import cast

from bridge.core.audit import Audit
from bridge.core.optouts import EVERYWHERE, OptOuts
from bridge.sdk.ids import UserId

ALICE, BEA = UserId("@alice:test.example"), UserId("@bea:test.example")


class Kept:
    """Rows, and an audit, that take a moment."""

    def __init__(self) -> None:
        self.rows: set[tuple[UserId, int]] = {(ALICE, 1), (ALICE, 2)}

    async def all(self) -> set[tuple[UserId, int]]:
        return set(self.rows)

    def is_noted(self, subject: UserId, portal: int) -> bool:
        return False

    def may_take_back(self, subject: UserId, portal: int) -> bool:
        return False

    async def record(self, **act: object) -> int:
        await asyncio.sleep(0)
        return 1

    async def add(self, subject: UserId, portal: int) -> None:
        await asyncio.sleep(0)
        self.rows.add((subject, portal))

    async def remove(self, subject: UserId, portal: int) -> None:
        await asyncio.sleep(0)
        gone = {row for row in self.rows if row[0] == subject and portal in (row[1], EVERYWHERE)}
        await asyncio.sleep(0)
        self.rows -= gone


async def test_an_opt_in_takes_back_no_opt_out_of_the_same_moment() -> None:
    kept = Kept()
    optouts = OptOuts(kept, cast(Audit, kept))
    await optouts.load()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(optouts.remove(ALICE, EVERYWHERE))
        tasks.create_task(optouts.add(BEA, 1))
        tasks.create_task(optouts.add(ALICE, 2))
    assert kept.rows == {(BEA, 1), (ALICE, 2)}
    assert [optouts.cover(one, 1) for one in (ALICE, BEA)] == [False, True]
    assert optouts.cover(ALICE, 2)
