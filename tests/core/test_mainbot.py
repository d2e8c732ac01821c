"""What a command comes to where something else happens meanwhile."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio

from bridge.core.permissions.optouts import EVERYWHERE
from bridge.sdk.ids import InstanceId
from bridge.settings.records import DatabaseSettings
from tests.conformance.stage import ROOM, play
from tests.core.loginchats import ALICE, Chat
from tests.rigs.scripted_homeserver import Answer, Asked, refuse
from tests.rigs.trestle import wait_until

NEAR = InstanceId("near")
IRC = {"servers": [{"host": "127.0.0.1", "port": 9}]}


@pytest_asyncio.fixture
async def chat(database_settings: DatabaseSettings, folder: Path) -> AsyncIterator[Chat]:
    async with play(database_settings, folder, modules={"near": ("irc", IRC)}) as stage:
        await wait_until(lambda: stage.app.parts.instances[NEAR].is_open)
        yield await Chat(stage).open()


async def test_a_homeserver_that_does_not_know_us_just_now_is_told_of_in_words(
    chat: Chat,
) -> None:
    def forget_us(one: Asked) -> Answer | None:
        is_question = one.method == "GET" and ROOM in one.parts
        return refuse(401, "M_UNKNOWN_TOKEN") if is_question else None

    chat.stage.homeserver.rules.insert(0, forget_us)
    await chat.stage.app.parts.main_bot.obey(chat.call("$pause", ROOM, "pause"), "pause")
    chat.stage.homeserver.rules.remove(forget_us)
    await chat.expect("Not now: the homeserver does not answer as it should.", room=ROOM)


async def test_a_network_that_is_switched_on_meanwhile_keeps_nobody_from_opting_out(
    chat: Chat,
) -> None:
    parts, text = chat.stage.app.parts, "optout everywhere"
    near = parts.instances[NEAR]
    # Somebody's connection is being made.
    async with asyncio.TaskGroup() as group, near._making:
        group.create_task(parts.main_bot.obey(chat.call("$out", text=text), text))
        await wait_until(lambda: parts.optouts.cover(ALICE, EVERYWHERE))
        parts.instances[InstanceId("far")] = near
    del parts.instances[InstanceId("far")]
    await chat.expect("Nothing that you say is bridged anywhere any more.")
