"""What nothing cuts in two: work on files in a thread, and whatever else must be waited out."""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


async def to_its_end(work: Callable[P, T], *args: P.args, **options: P.kwargs) -> T:
    """Do it in a thread. A caller that is cancelled meanwhile ends once it is done, not before.

    A thread cannot be cancelled. One that still makes folders while its caller already clears
    them away would leave some behind.
    """
    loop = asyncio.get_running_loop()
    doing = loop.run_in_executor(None, partial(work, *args, **options))
    await outlast(doing)
    return doing.result()


async def outlast(doing: "asyncio.Future[Any]") -> None:
    """Wait until it is done, however that ends.

    However often the caller is cancelled meanwhile, it ends after that; then the failure of what
    was done, if any, is nobody's any more.
    """
    cut_off: asyncio.CancelledError | None = None
    while not doing.done():
        try:
            await asyncio.wait([doing])
        except asyncio.CancelledError as error:
            cut_off = error
    if cut_off is not None:
        if not doing.cancelled():
            doing.exception()
        raise cut_off
