"""Each person may do something so many times in so long; what is remembered does not grow."""

import asyncio

from bridge.core.permissions.frequency import Frequency
from bridge.demo.matrix_user import PATIENCE
from bridge.sdk.ids import UserId

ANN, BOB = UserId("@ann:test.example"), UserId("@bob:test.example")


async def test_each_may_so_many_times_and_no_more_until_the_first_is_so_long_ago() -> None:
    frequency, loop = Frequency(3, 0.2), asyncio.get_running_loop()
    began = loop.time()
    first = [frequency.count(ANN) for _ in range(5)]
    assert first == [True, True, True, False, False] or loop.time() - began > 0.2
    assert frequency.count(BOB)
    async with asyncio.timeout(PATIENCE):
        while not frequency.count(ANN):
            await asyncio.sleep(0.01)
    assert loop.time() - began >= 0.2


async def test_it_counts_from_the_first_of_so_many_and_not_from_the_last() -> None:
    frequency, loop = Frequency(3, 1.0), asyncio.get_running_loop()
    assert frequency.count(ANN)
    await asyncio.sleep(0.9)
    last = loop.time()
    assert frequency.count(ANN)
    assert frequency.count(ANN)
    async with asyncio.timeout(PATIENCE):
        while not frequency.count(ANN):
            await asyncio.sleep(0.01)
    assert loop.time() - last < 1.0


async def test_what_was_too_often_is_not_counted_and_puts_nothing_off() -> None:
    frequency = Frequency(1, 0.2)
    began = asyncio.get_running_loop().time()
    assert frequency.count(ANN)
    async with asyncio.timeout(PATIENCE):
        while not frequency.count(ANN):
            await asyncio.sleep(0.01)
    assert asyncio.get_running_loop().time() - began < 10


async def test_it_is_known_of_ten_thousand_people_at_most() -> None:
    frequency = Frequency(1, 3600)
    for number in range(10_050):
        assert frequency.count(UserId(f"@{number}:test.example"))
    assert len(frequency) == 10_000
    # Of those who did it longest ago nothing is known any more; of the others it is.
    assert frequency.count(UserId("@49:test.example"))
    assert not frequency.count(UserId("@10049:test.example"))
