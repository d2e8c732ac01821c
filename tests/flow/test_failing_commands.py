"""Whoever says a command that fails or takes too long is answered in words, and it runs once."""

import asyncio
from pathlib import Path

from bridge import sdk
from bridge.app import App
from bridge.demo.matrix_user import MatrixUser
from bridge.sdk.commands import NetworkCall, NetworkCommand, Where
from bridge.sdk.ids import InstanceId
from bridge.settings import DatabaseSettings
from tests.rigs import vivid_bridge
from tests.rigs.trestle import Town, make_modules, make_settings, running

BOT = "@trestle:test.example"


class Slow:
    """A network's command that gets no answer, and one that fails as nobody foresaw."""

    def __init__(self) -> None:
        self.begun = 0

    async def wait(self, call: NetworkCall) -> str:
        """Wait for what does not come."""
        self.begun += 1
        await asyncio.Event().wait()
        return "never"

    async def fail(self, call: NetworkCall) -> str:
        """Fail."""
        self.begun += 1
        raise RuntimeError("nobody foresaw this")

    def install(self, app: App) -> None:
        """Have the network take both."""
        connector = app.parts.instances[InstanceId("near")].connector
        vars(connector)["commands"] = tuple(
            NetworkCommand(name=run.__name__, usage=run.__name__, help="do not do it",
                           where=Where.PERSON, run=run)
            for run in (self.wait, self.fail)
        )  # fmt: skip
        assert isinstance(connector, sdk.TakesCommands)


async def direct_chat(person: MatrixUser) -> str:
    """Open a direct chat with the main bot."""
    chat = await person.create_room(
        preset="trusted_private_chat", is_direct=True, invite=[BOT]
    )  # fmt: skip
    await person.wait_until_joined(chat, BOT)
    await person.say(chat, "ping")
    await person.wait_for_text(chat, "I am here")
    return chat


async def test_a_network_that_does_not_answer_is_told_of_in_words_and_asked_once(
    town: Town, folder: Path, database_settings: DatabaseSettings
) -> None:
    limits, slow = make_settings(folder, item_deadline=6.0).limits, Slow()
    modules = make_modules({"near": ("vivid", {})})
    settings = town.settings_for(folder, database_settings, modules=modules, limits=limits)
    with vivid_bridge.installed():
        async with running(settings) as app:
            slow.install(app)
            alice = await town.person("alice")
            chat = await direct_chat(alice)
            await alice.say(chat, "near wait")
            await alice.wait_for_text(chat, "near did not answer in time")
    assert slow.begun == 1


async def test_whoever_says_a_command_in_a_direct_chat_hears_that_it_was_put_aside(
    town: Town, folder: Path, database_settings: DatabaseSettings
) -> None:
    limits, slow = make_settings(folder, tries=1).limits, Slow()
    modules = make_modules({"near": ("vivid", {})})
    settings = town.settings_for(folder, database_settings, modules=modules, limits=limits)
    with vivid_bridge.installed():
        async with running(settings) as app:
            slow.install(app)
            alice = await town.person("alice")
            chat = await direct_chat(alice)
            await alice.say(chat, "near fail")
            await alice.wait_for_text(chat, "I could not do that")
    assert slow.begun == 1
