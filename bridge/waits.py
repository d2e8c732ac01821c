"""Waiting for something, but not for ever."""

import asyncio


async def is_set_within(seconds: float | None, event: asyncio.Event) -> bool:
    """Wait until the event is set, so many seconds at most; None: for as long as it takes.

    Return whether it was.
    """
    try:
        async with asyncio.timeout(seconds):
            return await event.wait()
    except TimeoutError:
        return event.is_set()
