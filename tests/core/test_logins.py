"""What ends early ends well."""

import asyncio
import gc
from typing import cast

from bridge.core.logins.loginmeans import Means
from bridge.core.logins.logins import Logins
from bridge.core.rooms.typingnotices import TypingNotices
from bridge.sdk.ids import RoomId, UserId

ANN, ROOM = UserId("@ann:test.example"), RoomId("!room:test.example")


async def test_what_is_begun_as_we_stop_leaves_nothing_that_was_never_awaited() -> None:
    begun: list[str] = []

    async def work() -> None:
        begun.append("work")

    async def set_typing(room: RoomId, user: UserId, seconds: float) -> None:
        begun.append(user)

    logins, notices = Logins({}, cast(Means, None)), TypingNotices(set_typing)
    notices.on_typing = lambda room, user, is_typing: [work]
    async with asyncio.TaskGroup() as tasks:
        running = [tasks.create_task(one.run()) for one in (logins, notices)]
        await asyncio.sleep(0)
        for one in running:
            one.cancel()
        logins.do(work)
        notices.hear(ROOM, [ANN])
        notices.show(ROOM, ANN, 5.0)
    logins.do(work)
    notices.show(ROOM, ANN, 0.0)
    gc.collect()  # A coroutine that was never awaited is told of now, which fails the test.
    assert begun == []
