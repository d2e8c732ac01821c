"""A loop whose time a test sets, for what takes long or must not depend on the machine's speed."""

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


def run_stepped(main: Callable[[SteppedLoop], Awaitable[None]]) -> None:
    """Run a test on such a loop."""
    loop = SteppedLoop()

    async def run() -> None:
        await main(loop)

    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        runner.run(run())
