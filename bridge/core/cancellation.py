"""Whether a cancellation is meant for us."""

import asyncio


def is_meant_for_us() -> bool:
    """Whether somebody cancelled the task that runs; ask where a module's call was cancelled.

    A module may wait for what it cancelled itself: that ends its call, and is a crash of it.
    """
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0
