"""What is heard of a chat while it is being bridged comes into the room, in order, all of it."""

import asyncio
from datetime import UTC, datetime

from bridge.core.portals.portals import Portals
from bridge.model import LoginRow
from bridge.sdk.events import MessageKind, RemoteMessage, RemoteUser
from bridge.sdk.ids import LoginId, RemoteMessageId, RemoteUserId
from bridge.sdk.login import LoginKind
from bridge.sdk.rich import Rich
from tests.core.ground import CHAT, NEAR, Ground

ROW = LoginRow(id=LoginId(1), instance=NEAR, kind=LoginKind.RELAY, owner=None)
CARL = RemoteUser(id=RemoteUserId("carl"), name="carl")


def said(text: str) -> RemoteMessage:
    return RemoteMessage(
        chat=CHAT, id=RemoteMessageId(text), sender=CARL, kind=MessageKind.TEXT,
        body=Rich.plain(text), at=datetime(2030, 1, 1, tzinfo=UTC),
    )  # fmt: skip


async def test_what_comes_while_the_early_is_put_comes_after_it_and_a_failure_loses_nothing() -> (
    None
):
    ground = Ground()
    portals = Portals(ground.house)
    async with asyncio.TaskGroup() as group:

        async def speak() -> None:
            group.create_task(portals.receive(NEAR, ROW, said("three")))
            await asyncio.sleep(0)

        async with portals.expecting(NEAR, CHAT):
            await portals.receive(NEAR, ROW, said("one"))
            portals._open(ground.portal)
            await portals.receive(NEAR, ROW, said("two"))
            ground.failing.add("put event")
            ground.meanwhile["put event"] = speak
    assert [one.content["body"] for one in ground.waiting] == ["one", "two", "three"]
    await portals.receive(NEAR, ROW, said("four"))
    assert ground.waiting[-1].content["body"] == "four"
