"""What others wait for: each that waits is woken, and leaves nothing behind."""

import asyncio

from bridge.networks.irc.connections.flag import Flag


async def test_all_who_wait_are_woken_though_it_is_cleared_at_once() -> None:
    flag = Flag()
    async with asyncio.timeout(10), asyncio.TaskGroup() as tasks:
        waiting = [tasks.create_task(flag.wait()) for _ in range(3)]
        await asyncio.sleep(0)
        flag.set()
        flag.clear()
        late = tasks.create_task(flag.wait())
        await asyncio.wait(waiting)
        assert not late.done()
        flag.set()
    assert flag.is_set()
    await flag.wait()


async def test_who_is_cancelled_waits_no_more_and_the_others_do() -> None:
    flag = Flag()
    async with asyncio.timeout(10), asyncio.TaskGroup() as tasks:
        cancelled, other = (tasks.create_task(flag.wait()) for _ in range(2))
        await asyncio.sleep(0)
        cancelled.cancel()
        await asyncio.sleep(0)
        assert cancelled.cancelled()
        assert not other.done()
        flag.set()
