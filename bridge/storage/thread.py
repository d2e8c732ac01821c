"""Work on files in a thread, which nothing cuts in two."""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


async def to_its_end(work: Callable[P, T], *args: P.args, **options: P.kwargs) -> T:
    """Do it in a thread. A caller that is cancelled meanwhile ends once it is done, not before.

    A thread cannot be cancelled. One that still makes folders while its caller already clears
    them away would leave some behind.
    """
    loop = asyncio.get_running_loop()
    doing = loop.run_in_executor(None, partial(work, *args, **options))
    try:
        return await asyncio.shield(doing)
    except asyncio.CancelledError:
        await asyncio.wait([doing])
        raise
