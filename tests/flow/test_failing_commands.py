"""Whoever says a command that fails or takes too long is answered in words, and it runs once."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from bridge import sdk
from bridge.app import App
from bridge.demo.matrix_user import PATIENCE, MatrixUser
from bridge.sdk.commands import NetworkCall, NetworkCommand, Where
from bridge.sdk.errors import DeliveryUncertain
from bridge.sdk.ids import InstanceId
from bridge.settings.records import Settings
from tests.flow.chats import direct_chat
from tests.flow.networks import Modules
from tests.flow.refusing import refusing
from tests.rigs.trestle import running
from tests.rigs.vivid_bridge import Vivid


class Slow:
    """A network's command that gets no answer, and one that fails as nobody foresaw."""

    def __init__(self) -> None:
        self.begun = 0
        self.is_begun, self.goes_on = asyncio.Event(), asyncio.Event()

    async def wait(self, call: NetworkCall) -> str:
        """Wait for what does not come."""
        self.begun += 1
        await asyncio.Event().wait()
        return "never"

    async def fail(self, call: NetworkCall) -> str:
        """Fail."""
        self.begun += 1
        raise RuntimeError("nobody foresaw this")

    async def doubt(self, call: NetworkCall) -> str:
        """Write something, and not hear what came of it."""
        self.begun += 1
        self.is_begun.set()
        await self.goes_on.wait()
        raise DeliveryUncertain("the connection broke")

    def install(self, app: App) -> None:
        """Have the network take all."""
        connector = app.parts.instances[InstanceId("near")].connector
        vars(connector)["commands"] = tuple(
            NetworkCommand(name=run.__name__, usage=run.__name__, help="do not do it",
                           where=Where.PERSON, run=run)
            for run in (self.wait, self.fail, self.doubt)
        )  # fmt: skip
        assert isinstance(connector, sdk.TakesCommands)


@pytest.fixture
def modules(vivid: Vivid) -> Modules:
    """The network that takes the commands."""
    return {"near": ("vivid", {})}


@asynccontextmanager
async def listening(
    settings: Settings, alice: MatrixUser, **limits: Any
) -> AsyncIterator[tuple[Slow, str]]:
    """Run Trestle with these limits; give the commands, and Alice's chat with the bot."""
    slow = Slow()
    limited = replace(settings, limits=replace(settings.limits, **limits))
    async with running(limited) as app:
        slow.install(app)
        yield slow, await direct_chat(alice)


async def test_a_network_that_does_not_answer_is_told_of_in_words_and_asked_once(
    settings: Settings, alice: MatrixUser
) -> None:
    async with listening(settings, alice, item_deadline=6.0) as (slow, chat):
        await alice.say(chat, "near wait")
        await alice.wait_for_text(chat, "It may have been done: near did not answer in time")
    assert slow.begun == 1


async def test_whoever_says_a_command_in_a_direct_chat_hears_that_it_was_put_aside(
    settings: Settings, alice: MatrixUser
) -> None:
    async with listening(settings, alice, tries=1) as (slow, chat):
        await alice.say(chat, "near fail")
        await alice.wait_for_text(chat, "I could not do that")
    assert slow.begun == 1


async def test_what_may_have_been_done_is_not_done_again_when_that_cannot_be_said_at_once(
    settings: Settings, alice: MatrixUser
) -> None:
    async with listening(settings, alice) as (slow, chat):
        await alice.say(chat, "near doubt")
        async with asyncio.timeout(PATIENCE):
            await slow.is_begun.wait()
        async with refusing(settings.database):
            slow.goes_on.set()
        await alice.wait_for_text(chat, "It may have been done: the connection broke")
    assert slow.begun == 1
