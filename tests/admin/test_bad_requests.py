"""Bad input in a chat: whoever asked reads a sentence in the room, and the rest goes on."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest_asyncio

from bridge.settings.records import DatabaseSettings
from tests.flow.rooms import BOT, enter
from tests.rigs.inspircd import run_inspircd
from tests.rigs.irc_user import IrcUser, irc_user
from tests.rigs.ircd import OPERATOR, OPERATOR_PASSWORD, IrcServer
from tests.rigs.trestle import Town, make_modules, running


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def irc() -> AsyncIterator[IrcServer]:
    async with run_inspircd() as started:
        yield started


async def boss_of(irc: IrcServer, user: IrcUser, *orders: str) -> None:
    user.say(f"OPER {OPERATOR} {OPERATOR_PASSWORD}", *orders)
    await user.sync()


async def test_what_cannot_be_done_is_said_where_it_was_asked(
    town: Town, irc: IrcServer, folder: Path, database_settings: DatabaseSettings
) -> None:
    server = {"host": "127.0.0.1", "port": irc.port, "tls": False}
    modules: dict[str, tuple[str, dict[str, Any]]] = {
        "near": ("irc", {"servers": [server], "own_network": True}),
        "far": ("irc", {"servers": [server], "nick": "farther"}),
        "dice": ("dice", {}),
    }
    settings = town.settings_for(folder, database_settings, modules=make_modules(modules))
    async with running(settings), irc_user(irc.port, "boss") as boss:
        await boss_of(irc, boss)
        await boss.join("#closed")
        boss.say("MODE #closed +i")
        await boss.sync()
        alice = await town.person("alice")
        room = await enter(alice)

        for said, answer in (
            ("brigde near #talk", "I do not know 'brigde'. Did you mean bridge?"),
            ("dance", "I do not know 'dance'. Say !trestle help for a list."),
            ("bridge", "I could not do that: say bridge, the network and the chat"),
            ("bridge nowhere #talk", "I could not do that: there is no network called 'nowhere'"),
            ("bridge dice #talk", "I could not do that: there is no network called 'dice'"),
            ("bridge near talk", "'talk' is no channel of this network. A channel's name begins"),
            ("bridge near #closed", "#closed cannot be joined: it is for invited people only"),
            ("bridge far #talk", "no operator of #talk is to be seen from outside"),
            ("unbridge", "I could not do that: this room is not bridged"),
        ):
            await alice.say(room, f"!trestle {said}")
            heard = await alice.wait_for_text(room, answer)
            assert heard["sender"] == BOT
        await alice.say(room, "!trestle ping")
        await alice.wait_for_text(room, "I am here.")


async def test_a_nick_that_the_network_refuses_is_told_to_its_owner_and_holds_up_nobody(
    town: Town, irc: IrcServer, folder: Path, database_settings: DatabaseSettings
) -> None:
    server = {"host": "127.0.0.1", "port": irc.port, "tls": False}
    options = {"servers": [server], "own_network": True, "flood_burst": 50, "flood_rate": 50}
    settings = town.settings_for(
        folder, database_settings, modules=make_modules({"near": ("irc", options)})
    )
    async with running(settings), irc_user(irc.port, "watcher") as watcher:
        await boss_of(irc, watcher, "QLINE forbidden* 0 :reserved for nobody")
        await watcher.join("#talk")
        bea, forbidden = await town.person("bea"), await town.person("forbidden")
        room = await enter(bea)
        await forbidden.join(room)
        await bea.say(room, "!trestle bridge near #talk")
        await bea.wait_for_text(room, "This room is bridged to #talk on near.")

        await forbidden.say(room, "may I?")
        await bea.say(room, "good morning")
        await watcher.expect("PRIVMSG #talk", "good morning")
        told = await bea.wait_for_text(room, "Your message did not reach #talk on near")
        assert "refused the nick forbidden" in told["content"]["body"]
        assert "reserved for nobody" in told["content"]["body"]
        relates = told["content"]["m.relates_to"]
        asked = [e for e in bea.heard(room) if e["content"]["body"] == "may I?"]
        assert relates["m.in_reply_to"]["event_id"] == asked[0]["event_id"]
