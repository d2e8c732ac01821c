"""Slots: so many at once, in order, and none lost to those who were cancelled."""

import asyncio

import pytest

from bridge.slots import Slots
from tests.rigs.trestle import wait_until


async def test_whoever_waits_longest_is_next() -> None:
    slots, order = Slots(1), list[int]()

    async def pass_through(number: int) -> None:
        async with slots:
            order.append(number)

    await slots.take()
    async with asyncio.TaskGroup() as tasks:
        for number in range(3):
            tasks.create_task(pass_through(number))
        await wait_until(lambda: len(slots._waiting) == 3)
        assert not slots.is_any_free
        slots.give()
    assert order == [0, 1, 2]
    assert slots.is_any_free


@pytest.mark.parametrize("is_given", [False, True])
async def test_a_slot_is_not_lost_to_somebody_who_is_cancelled_while_waiting(
    is_given: bool,
) -> None:
    slots = Slots(1)
    await slots.take()
    async with asyncio.TaskGroup() as tasks:
        first, second = (tasks.create_task(slots.take()) for _ in range(2))
        await wait_until(lambda: len(slots._waiting) == 2)
        if is_given:  # It has the slot, and is cancelled before it goes on.
            slots.give()
            first.cancel()
        else:
            first.cancel()
            await asyncio.wait([first])
            slots.give()
        await asyncio.wait([first, second])
        assert first.cancelled()
        assert not second.cancelled()
    assert not slots.is_any_free
    slots.give()
    assert slots.is_any_free


async def test_whoever_comes_while_others_wait_goes_behind_them() -> None:
    slots = Slots(1)
    await slots.take()
    async with asyncio.TaskGroup() as tasks:
        waiting = tasks.create_task(slots.take())
        await wait_until(lambda: len(slots._waiting) == 1)
        slots.give()
        assert not slots.is_any_free  # It is the other's, though that has not gone on yet.
        await waiting
