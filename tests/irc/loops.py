"""Loops whose time a test sets, for what takes long or must not depend on the machine's speed."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, cast


class SteppedLoop(asyncio.SelectorEventLoop):
    """A loop whose time is the test's, so that a slow machine changes nothing."""

    now = 0.0

    def time(self) -> float:
        return self.now

    @property
    def has_timers(self) -> bool:
        """Whether anybody is to be woken at some time."""
        scheduled = cast(Any, self)._scheduled
        return any(not one.cancelled() for one in scheduled)

    async def turn(self) -> None:
        """Have done whatever can be done now."""
        for _ in range(10):
            await asyncio.sleep(0)


class SkippingLoop(asyncio.SelectorEventLoop):
    """A loop whose time goes on by itself, and which a test may set forward: for what has sockets
    and a wait in it."""

    skipped = 0.0

    def time(self) -> float:
        return super().time() + self.skipped


def run_stepped(main: Callable[[SteppedLoop], Awaitable[None]]) -> None:
    """Run a test on a loop whose time is the test's."""
    loop = SteppedLoop()
    _run(main(loop), loop)


def run_skipping(main: Callable[[SkippingLoop], Awaitable[None]]) -> None:
    """Run a test on a loop whose time it may set forward."""
    loop = SkippingLoop()
    _run(main(loop), loop)


def _run(test: Awaitable[None], loop: asyncio.AbstractEventLoop) -> None:
    async def run() -> None:
        await test

    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        runner.run(run())
