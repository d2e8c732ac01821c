"""What was read and is not stored: in order for each room, rooms side by side."""

import asyncio

import pytest

from bridge.networks.irc.messages.inbox import Inbox

Said = tuple[str, int]


def room_of(said: Said) -> str:
    return said[0]


async def test_a_room_keeps_its_order_and_one_that_is_stuck_holds_up_no_other() -> None:
    stored: list[Said] = []
    stuck = asyncio.Event()

    async def store(said: Said) -> None:
        if said[0] == "slow":
            await stuck.wait()
        await asyncio.sleep(0)
        stored.append(said)

    inbox = Inbox(store, room_of)
    async with asyncio.TaskGroup() as group:
        group.create_task(inbox.work())
        for number in range(50):
            await inbox.put(("slow", number))
            await inbox.put(("quick", number))
        async with asyncio.timeout(10):
            while len(stored) < 50:
                await asyncio.sleep(0)
        assert stored == [("quick", number) for number in range(50)]
        stuck.set()
        inbox.close()
    assert stored[50:] == [("slow", number) for number in range(50)]


async def test_reading_waits_while_it_is_full() -> None:
    may_store = asyncio.Event()

    async def store(said: Said) -> None:
        await may_store.wait()

    inbox = Inbox(store, room_of, most=3)
    async with asyncio.TaskGroup() as group:
        group.create_task(inbox.work())
        for number in range(3):
            await inbox.put((f"room {number}", number))
        putting = group.create_task(inbox.put(("room 4", 4)))
        await asyncio.sleep(0.01)
        assert not putting.done()
        may_store.set()
        async with asyncio.timeout(10):
            await putting
        inbox.close()


async def test_what_is_put_together_stays_together_though_it_is_full() -> None:
    stored: list[Said] = []
    may_store = asyncio.Event()

    async def store(said: Said) -> None:
        await may_store.wait()
        stored.append(said)

    inbox = Inbox(store, room_of, most=1)
    async with asyncio.TaskGroup() as group:
        group.create_task(inbox.work())
        group.create_task(inbox.put(*(("one", number) for number in range(3))))
        group.create_task(inbox.put(("one", 3)))
        await asyncio.sleep(0)
        may_store.set()
        inbox.close()
    assert stored == [("one", number) for number in range(4)]


async def test_what_a_cancellation_cut_off_is_handed_on_when_the_work_goes_on() -> None:
    stored: list[Said] = []
    begun, may_store = asyncio.Event(), asyncio.Event()

    async def store(said: Said) -> None:
        begun.set()
        await may_store.wait()
        stored.append(said)

    inbox = Inbox(store, room_of)
    wanted = [("one", 0), ("two", 0), ("one", 1)]
    for said in wanted:
        await inbox.put(said)
    async with asyncio.TaskGroup() as group:
        working = group.create_task(inbox.work())
        await begun.wait()
        working.cancel()
    assert not stored
    may_store.set()
    inbox.close()
    async with asyncio.timeout(10):
        await inbox.work()
    assert sorted(stored) == sorted(wanted)
    assert [said for said in stored if said[0] == "one"] == [("one", 0), ("one", 1)]


async def test_what_goes_wrong_is_raised_as_it_is() -> None:
    async def store(said: Said) -> None:
        raise ValueError(said[0])

    inbox = Inbox(store, room_of)
    await inbox.put(("one", 0))
    with pytest.raises(ValueError, match="one"):
        async with asyncio.timeout(10):
            await inbox.work()


async def test_what_comes_at_the_end_finds_room_however_full_it_is() -> None:
    stored: list[Said] = []
    is_back = asyncio.Event()

    async def store(said: Said) -> None:
        await is_back.wait()
        stored.append(said)

    said = [("room", number) for number in range(4)]
    inbox = Inbox(store, room_of, most=1)
    async with asyncio.TaskGroup() as tasks:
        ended = [tasks.create_task(one) for one in (inbox.work(), inbox.put(*said[:3]))]
        await asyncio.sleep(0)
        for one in ended:
            one.cancel()
    inbox.add(said[3])
    inbox.close()
    is_back.set()
    async with asyncio.timeout(120):
        await inbox.work()
    assert stored == said
